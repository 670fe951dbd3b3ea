"""What a file of events or spikes holds, in lines and in a picture; in memory that does not grow with the file."""

import datetime
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.events.labels import label_of
from experiments.storage.event_pictures import draw_frames, draw_raster
from safjax.data import EventFile, Grid, SpikeFile, open_events

FRAMES = 8
MOST = 320
"""Pixels of a frame's side in the picture."""

YEAR = 365 * 24 * 3600 * 10**6
"""µs. Later times are those of a clock that counts from 1970."""

Lines = list[tuple[str, str]]


class Summary(NamedTuple):
    """Counts of a recording.

    Attributes:
      number: of events.
      on: ON events.
      first: smallest time, µs.
      last: largest time, µs.
      back: events that are earlier than the one before them.
      height: largest y and 1.
      width: largest x and 1.
    """

    number: int = 0
    on: int = 0
    first: int = 0
    last: int = 0
    back: int = 0
    height: int = 0
    width: int = 0

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return (self.last - self.first) / 1e6


def look(path: Path, out: Path, sensor: tuple[int, int] | None = None, sample: int = 0) -> Lines:
    """Names and values to print; the picture is written.

    Args:
      path: of the file, of any format.
      out: of the picture, a PNG.
      sensor: (height, width) where the format does not tell.
      sample: which one of a file of many samples is drawn.

    Raises:
      BadFile: the file is malformed.
      IndexError: there is no such sample.
      OSError: the file is not there, or the picture cannot be written.
    """
    opened = open_events(path, sensor)
    lines = [("file", f"{path}, {path.stat().st_size:,} bytes")]
    if isinstance(opened, SpikeFile):
        return lines + _samples(opened, out, sample)
    found = summary(opened)
    lines += [("format", opened.format), ("sensor", _sensor(opened, found))]
    lines += _numbers(found)
    label = label_of(path)
    lines += [("label", label)] if label else []
    size = opened.sensor or (max(found.height, 1), max(found.width, 1))
    draw_frames(strip(opened, found, size), found.seconds, path.name, out)
    return [*lines, ("picture", f"{out}, {FRAMES} frames of {_time(found.seconds / FRAMES)}")]


def summary(opened: EventFile) -> Summary:
    """Counts of a recording, block by block."""
    total, before = Summary(), None
    for block in opened:
        if block.t.size:
            t = block.t if before is None else np.concatenate([[before], block.t])
            before, first = int(block.t[-1]), int(block.t.min())
            total = Summary(
                total.number + block.t.size,
                total.on + int(block.p.sum()),
                min(total.first, first) if total.number else first,
                max(total.last, int(block.t.max())) if total.number else int(block.t.max()),
                total.back + int(np.count_nonzero(t[1:] < t[:-1])),
                max(total.height, int(block.y.max()) + 1),
                max(total.width, int(block.x.max()) + 1),
            )
    return total


def strip(opened: EventFile, found: Summary, sensor: tuple[int, int]) -> np.ndarray:
    """Counts [FRAMES, H, W, 2] of as many equal parts of a recording's time; large sensors in squares of pixels."""
    grid = Grid(sensor, pool=-(-max(sensor) // MOST))
    counts = np.zeros(FRAMES * grid.cells, np.int64)
    for block in opened:
        part = np.minimum((block.t - found.first) * FRAMES // max(found.last - found.first, 1), FRAMES - 1)
        begin, end = (int(k) * grid.cells for k in (part.min(), part.max() + 1)) if part.size else (0, 0)
        counts[begin:end] += np.bincount(part * grid.cells + grid.places(block) - begin, minlength=end - begin)
    return counts.reshape(FRAMES, *grid.shape)


def _sensor(opened: EventFile, found: Summary) -> str:
    if opened.sensor:
        return f"{opened.sensor[0]} × {opened.sensor[1]} (height × width)"
    return f"not told by the file; events reach to {found.height} × {found.width} (height × width)"


def _numbers(found: Summary) -> Lines:
    if not found.number:
        return [("events", "0")]
    rate = f"{found.number / found.seconds:,.0f} events a second" if found.seconds else "all at one time"
    begin = f"{found.first:,} µs"
    if found.first > YEAR:
        begin += f" ({datetime.datetime.fromtimestamp(found.first / 1e6, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC)"
    lines = [
        ("events", f"{found.number:,}"),
        ("duration", f"{_time(found.seconds)}, from t = {begin}"),
        ("rate", rate),
        ("ON", f"{found.on / found.number:.1%}"),
    ]
    return [*lines, ("order", f"times go back {found.back:,} times")] if found.back else lines


def _samples(opened: SpikeFile, out: Path, sample: int) -> Lines:
    if not len(opened):
        return [("format", "HDF5 of spikes (SHD, SSC)"), ("samples", "0")]
    spikes = opened[sample]
    classes = opened.classes or tuple(str(i) for i in range(opened.labels.max() + 1))
    counts = Counter(opened.labels.tolist())
    numbers = [counts[i] for i in range(len(classes))]
    label = int(opened.labels[sample])
    end = float(spikes.times[-1]) if spikes.times.size else 0.0
    draw_raster(spikes.times, spikes.units, opened.channels, f"sample {sample}: {classes[label]}", out)
    lines = [
        ("format", "HDF5 of spikes (SHD, SSC)"),
        ("channels", str(opened.channels)),
        ("samples", f"{len(opened):,}, {min(numbers):,} to {max(numbers):,} of a class"),
        ("classes", f"{len(classes)}: {', '.join(classes)}"),
        ("sample", f"{sample}: label {label} ({classes[label]}), {spikes.times.size:,} spikes, {_time(end)}"),
    ]
    if opened.speakers is not None:
        speakers = sorted(set(opened.speakers.tolist()))
        lines.insert(3, ("speakers", f"{len(speakers)}: {', '.join(map(str, speakers[:20]))}"))
    return [*lines, ("picture", str(out))]


def _time(seconds: float) -> str:
    return f"{seconds:,.3f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
