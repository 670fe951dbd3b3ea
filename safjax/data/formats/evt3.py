"""Prophesee's EVT3 files: lines that begin with %, then little-endian words of 16 bits that change a state.

Bits 12-15 are the type: 0 sets y; 2 is an event at the x of bits 0-10, ON if bit 11 is set; 3 sets a base x and a
polarity; 4 and 5 are events at base + i for every bit i that is set of 12 or 8, and move the base by 12 or 8; 6 sets
the lower 12 bits of the time and 8 the upper 12. Triggers (0xA) and others (7, 0xE, 0xF) are skipped. The upper bits
are full every 16.8 seconds: each time that they fall by more than half their range, 2^24 µs are added. The lower ones
stay when upper ones come. Events before the first words of time and of y are left out.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import EventFile, Events, Sensor, check_inside
from safjax.data.formats.evt2 import check_kinds
from safjax.data.formats.files import BLOCK, Clock, check_block, check_whole, held, records
from safjax.data.formats.prophesee import check_version, header

WORD = 2
ROW, EVENT, BASE, TWELVE, EIGHT, LOW, HIGH = 0, 2, 3, 4, 5, 6, 8
KNOWN = np.isin(np.arange(16), (0, 2, 3, 4, 5, 6, 7, 8, 0xA, 0xE, 0xF))
EMITS = np.isin(np.arange(16), (EVENT, TWELVE, EIGHT))
ADVANCE = np.zeros(16, np.int64)
ADVANCE[[TWELVE, EIGHT]] = 12, 8


@dataclasses.dataclass
class State:
    """What words have set so far, −1 for nothing yet; `base` counts the advances since it was set."""

    row: int = -1
    base: int = 0
    polarity: int = 0
    low: int = -1
    high: int = -1
    clock: Clock = dataclasses.field(default_factory=lambda: Clock(12, straddles=False))


def open_evt3(path: Path | str, sensor: Sensor | None = None, *, block: int = BLOCK) -> EventFile:
    """A recording in EVT 3.0.

    Args:
      path: of the file.
      sensor: (height, width); None for what the header says, if it does.
      block: words that are read at once.

    Raises:
      BadFile: no header, one of another version, a file that ends inside a word, or (when events are read) a word of no
        known type or an event outside the sensor.
    """
    path = Path(path)
    found = header(path, "EVT3")
    check_version(path, found, "3.0")
    check_whole(path, found.start, WORD, "a word")
    sensor = sensor or found.sensor
    return EventFile(path, "EVT3", sensor, functools.partial(_blocks, path, found.start, sensor, check_block(block)))


def _blocks(path: Path, start: int, sensor: Sensor | None, block: int) -> Iterator[Events]:
    state = State()
    for begin, words in records(path, start, "<u2", block):
        kind = words >> 12
        check_kinds(path, kind, KNOWN, begin, WORD)
        found, at = _decode(words, kind, state)
        check_inside(path, found.x, found.y, sensor, functools.partial(_offset, begin, at))
        yield found


def _offset(begin: int, at: np.ndarray, event: int) -> int:
    return begin + WORD * int(at[event])


def _decode(words: np.ndarray, kind: np.ndarray, state: State) -> tuple[Events, np.ndarray]:
    """The events of some words and the word that each is of; the state goes on."""
    emits, value = np.flatnonzero(EMITS[kind]), words.astype(np.int64)
    row, state.row = held(kind == ROW, value & 0x7FF, state.row, emits)
    low, state.low = held(kind == LOW, value & 0xFFF, state.low, emits)
    upper = kind == HIGH
    value[upper] = state.clock(value[upper] & 0xFFF)
    high, state.high = held(upper, value, state.high, emits)
    polarity, state.polarity = held(kind == BASE, value >> 11 & 1, state.polarity, emits)
    # Advances before each word; a base is noted as if they had all come after it.
    advances = np.cumsum(ADVANCE[kind])
    before = advances - ADVANCE[kind]
    base, last = held(kind == BASE, (value & 0x7FF) - before, state.base, emits)
    state.base = last + int(advances[-1])

    single = kind[emits] == EVENT
    bits = np.where(single, 1, value[emits] & np.where(kind[emits] == EIGHT, 0xFF, 0xFFF))
    x = np.where(single, value[emits] & 0x7FF, base + before[emits])
    polarity = np.where(single, value[emits] >> 11 & 1, polarity)
    bits[(row < 0) | (high < 0) | (low < 0)] = 0
    word, bit = np.nonzero(bits[:, None] >> np.arange(12 if not single.all() else 1) & 1)
    t = (high << 12 | low)[word]
    columns = (x[word] + bit, row[word], polarity[word])
    x, y, p = (c.astype(d) for c, d in zip(columns, (np.int32, np.int32, np.uint8), strict=True))
    return Events(t, x, y, p), emits[word]
