"""What every reader returns: events, and the file that they are read from block by block."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

Sensor = tuple[int, int]
"""Height and width in pixels."""

MOST = 1 << 31
"""Coordinates are smaller."""


class BadFile(ValueError):
    """A file is not what it should be: truncated, of another format, or with impossible values in it.

    Attributes:
      path: of the file.
      offset: byte at which the first record lies that cannot be right.
    """

    def __init__(self, path: Path | str, offset: int, what: str) -> None:
        super().__init__(path, offset, what)
        self.path, self.offset, self.what = Path(path), int(offset), what

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset:,}: {self.what}"


class OutOfOrder(UserWarning):
    """The times of a file go back somewhere; its events were sorted."""


class Events(NamedTuple):
    """Events of a camera, one entry an event.

    Attributes:
      t: int64 [N], microseconds.
      x: int32 [N], pixels to the right.
      y: int32 [N], pixels downwards.
      p: uint8 [N], 1 where it became brighter (ON), 0 where darker (OFF).
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def where(self, chosen: np.ndarray | slice) -> "Events":
        """The events of a mask, of indices or of a slice."""
        return Events(*(field[chosen] for field in self))


def as_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Events:
    """Events of arrays of any integer dtype; p may be of booleans.

    Raises:
      ValueError: the arrays are not of one axis and one length, or p is neither 0 nor 1.
    """
    arrays = [np.asarray(array) for array in (t, x, y, p)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(
            f"as_events: t, x, y and p have shapes {shapes}, expected one axis of the same length in each."
        )
    made = Events(*(a.astype(d) for a, d in zip(arrays, (np.int64, np.int32, np.int32, np.uint8), strict=True)))
    if made.t.size and not np.isin(arrays[3], (0, 1)).all():
        raise ValueError(
            "as_events: p holds other values than 0 (OFF) and 1 (ON); write p > 0 of -1 and 1, p == 2 of 1 and 2."
        )
    return made


def joined(parts: Iterable[Events]) -> Events:
    """One after another, in the order given; of none, no events."""
    some = [part for part in parts if part.t.size]
    if len(some) == 1:
        return some[0]
    none = np.zeros(0, np.int64)
    return Events(
        *(np.concatenate(fields) for fields in zip(*(some or [as_events(none, none, none, none)]), strict=True))
    )


def steps_back(t: np.ndarray) -> int:
    """How many events are earlier than the event before them."""
    return int(np.count_nonzero(t[1:] < t[:-1]))


def in_order(unsorted: Events, name: object = "events") -> Events:
    """The events by time, those of equal time as they were; a warning if they were not."""
    back = steps_back(unsorted.t)
    if not back:
        return unsorted
    warnings.warn(f"{name}: times go back {back:,} times; the events were sorted by time.", OutOfOrder, stacklevel=3)
    return unsorted.where(np.argsort(unsorted.t, kind="stable"))


@dataclasses.dataclass(frozen=True)
class EventFile:
    """A file of events, opened: its header was read and its length checked, its events are read when asked for.

    Iterating gives blocks of events as the file holds them, so memory does not grow with the file; it may be done any
    number of times.

    Attributes:
      path: of the file.
      format: its name, such as "AEDAT 3.1".
      sensor: (height, width), or None where the format does not tell.
      blocks: makes the iterator of blocks.
    """

    path: Path
    format: str
    sensor: Sensor | None
    blocks: Callable[[], Iterator[Events]]

    def __iter__(self) -> Iterator[Events]:
        return self.blocks()

    def read(self) -> Events:
        """All events by time. Where the file's times go back, they are sorted and a warning says so.

        Raises:
          BadFile: a record cannot be right.
        """
        return in_order(joined(self), self.path)


def check_inside(path: Path, x: np.ndarray, y: np.ndarray, sensor: Sensor | None, offset: Callable[[int], int]) -> None:
    """Refuses events beyond the sensor.

    Args:
      path: of the file.
      x: their columns.
      y: their rows.
      sensor: (height, width), or None for any.
      offset: the byte at which event i lies.

    Raises:
      BadFile: an event has coordinates that are negative, or not smaller than the sensor's size.
    """
    height, width = sensor or (MOST, MOST)
    if not x.size or (x.max() < width and y.max() < height and min(x.min(), y.min()) >= 0):
        return
    first = int(np.argmax((x >= width) | (y >= height) | (x < 0) | (y < 0)))
    expected = f"a sensor of {width} × {height} pixels" if sensor else "coordinates of 31 bits"
    raise BadFile(
        path, offset(first), f"an event at x = {x[first]}, y = {y[first]}, expected {expected} (width × height). Of "
        "another sensor, give sensor=(height, width); otherwise the file is damaged or of another format.",
    )  # fmt: skip
