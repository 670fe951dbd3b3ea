"""Frames of events: how many fell into each place, in bins of equal duration, of equal number, or in equal parts.

Bins of equal duration are what a camera can be read in as it goes (`safjax.data.stream`); the others need the whole
recording first. Layout [T, H, W, C], C = (OFF, ON); the sum over all frames is the number of events,
less those that are told as `dropped`.
"""

import math
from typing import NamedTuple

import numpy as np

from safjax.data.events import Events, in_order
from safjax.data.formats.hdf5 import Spikes
from safjax.data.grid import Grid, narrow

MOST = 1 << 34
"""Counts that a recording may be made into."""


class Frames(NamedTuple):
    """Counts of events.

    Attributes:
      counts: uint8 or uint16 [T, H, W, C], or [T, channels] of spikes.
      dropped: events before the first bin and after the last, which no frame holds.
    """

    counts: np.ndarray
    dropped: int


def by_duration(
    recording: Events, duration: float, grid: Grid, steps: int | None = None, start: int | None = None
) -> Frames:
    """Frame k holds the events of k · duration ≤ t − start < (k + 1) · duration.

    Args:
      recording: the events; if their times go back, they are sorted and a warning says so.
      duration: of a bin, µs.
      grid: the places of a frame.
      steps: T; None for as many as the last event needs, none without events.
      start: µs, None for the time of the first event. Give 0 where recordings begin with their clock, as N-MNIST's do,
        so that frames of different recordings mean the same moments.

    Raises:
      ValueError: the duration is not positive, T is below 1 or of no possible size, or an event lies outside the
        sensor.

    Example:
      >>> from safjax.data import Grid, as_events, by_duration
      >>> recording = as_events(t=[0, 900, 1500, 7000], x=[0, 1, 1, 0], y=[0, 0, 0, 0], p=[1, 0, 0, 1])
      >>> frames = by_duration(recording, 1000, Grid((1, 2)), steps=2)
      >>> frames.counts.shape, frames.counts[1, 0].tolist(), frames.dropped
      ((2, 1, 2, 2), [[0, 0], [1, 0]], 1)
    """
    recording = in_order(recording)
    t = recording.t
    if start is None:
        start = int(t[0]) if t.size else 0
    if steps is None:
        steps = max(0, bin_of(int(t[-1]) - start, duration) + 1) if t.size else 0
    else:
        check_steps(steps)
    _check_size(steps, grid, start)
    borders = np.searchsorted(t, start + edges(duration, 0, steps))
    return Frames(grid.count(grid.places(recording), borders), t.size - int(borders[-1] - borders[0]))


def by_count(recording: Events, steps: int, grid: Grid) -> Frames:
    """Each of T frames holds ⌊N / T⌋ events, the last one also what remains, as SpikingJelly's frames by number.

    Time is lost: a slow movement looks like a fast one.

    Raises:
      ValueError: T is below 1, or an event lies outside the sensor.
    """
    check_steps(steps)
    recording = in_order(recording)
    number = recording.t.size
    borders = np.append(np.arange(steps) * (number // steps), number)
    return Frames(grid.count(grid.places(recording), borders), 0)


def by_parts(recording: Events, steps: int, grid: Grid) -> Frames:
    """T frames of ⌊(last − first time) / T⌋ µs, the last one also with what remains, as SpikingJelly's frames by time.

    A bin's duration is another in every recording.

    Raises:
      ValueError: T is below 1, or an event lies outside the sensor.
    """
    check_steps(steps)
    recording = in_order(recording)
    t = recording.t
    if not t.size:
        return Frames(grid.count(grid.places(recording), np.zeros(steps + 1, np.int64)), 0)
    duration = (t[-1] - t[0]) // steps
    borders = np.searchsorted(t, t[0] + duration * np.arange(steps))
    return Frames(grid.count(grid.places(recording), np.append(borders, t.size)), 0)


def raster(
    spikes: Spikes, duration: float, steps: int, channels: int = 700, pool: int = 1, clip: int | None = None
) -> Frames:
    """Counts [T, channels / pool] of a sample of SHD or SSC, from its beginning.

    Args:
      spikes: times in seconds.
      duration: of a bin, µs. Stored times lie 1 ms apart after the first second: shorter bins show stripes.
      steps: T.
      channels: of the cochlea.
      pool: neighbouring channels that are added up.
      clip: as in `Grid`.

    Raises:
      ValueError: as `by_duration`.
    """
    check_steps(steps)
    grid = Grid((channels, 1), pool, merged=True, clip=clip)
    none = np.zeros(spikes.units.size, np.int32)
    places = grid.places(Events(none, none, spikes.units, none))
    borders = np.searchsorted(spikes.times * 1e6, begins(duration, 0, steps))
    return Frames(grid.count(places, borders)[:, :, 0, 0], spikes.times.size - int(borders[-1] - borders[0]))


def pool_time(counts: np.ndarray, bins: int, clip: int | None = None) -> np.ndarray:
    """Sums of `bins` frames at a time, ⌈T / bins⌉ frames; the last may be a sum of fewer. Clip here, not before.

    Raises:
      ValueError: bins is below 1, or a sum is larger than 65,535 without a clip.
    """
    if bins < 1:
        raise ValueError(f"pool_time: bins={bins}, expected 1 or more.")
    if not len(counts):
        return narrow(counts, clip)
    return narrow(np.add.reduceat(counts.astype(np.int64), np.arange(0, len(counts), bins), axis=0), clip)


def check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps}, expected the number of frames T, 1 or more.")


def _check_size(steps: int, grid: Grid, start: int) -> None:
    if steps * grid.cells > MOST:
        raise ValueError(
            f"T = {steps:,} frames of {grid.cells:,} counts from {start} µs on, expected at most {MOST:,} in all; "
            "give a longer duration, steps=, or start=None to begin at the first event (some clocks count from the "
            "year 1970)."
        )


def begins(duration: float, first: int, last: int) -> np.ndarray:
    """k · duration of k = first .. last, µs: where bins begin, relative to the start of the first.

    Raises:
      ValueError: the duration is not positive and finite.
    """
    if not 0 < duration < math.inf:
        raise ValueError(f"duration={duration}, expected the µs of a bin, more than 0.")
    # A product such as 3 · (10^6 / 30) may lie a rounding above the whole number that it is.
    return np.round(np.arange(first, last + 1) * float(duration), 6)


def edges(duration: float, first: int, last: int) -> np.ndarray:
    """The first whole µs of the bins first .. last."""
    return np.ceil(begins(duration, first, last)).astype(np.int64)


def bin_of(time: int, duration: float) -> int:
    """The bin that a time since the start falls into."""
    begins(duration, 0, 0)
    number = math.floor(time / duration)
    begin, end = edges(duration, number, number + 1)
    return number - 1 if time < begin else number + 1 if time >= end else number
