"""N-MNIST's and N-Caltech101's .bin files, also under the name .bs2: 5 bytes an event, no header.

Byte 0 is x, byte 1 is y, then 1 bit of polarity (1 = ON) and 23 bits of microseconds, big-endian. A record with y = 240
is no event: it says that it and everything after it is 2^13 µs later (G. Orchard et al., Frontiers in Neuroscience
2015).
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import EventFile, Events, Sensor, check_inside
from safjax.data.formats.files import BLOCK, check_block, check_whole, records

RECORD = 5
OVERFLOW_ROW, OVERFLOW = 240, 1 << 13


def open_bin(path: Path | str, sensor: Sensor | None = None, *, block: int = BLOCK) -> EventFile:
    """A file of 40-bit events.

    Args:
      path: of the file. Its name does not matter.
      sensor: (height, width) that all events must lie in, (34, 34) for N-MNIST; None for any, since the file does not
        tell.
      block: records that are read at once.

    Raises:
      BadFile: the length is not a multiple of 5 bytes; when events are read: an event lies outside the sensor.
    """
    path = Path(path)
    check_whole(path, 0, RECORD, "an event")
    return EventFile(path, "40-bit events", sensor, functools.partial(_blocks, path, sensor, check_block(block)))


def decode(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(t, x, y, p) of records, uint8 [N, 5], markers of overflow among them."""
    # Bytes 1 to 4 of each record as one number: one pass in place of four.
    word = np.ndarray(len(rows), ">u4", rows, 1, RECORD).astype(np.uint32)
    t = (word & 0x7FFFFF).astype(np.int64)
    return t, rows[:, 0].astype(np.int32), (word >> 24).astype(np.int32), (word >> 23).astype(np.uint8) & 1


def _blocks(path: Path, sensor: Sensor | None, block: int) -> Iterator[Events]:
    late = 0
    for begin, rows in records(path, 0, (np.uint8, RECORD), block):
        t, x, y, p = decode(rows)
        found, at = Events(t, x, y, p), None
        marker = y == OVERFLOW_ROW
        if late or marker.any():
            rounds = late + np.cumsum(marker)
            late, at = int(rounds[-1]), np.flatnonzero(~marker)
            found = Events(t + rounds * OVERFLOW, x, y, p).where(at)
        check_inside(path, found.x, found.y, sensor, functools.partial(_offset, begin, at))
        yield found


def _offset(begin: int, at: np.ndarray | None, event: int) -> int:
    return begin + RECORD * (event if at is None else int(at[event]))
