"""Prophesee's DAT files: lines that begin with %, 2 bytes, then 8 bytes an event.

The 2 bytes are the type of event and its size. An event is two little-endian 32-bit numbers: the time in microseconds,
and x (bits 0-13), y (bits 14-27) and the polarity (from bit 28 on, 1 = ON).
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside
from safjax.data.formats.files import BLOCK, Clock, check_block, check_whole, records
from safjax.data.formats.prophesee import header

RECORD = 8
CHANGES = (0x00, 0x0C)
"""Types of an event of a pixel."""


def open_dat(path: Path | str, sensor: Sensor | None = None, *, block: int = BLOCK) -> EventFile:
    """A DAT file of version 2.

    Args:
      path: of the file.
      sensor: (height, width); None for what the header says, if it does.
      block: events that are read at once.

    Raises:
      BadFile: no header, another version or type of event, a file that is cut off, or (when events are read) an event
        outside the sensor.
    """
    path = Path(path)
    found = header(path, "DAT")
    if found.fields.get("version", "2") != "2":
        raise BadFile(path, 0, f"the header says version {found.fields['version']}, expected version 2.")
    with path.open("rb") as file:
        file.seek(found.start)
        kind = file.read(2)
    if len(kind) < 2:
        raise BadFile(path, found.start, "the file ends before the type and the size of its events; it was cut off.")
    if kind[0] not in CHANGES or kind[1] != RECORD:
        raise BadFile(
            path, found.start,
            f"events of type {kind[0]:#04x} and {kind[1]} bytes, expected type 0x0c or 0x00 and 8 bytes.",
        )  # fmt: skip
    check_whole(path, found.start + 2, RECORD, "an event")
    sensor = sensor or found.sensor
    return EventFile(path, "DAT", sensor, functools.partial(_blocks, path, found.start + 2, sensor, check_block(block)))


def _blocks(path: Path, start: int, sensor: Sensor | None, block: int) -> Iterator[Events]:
    clock = Clock(32)
    for begin, words in records(path, start, ("<u4", 2), block):
        word = words[:, 1]
        x, y, p = (word & 0x3FFF).astype(np.int32), (word >> 14 & 0x3FFF).astype(np.int32), word >> 28
        if p.max() > 1:
            wrong = int(np.argmax(p > 1))
            raise BadFile(
                path, begin + RECORD * wrong, f"the polarity {p[wrong]}, expected 0 or 1; the file is damaged."
            )
        found = Events(clock(words[:, 0]), x, y, p.astype(np.uint8))
        check_inside(path, found.x, found.y, sensor, functools.partial(_offset, begin))
        yield found


def _offset(begin: int, event: int) -> int:
    return begin + RECORD * event
