"""NumPy's .npy files of events: DVS-Lip's, and the release of DVS128 Gesture that is cut into trials.

DVS-Lip has records with the fields t (µs), x, y and p; the 8-bit coordinates are widened before anything is computed
with them. The cut release has rows of floating-point numbers x, y, p and t in milliseconds.
"""

import functools
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside
from safjax.data.formats.files import BLOCK, check_block, records

MAGIC = b"\x93NUMPY"
NAMES = ("t", "x", "y", "p")
MICROSECONDS = 1000
"""In a millisecond."""


class Layout(NamedTuple):
    """Where the array of a file lies.

    Attributes:
      dtype: of one event.
      number: of events.
      start: byte of the first.
      by_columns: all x lie first, then all y and so on.
    """

    dtype: np.dtype
    number: int
    start: int
    by_columns: bool


def open_npy(path: Path | str, sensor: Sensor | None = (128, 128), *, block: int = BLOCK) -> EventFile:
    """Events in a .npy file.

    Args:
      path: of the file.
      sensor: (height, width); None for any.
      block: events that are read at once.

    Raises:
      BadFile: not a .npy file, an array of another kind, a file that is cut off, or (when events are read) an event
        outside the sensor or with a polarity other than 0, 1 and −1, a number that is not finite, a coordinate that is
        not whole.
    """
    path = Path(path)
    layout = _layout(path)
    kind = "events in NumPy's format" if layout.dtype.names else "rows x, y, p, t in NumPy's format"
    return EventFile(path, kind, sensor, functools.partial(_blocks, path, layout, sensor, check_block(block)))


def _layout(path: Path) -> Layout:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(MAGIC):
        raise BadFile(path, 0, f"the first bytes are {head[:6]!r}, expected {MAGIC!r} of a .npy file.")
    buffer = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(buffer)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(buffer)
    except Exception as error:  # the header is Python's own notation: anything may be wrong with it
        raise BadFile(path, len(MAGIC), f"the header cannot be read ({error}); the file is damaged.") from error
    named = set(NAMES) <= set(dtype.names or ()) and len(shape) == 1 and all(dtype[n].kind in "iub" for n in NAMES)
    rows = dtype.kind == "f" and len(shape) == 2 and shape[1] == len(NAMES)
    if not named and not rows:
        raise BadFile(
            path, len(MAGIC), f"an array of shape {shape} and dtype {dtype}, expected records with the fields t, x, y "
            "and p of whole numbers, or rows x, y, p, t of floating-point numbers.",
        )  # fmt: skip
    start, size = buffer.tell(), dtype.itemsize * (1 if named else len(NAMES))
    there = path.stat().st_size - start
    if there < size * math.prod(shape[:1]):
        raise BadFile(path, start + there // size * size, f"the file ends before the last of its {shape[0]:,} events.")
    return Layout(dtype if named else np.dtype((dtype, (len(NAMES),))), shape[0], start, rows and by_columns)


def _blocks(path: Path, layout: Layout, sensor: Sensor | None, block: int) -> Iterator[Events]:
    size, left = layout.dtype.itemsize, layout.number
    pieces: Iterator[tuple[int, np.ndarray]]
    if layout.by_columns:
        size //= len(NAMES)
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
        pieces = ((layout.start + size * i, whole[i : i + block]) for i in range(0, left, block))
    else:
        pieces = records(path, layout.start, layout.dtype, block)
    for begin, rows in pieces:
        if not left:
            return
        rows, left = rows[:left], left - min(left, len(rows))

        def offset(event: int, begin: int = begin) -> int:
            return begin + size * event

        if layout.dtype.names:
            t, x, y, p = (rows[name].astype(np.int64) for name in NAMES)
        else:
            t, x, y, p = _whole(path, rows, offset)
        yield _events(path, t, x, y, p, sensor, offset)


def _whole(path: Path, rows: np.ndarray, offset: Callable[[int], int]) -> tuple[np.ndarray, ...]:
    """t, x, y, p of rows x, y, p, t; times to the nearest microsecond."""
    rows = rows.astype(np.float64)
    # Beyond 2^53 a number says no longer which whole one it is.
    right = np.all(np.abs(rows) < 2**53 / MICROSECONDS, axis=1) & np.all(rows[:, :3] % 1 == 0, axis=1)
    if not right.all():
        wrong = int(np.argmin(right))
        raise BadFile(path, offset(wrong), f"the row {rows[wrong].tolist()}, expected whole x, y and p, and finite t.")
    x, y, p = rows[:, :3].T.astype(np.int64)
    return np.rint(rows[:, 3] * MICROSECONDS).astype(np.int64), x, y, p


def _events(
    path: Path,
    t: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    sensor: Sensor | None,
    offset: Callable[[int], int],
) -> Events:
    if not np.isin(p, (-1, 0, 1)).all():
        wrong = int(np.argmin(np.isin(p, (-1, 0, 1))))
        raise BadFile(path, offset(wrong), f"the polarity {p[wrong]}, expected 1 for ON and 0 or −1 for OFF.")
    check_inside(path, x, y, sensor, offset)
    return Events(t, x.astype(np.int32), y.astype(np.int32), (p > 0).astype(np.uint8))
