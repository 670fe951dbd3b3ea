"""Prophesee's EVT3 files: lines that begin with %, then little-endian words of 16 bits that change a state.

Bits 12-15 are the type: 0 sets y; 2 is an event at the x of bits 0-10, ON if bit 11 is set; 3 sets a base x and a
polarity; 4 and 5 are events at base + i for every bit i that is set of 12 or 8, and move the base by 12 or 8; 6 sets
the lower 12 bits of the time and 8 the upper 12. Triggers (0xA) and others (7, 0xE, 0xF) are skipped. The upper bits
are full every 16.8 seconds: each time that they fall by more than half their range, 2^24 µs are added. The lower ones
stay when upper ones come. Events before the first words of time and of y, and vectors before the first base, are left
out.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import EventFile, Events, Sensor, check_inside
from safjax.data.formats.evt2 import check_kinds
from safjax.data.formats.files import BLOCK, Clock, check_block, check_whole, held, records
from safjax.data.formats.prophesee import check_version, header, offset

WORD = 2
ROW, EVENT, BASE, TWELVE, EIGHT, LOW, HIGH = 0, 2, 3, 4, 5, 6, 8
KNOWN = np.isin(np.arange(16), (0, 2, 3, 4, 5, 6, 7, 8, 0xA, 0xE, 0xF))
EMITS = np.isin(np.arange(16), (EVENT, TWELVE, EIGHT))
VECTOR = np.isin(np.arange(16), (BASE, TWELVE, EIGHT))
UNSET = -(1 << 30)
ADVANCE = np.zeros(16, np.int64)
ADVANCE[[TWELVE, EIGHT]] = 12, 8


@dataclasses.dataclass
class State:
    """What words have set so far, −1 for nothing yet; `base` counts the advances since it was set.

    `vectors`: whether there was any; many files have none.
    """

    row: int = -1
    base: int = UNSET
    polarity: int = 0
    vectors: bool = False
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
        check_inside(path, found.x, found.y, sensor, functools.partial(offset, begin, WORD, at))
        yield found


def _decode(words: np.ndarray, kind: np.ndarray, state: State) -> tuple[Events, np.ndarray]:
    """The events of some words and the word that each is of; the state goes on."""
    emits, value = np.flatnonzero(EMITS[kind]), words & np.uint16(0xFFF)
    row, state.row = held(kind == ROW, value[kind == ROW] & 0x7FF, state.row, emits)
    low, state.low = held(kind == LOW, value[kind == LOW], state.low, emits)
    high, state.high = held(kind == HIGH, state.clock(value[kind == HIGH]), state.high, emits)
    t = high << 12 | low
    x, p, word = (value[emits] & 0x7FF).astype(np.int32), value[emits] >> 11, None
    if state.vectors or VECTOR[kind].any():
        x, p, word = _vectors(kind, value, emits, x, p, state)
    whole = (row >= 0) & (low >= 0) & (high >= 0)
    if word is not None:
        row, t, whole, emits = row[word], t[word], whole[word] & (x >= 0), emits[word]
    found = Events(t, x, row.astype(np.int32), p.astype(np.uint8))
    return (found, emits) if whole.all() else (found.where(whole), emits[whole])


def _vectors(
    kind: np.ndarray, value: np.ndarray, emits: np.ndarray, x: np.ndarray, p: np.ndarray, state: State
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x and polarity of every event where some words hold several, and which of the words each is of."""
    state.vectors = True
    sets = kind == BASE
    # Advances before each word; a base is noted as if they had all come after it.
    advances = np.cumsum(ADVANCE[kind])
    before = advances - ADVANCE[kind]
    base, last = held(sets, (value[sets] & 0x7FF) - before[sets], state.base, emits)
    state.base = last + int(advances[-1])
    polarity, state.polarity = held(sets, value[sets] >> 11, state.polarity, emits)
    single = kind[emits] == EVENT
    bits = np.where(single, 1, value[emits] & np.where(kind[emits] == EIGHT, 0xFF, 0xFFF))
    x = np.where(single, x, base + before[emits])
    word, bit = np.nonzero(bits[:, None] >> np.arange(12) & 1)
    return (x[word] + bit).astype(np.int32), np.where(single, p, polarity)[word], word
