"""ASL-DVS's .mat files: MATLAB's format of version 5, with the variables ts, x, y and pol.

y counts from below in these files; here it counts from above, y = 179 − y. Polarities are 0 and 1, or 1 (OFF) and 2
(ON). The few parts of the format that arrays of numbers need are read here.
"""

import functools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside
from safjax.data.formats.files import BLOCK, check_block

MAGIC, HDF5 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"
HEADER, TAG = 128, 8
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Kinds of matrices of numbers."""


class Element(NamedTuple):
    """One piece of the format: its type, its bytes, and how many bytes it takes with its tag and padding."""

    type: int
    data: bytes
    size: int


def open_mat(path: Path | str, sensor: Sensor = (180, 240), *, block: int = BLOCK) -> EventFile:
    """Events of a .mat file of ASL-DVS. The whole file is read when events are asked for.

    Args:
      path: of the file.
      sensor: (height, width); y is turned about by the height.
      block: events that are handed on at once.

    Raises:
      BadFile: not a .mat file of version 5, or one that is cut off (`offset` is where the variable begins that is not
        whole); when events are read: a variable is missing or of another kind, or an event outside the sensor.
    """
    path = Path(path)
    order = _order(path)
    for _ in _elements(path, order):
        pass
    return EventFile(path, "MATLAB 5", sensor, functools.partial(_blocks, path, order, sensor, check_block(block)))


def _order(path: Path) -> str:
    """The order of bytes, from the header."""
    with path.open("rb") as file:
        head = file.read(HEADER)
    if head.startswith(HDF5):
        raise BadFile(path, 0, "the file is of MATLAB 7.3; save it with -v7.")
    if not head.startswith(MAGIC):
        raise BadFile(path, 0, f"the first bytes are {head[:19]!r}, expected {MAGIC!r}.")
    if head[126:128] not in (b"IM", b"MI"):
        raise BadFile(path, min(len(head), 126), "the file ends inside its header of 128 bytes, or it is damaged.")
    return "<" if head[126:128] == b"IM" else ">"


def _elements(path: Path, order: str) -> Iterator[tuple[int, Element]]:
    """Each piece of the file with the byte at which it begins."""
    data = path.read_bytes()
    begin = HEADER
    while begin < len(data):
        try:
            found = _element(data, begin, order)
            if found.type == COMPRESSED:
                found = Element(*_element(zlib.decompress(found.data), 0, order)[:2], found.size)
        except (struct.error, zlib.error) as error:
            raise BadFile(path, begin, f"the variable that begins here is cut off or damaged ({error}).") from error
        yield begin, found
        begin += found.size


def _element(data: bytes, begin: int, order: str) -> Element:
    kind, size = struct.unpack_from(f"{order}2I", data, begin)
    if kind >> 16:  # a small one: type and size of 16 bits each, and the bytes in place of the size
        kind, size = kind & 0xFFFF, kind >> 16
        return Element(kind, data[begin + 4 : begin + 4 + size], TAG)
    if len(data) < begin + TAG + size:
        raise struct.error(f"{len(data) - begin - TAG} bytes in place of {size}")
    # Compressed pieces stand without padding.
    whole = size if kind == COMPRESSED else -(-size // 8) * 8
    return Element(kind, data[begin + TAG : begin + TAG + size], TAG + whole)


def _matrix(data: bytes, order: str) -> tuple[str, np.ndarray] | None:
    """Name and numbers of a variable; None for one that is no real array of numbers."""
    parts: list[Element] = []
    begin = 0
    while begin < len(data) and len(parts) < 4:
        parts.append(_element(data, begin, order))
        begin += parts[-1].size
    flags = struct.unpack_from(f"{order}I", parts[0].data)[0]
    if flags & 0xFF not in CLASSES or flags & 0x800 or len(parts) < 4 or parts[3].type not in TYPES:
        return None
    numbers = np.frombuffer(parts[3].data, order + TYPES[parts[3].type])
    # Numbers are stored in the smallest type that holds them.
    return parts[2].data.decode("latin-1"), numbers.astype(CLASSES[flags & 0xFF])


def _blocks(path: Path, order: str, sensor: Sensor, block: int) -> Iterator[Events]:
    found, places = {}, {}
    for begin, element in _elements(path, order):
        try:
            variable = _matrix(element.data, order) if element.type == MATRIX else None
        except (struct.error, ValueError, IndexError) as error:
            raise BadFile(path, begin, f"the variable that begins here cannot be read ({error}).") from error
        if variable:
            found[variable[0]], places[variable[0]] = variable[1], begin
    missing = [name for name in ("ts", "x", "y", "pol") if name not in found]
    if missing:
        raise BadFile(
            path, HEADER, f"no variable {missing[0]}, expected ts, x, y and pol of numbers; it has {sorted(found)}."
        )
    t, x, y, p = (_whole(path, name, found[name], places[name], found["ts"].size) for name in ("ts", "x", "y", "pol"))
    y = sensor[0] - 1 - y
    on = 2 if p.size and p.max() == 2 else 1
    if not np.isin(p, (on - 1, on)).all():
        raise BadFile(path, places["pol"], f"the polarities {np.unique(p)[:5]}, expected 0 and 1 or 1 and 2.")
    check_inside(path, x, y, sensor, lambda event: places["x"])
    whole = Events(t, x.astype(np.int32), y.astype(np.int32), (p == on).astype(np.uint8))
    for begin in range(0, t.size, block):
        yield whole.where(slice(begin, begin + block))


def _whole(path: Path, name: str, numbers: np.ndarray, place: int, count: int) -> np.ndarray:
    if numbers.size != count:
        raise BadFile(
            path, place, f"{name} has {numbers.size:,} values and ts {count:,}; expected one of each for an event."
        )
    if numbers.dtype.kind == "f" and not (np.isfinite(numbers) & (numbers % 1 == 0)).all():
        raise BadFile(path, place, f"{name} holds values that are no whole numbers.")
    return numbers.astype(np.int64)
