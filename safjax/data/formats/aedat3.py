"""AEDAT 3.1 files (DVS128 Gesture): lines of text, then packets, little-endian.

A packet has a header of 28 bytes: type and source (16 bits each), then size of an event, place of the time in it, times
that the clock was full, capacity, number and valid number (32 bits each); capacity · size bytes follow. Packets of type
1 hold polarity events: of 32 bits, bit 0 is set for a valid event, bit 1 for ON, bits 2-16 are y and bits 17-31 x; then
31 bits of microseconds. Packets of other types are skipped, and events that are marked invalid left out.
"""

import functools
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside, joined
from safjax.data.formats.files import BLOCK, check_block, header_lines

MAGIC, END = b"#!AER-DAT3.1", b"#!END-HEADER"
PACKET = struct.Struct("<hh6i")
POLARITY, RECORD = 1, 8
SENSORS = {b"DVS128": (128, 128), b"DAVIS240": (180, 240), b"DAVIS346": (260, 346), b"DAVIS640": (480, 640)}


def open_aedat3(path: Path | str, sensor: Sensor | None = None, *, block: int = BLOCK) -> EventFile:
    """A recording in AEDAT 3.1.

    Args:
      path: of the file.
      sensor: (height, width); None for that of the camera that the header names.
      block: events that are read at once.

    Raises:
      BadFile: the file does not begin with its format's name, ends inside its header or inside a packet (`offset` is
        where that packet begins), or, when events are read, an event cannot be right.
    """
    path = Path(path)
    with path.open("rb") as file:
        lines = []
        for line in header_lines(file, path, b"#"):
            lines.append(line)
            if line == END:
                break
        start = file.tell()
        if not lines or lines[0] != MAGIC:
            first = lines[0][:40] if lines else b""
            raise BadFile(path, 0, f"the first line is {first!r}, expected {MAGIC!r} of AEDAT 3.1.")
        if lines[-1] != END:
            raise BadFile(path, start, f"the header ends without the line {END!r}; the file was cut off.")
        for _ in _packets(file, path):
            pass
    sensor = sensor or _sensor(lines)
    return EventFile(path, "AEDAT 3.1", sensor, functools.partial(_blocks, path, start, sensor, check_block(block)))


def _sensor(lines: list[bytes]) -> Sensor | None:
    """That of the only source."""
    sources = [line for line in lines if re.match(rb"#\s*Source \d+:", line)]
    found = [size for name, size in SENSORS.items() if len(sources) == 1 and name in sources[0].upper()]
    return found[0] if found else None


def _packets(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """(type, times that the clock was full, number of events) of each packet; the file is at its first event then."""
    end, begin = path.stat().st_size, file.tell()
    while begin < end:
        header = file.read(PACKET.size)
        if len(header) < PACKET.size:
            raise BadFile(
                path, begin, f"the file ends inside a packet's header of {PACKET.size} bytes; it was cut off."
            )
        kind, _, size, place, full, capacity, number, _ = PACKET.unpack(header)
        if size < 0 or full < 0 or not 0 <= number <= capacity or (kind == POLARITY and (size, place) != (RECORD, 4)):
            raise BadFile(
                path, begin, f"a packet of type {kind} with events of {size} bytes, their time at byte {place}, "
                f"{number} of {capacity}, clock full {full} times: no packet of AEDAT 3.1. The file is damaged.",
            )  # fmt: skip
        after = begin + PACKET.size + capacity * size
        if after > end:
            raise BadFile(path, begin, f"the file ends inside a packet of {after - begin:,} bytes; it was cut off.")
        yield kind, full, number
        file.seek(after)
        begin = after


def _blocks(path: Path, start: int, sensor: Sensor | None, block: int) -> Iterator[Events]:
    parts: list[Events] = []
    room = block
    with path.open("rb") as file:
        file.seek(start)
        for kind, full, number in _packets(file, path):
            left = number if kind == POLARITY else 0
            while left:
                count, offset = min(left, room), file.tell()
                parts.append(_polarity(path, offset, full, np.fromfile(file, ("<u4", 2), count), sensor))
                left, room = left - count, room - count
                if not room:
                    yield joined(parts)
                    parts, room = [], block
    if parts:
        yield joined(parts)


def _polarity(path: Path, offset: int, full: int, words: np.ndarray, sensor: Sensor | None) -> Events:
    at = np.flatnonzero(words[:, 0] & 1)
    address, time = words[at, 0], words[at, 1]
    if (time >> 31).any():
        wrong = int(at[np.argmax(time >> 31)])
        raise BadFile(path, offset + RECORD * wrong, "an event whose time is negative; the file is damaged.")
    t = time.astype(np.int64) + (full << 31)
    x, y = (address >> 17).astype(np.int32), (address >> 2 & 0x7FFF).astype(np.int32)
    found = Events(t, x, y, (address >> 1 & 1).astype(np.uint8))
    check_inside(path, found.x, found.y, sensor, lambda event: offset + RECORD * int(at[event]))
    return found
