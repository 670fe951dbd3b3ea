"""What a frame counts: the pixels of a sensor or squares of them, both polarities apart or together, up to a largest
count."""

import dataclasses

import numpy as np

from safjax.data.events import Events, Sensor

GROUP = 1 << 15
"""Counts that are made at once; `np.bincount` is twice as fast where they stay in the processor's cache."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The places of a frame, [H, W, C].

    Attributes:
      sensor: (height, width) in pixels.
      pool: side of the squares of pixels whose events are added up. Where the sensor is no multiple of it, the last row
        and column of squares are smaller.
      merged: True counts both polarities together, C = 1; otherwise C = 2, (OFF, ON).
      clip: largest count, larger ones become it; 1 tells presence from absence. None counts up to 65,535 and refuses
        more.

    Raises:
      ValueError: a size, pool or clip is not possible.
    """

    sensor: Sensor
    pool: int = 1
    merged: bool = False
    clip: int | None = None

    def __post_init__(self) -> None:
        if self.pool < 1 or int(self.pool) != self.pool:
            raise ValueError(f"Grid: pool={self.pool}, expected a whole number of pixels, 1 or more.")
        if len(self.sensor) != 2 or min(self.sensor) < 1 or self.sensor[0] * self.sensor[1] >= 1 << 30:
            raise ValueError(f"Grid: sensor={self.sensor}, expected (height, width), 1 to 2^30 pixels.")
        if self.clip is not None and not 1 <= self.clip <= 65535:
            raise ValueError(f"Grid: clip={self.clip}, expected None or a count from 1 to 65,535.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a frame."""
        height, width = (-(-size // self.pool) for size in self.sensor)
        return height, width, 1 if self.merged else 2

    @property
    def cells(self) -> int:
        """H · W · C."""
        height, width, channels = self.shape
        return height * width * channels

    @property
    def dtype(self) -> np.dtype:
        """uint8 where counts are clipped at 255 or less, otherwise uint16."""
        return np.dtype(np.uint8 if self.clip and self.clip < 256 else np.uint16)

    def places(self, found: Events) -> np.ndarray:
        """int32 [N]: the cell of a frame that each event belongs to.

        Raises:
          ValueError: an event lies outside the sensor, or its polarity is neither 0 nor 1.
        """
        x, y, p = found.x, found.y, found.p
        if not x.size:
            return np.zeros(0, np.int32)
        height, width = self.sensor
        if x.max() >= width or y.max() >= height or min(x.min(), y.min()) < 0 or p.max() > 1:
            raise ValueError(
                f"events reach from x = {x.min()}, y = {y.min()} to x = {x.max()}, y = {y.max()}, polarities to "
                f"{p.max()}; expected a sensor of height {height} and width {width}, and polarities 0 and 1."
            )
        _, columns, channels = self.shape
        if self.pool > 1:
            x, y = x // self.pool, y // self.pool
        place = y * np.int32(columns)
        place += x
        if channels == 2:
            place *= np.int32(2)
            place += p
        return place

    def count(self, places: np.ndarray, borders: np.ndarray) -> np.ndarray:
        """Counts [T, H, W, C] of frames, frame k holding the events borders[k] .. borders[k + 1] - 1.

        Raises:
          ValueError: a count is larger than 65,535, and there is no clip.
        """
        frames = np.empty((len(borders) - 1, *self.shape), self.dtype)
        together = max(1, GROUP // self.cells)
        for first in range(0, len(frames), together):
            edges = borders[first : first + together + 1]
            number = len(edges) - 1
            index = places[edges[0] : edges[-1]]
            if number > 1:
                frame = np.repeat(np.arange(number, dtype=np.int32) * np.int32(self.cells), np.diff(edges))
                index = np.add(frame, index, out=frame)
            counts = np.bincount(index, minlength=number * self.cells)
            frames[first : first + number] = self.narrow(counts).reshape(number, *self.shape)
        return frames

    def narrow(self, counts: np.ndarray) -> np.ndarray:
        """Counts clipped and in the grid's dtype."""
        return narrow(counts, self.clip)


def narrow(counts: np.ndarray, clip: int | None) -> np.ndarray:
    """Counts of any size as uint8 or uint16, clipped.

    Raises:
      ValueError: without a clip, a count is larger than 65,535.
    """
    if clip is not None:
        return np.minimum(counts, clip).astype(np.uint8 if clip < 256 else np.uint16)
    if counts.size and counts.max() > 65535:
        raise ValueError(f"a frame holds {counts.max():,} events in one place, expected at most 65,535; give a clip.")
    return counts.astype(np.uint16)
