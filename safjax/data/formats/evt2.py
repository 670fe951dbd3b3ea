"""Prophesee's EVT2 files: lines that begin with %, then little-endian words of 32 bits.

Bits 28-31 are the type. 0 (OFF) and 1 (ON) are events: bits 22-27 the low 6 bits of the time, 11-21 x, 0-10 y.
8 holds the upper 28 bits of the time of all that follow. Triggers (0xA) and messages (0xE, 0xF) are skipped. Events
before the first word of type 8 have no time and are left out. The clock is full after 4.8 hours and goes on.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside
from safjax.data.formats.files import BLOCK, Clock, check_block, check_whole, held, records
from safjax.data.formats.prophesee import check_version, header, offset

WORD = 4
TIME, KNOWN = 8, np.isin(np.arange(16), (0, 1, 8, 0xA, 0xE, 0xF))


def open_evt2(path: Path | str, sensor: Sensor | None = None, *, block: int = BLOCK) -> EventFile:
    """A recording in EVT 2.0.

    Args:
      path: of the file.
      sensor: (height, width); None for what the header says, if it does.
      block: words that are read at once.

    Raises:
      BadFile: no header, one of another version, a file that ends inside a word, or (when events are read) a word of no
        known type or an event outside the sensor.
    """
    path = Path(path)
    found = header(path, "EVT2")
    check_version(path, found, "2.0")
    check_whole(path, found.start, WORD, "a word")
    sensor = sensor or found.sensor
    return EventFile(path, "EVT2", sensor, functools.partial(_blocks, path, found.start, sensor, check_block(block)))


def _blocks(path: Path, start: int, sensor: Sensor | None, block: int) -> Iterator[Events]:
    clock, upper = Clock(28, straddles=False), -1
    for begin, words in records(path, start, "<u4", block):
        kind = words >> 28
        check_kinds(path, kind, KNOWN, begin, WORD)
        ticks = kind == TIME
        at = np.flatnonzero(kind <= 1)
        uppers, upper = held(ticks, clock(words[ticks] & 0xFFFFFFF), upper, at)
        if at.size and uppers[0] < 0:
            at, uppers = at[uppers >= 0], uppers[uppers >= 0]
        word = words[at]
        t = (uppers << 6) + (word >> 22 & 0x3F)
        x, y = (word >> 11 & 0x7FF).astype(np.int32), (word & 0x7FF).astype(np.int32)
        found = Events(t, x, y, kind[at].astype(np.uint8))
        check_inside(path, found.x, found.y, sensor, functools.partial(offset, begin, WORD, at))
        yield found


def check_kinds(path: Path, kind: np.ndarray, known: np.ndarray, begin: int, size: int) -> None:
    """Refuses words of types that the format does not have."""
    right = known[kind]
    if not right.all():
        wrong = int(np.argmin(right))
        raise BadFile(
            path, begin + size * wrong,
            f"a word of type {kind[wrong]:#x}, which the format does not have; the file is damaged or of another.",
        )  # fmt: skip
