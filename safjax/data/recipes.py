"""What a cache holds of each sample: the settings of its frames, as a value that is part of the cache's name."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from safjax.data.datasets.samples import Sample
from safjax.data.encoders import level_crossing
from safjax.data.events import EventFile, Events
from safjax.data.formats.detect import open_events
from safjax.data.formats.gesture import Trial, cut
from safjax.data.formats.hdf5 import SpikeFile
from safjax.data.frames import Frames, by_count, by_duration, by_parts, raster
from safjax.data.grid import Grid
from safjax.data.sound import log_mel, read_wav

SILENCE = 1e-2
"""Power of a sound whose largest sample is 1, below which nothing is heard."""


@dataclasses.dataclass(frozen=True)
class EventFrames:
    """Frames [T, H, W, C] of recordings of events.

    Attributes:
      grid: the places of a frame.
      steps: T.
      duration: of a bin, µs; None with another mode.
      mode: how time is divided, see `by_duration`, `by_count` and `by_parts`.
      start: µs at which the first bin of `by_duration` begins; None for the first event. Of a part of a recording,
        times count from where the part begins.

    Raises:
      ValueError: a duration without the mode, or the mode without it.
    """

    grid: Grid
    steps: int
    duration: float | None = None
    mode: Literal["duration", "count", "parts"] = "duration"
    start: int | None = 0

    def __post_init__(self) -> None:
        if self.mode not in ("duration", "count", "parts") or (self.mode == "duration") != (self.duration is not None):
            raise ValueError(
                f"EventFrames(mode={self.mode!r}, duration={self.duration}): expected a duration with mode 'duration', "
                "and none with 'count' and 'parts'."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, C)."""
        return self.steps, *self.grid.shape

    @property
    def dtype(self) -> np.dtype:
        """That of the counts."""
        return self.grid.dtype

    def __str__(self) -> str:
        """T, the length of a bin and the time covered."""
        if self.duration is None:
            return f"{self.steps} frames by {self.mode}: the time that one covers is another in every sample"
        return f"{self.steps} bins of {self.duration / 1000:g} ms, {self.steps * self.duration / 1e6:g} s in all"

    def __call__(self, path: Path, samples: Sequence[Sample]) -> Iterator[Frames]:
        """The frames of some samples of one file, which is read once."""
        opened = open_events(path, self.grid.sensor)
        if not isinstance(opened, EventFile):
            raise ValueError(f"{path}: spikes of a cochlea, expected events of a camera; use SpikeFrames.")
        parts = [Trial(s.label, s.start, s.end) for s in samples if s.start is not None and s.end is not None]
        if not parts:
            found = opened.read()
            yield from (self._frames(found, self.start) for _ in samples)
        else:
            for trial, found in cut(opened, parts):
                yield self._frames(found, None if self.start is None else self.start + trial.start)

    def _frames(self, found: Events, start: int | None) -> Frames:
        if self.duration is not None:
            return by_duration(found, self.duration, self.grid, self.steps, start)
        return (by_count if self.mode == "count" else by_parts)(found, self.steps, self.grid)


@dataclasses.dataclass(frozen=True)
class SpikeFrames:
    """Counts [T, channels] of samples of SHD and SSC, see `raster`."""

    steps: int
    duration: float
    channels: int = 700
    pool: int = 1
    clip: int | None = 255

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, channels / pool)."""
        return self.steps, -(-self.channels // self.pool)

    @property
    def dtype(self) -> np.dtype:
        """That of the counts."""
        return Grid((self.channels, 1), clip=self.clip).dtype

    def __str__(self) -> str:
        """T, the length of a bin and the time covered."""
        return f"{self.steps} bins of {self.duration / 1000:g} ms, {self.steps * self.duration / 1e6:g} s in all"

    def __call__(self, path: Path, samples: Sequence[Sample]) -> Iterator[Frames]:
        """The counts of consecutive samples of one file."""
        opened = open_events(path)
        if not isinstance(opened, SpikeFile):
            raise ValueError(f"{path}: events of a camera, expected spikes of a cochlea; use EventFrames.")
        first = samples[0].place or 0
        for sample, spikes in zip(samples, opened.samples(first, first + len(samples)), strict=True):
            if sample.place != first:
                raise ValueError(f"{path}: sample {sample.place} after sample {first - 1}, expected consecutive ones.")
            first += 1
            yield raster(spikes, self.duration, self.steps, self.channels, self.pool, self.clip)


@dataclasses.dataclass(frozen=True)
class SoundFrames:
    """Level crossings [T, bands, 2] of the power in mel bands of WAV files, see `log_mel` and `level_crossing`.

    Attributes:
      steps: T; longer sounds lose their end, and silence fills shorter ones up.
      bands: of the mel scale.
      threshold: θ, a change of the logarithm: 1 for a factor of e.
      hop: seconds of a step.
      window: seconds that a step hears.
      low: Hz where the first band begins.
      high: Hz where the last ends.
      clip: largest count of a step.
      at_end: True puts silence before a short sound instead of behind it, for rules that learn from the last step.
    """

    steps: int
    bands: int = 32
    threshold: float = 1.0
    hop: float = 0.010
    window: float = 0.032
    low: float = 80.0
    high: float = 3800.0
    clip: int = 255
    at_end: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, bands, 2), the last axis (OFF, ON)."""
        return self.steps, self.bands, 2

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return np.dtype(np.uint8)

    def __str__(self) -> str:
        """T, the length of a step and the time covered."""
        return f"{self.steps} steps of {1000 * self.hop:g} ms, {self.steps * self.hop:g} s in all"

    def __call__(self, path: Path, samples: Sequence[Sample]) -> Iterator[Frames]:
        """The counts of a file, which is one sample; its first channel."""
        sound = read_wav(path)
        heard = log_mel(
            sound.samples[:, 0], sound.rate, self.bands, self.low, self.high, self.window, self.hop, floor=SILENCE
        )
        sent = level_crossing(heard, self.threshold, start=np.log(SILENCE))
        kept = np.minimum(sent[: self.steps], self.clip).astype(np.uint8)
        silence = self.steps - len(kept)
        padding = ((silence, 0) if self.at_end else (0, silence), (0, 0), (0, 0))
        for _ in samples:
            yield Frames(np.pad(kept, padding), int(sent[self.steps :].sum(dtype=np.int64)))
