"""AEDAT 4 files (iniVation's DV), by the library `aedat` of the extra `events`.

Times are microseconds since 1970, as the file has them. Only the first stream of events is read unless another is
named.
"""

import contextlib
import functools
import struct
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from safjax.data.events import BadFile, EventFile, Events, Sensor, check_inside, joined
from safjax.data.formats.files import BLOCK, check_block

MAGIC = b"#!AER-DAT4.0\r\n"


def open_aedat4(path: Path | str, stream: int | None = None, *, block: int = BLOCK) -> EventFile:
    """A recording in AEDAT 4.

    Args:
      path: of the file.
      stream: identifier of a stream of events; None for the lowest.
      block: events that are handed on at once, about: a packet stays whole.

    Raises:
      BadFile: the file does not begin with its format's name, is cut off (`offset` is where the packet begins that is
        not whole), holds no stream of events, or (when events are read) an event lies outside the sensor.
      ImportError: the library `aedat` is not installed.
      ValueError: no stream of events has the identifier given.
    """
    path = Path(path)
    _packets(path)
    library = _library(path)
    with _decoding(path, len(MAGIC)):
        streams = {i: s for i, s in library.Decoder(path).id_to_stream().items() if s["type"] == "events"}
    if not streams:
        raise BadFile(path, len(MAGIC), "the file holds no stream of events.")
    stream = min(streams) if stream is None else stream
    if stream not in streams:
        raise ValueError(f"{path}: stream={stream} is none of its streams of events; give one of {sorted(streams)}.")
    sensor = int(streams[stream]["height"]), int(streams[stream]["width"])
    return EventFile(path, "AEDAT 4", sensor, functools.partial(_blocks, path, stream, sensor, check_block(block)))


def _library(path: Path) -> Any:
    try:
        import aedat
    except ImportError as error:
        raise ImportError(f"{path}: AEDAT 4 is read by the library aedat; pip install 'safjax[events]'.") from error
    return aedat


def _blocks(path: Path, stream: int, sensor: Sensor, block: int) -> Iterator[Events]:
    decoder, parts, count = _library(path).Decoder(path), [], 0
    for begin in _packets(path):
        with _decoding(path, begin):
            packet = next(decoder, None)
        if packet is None:
            raise BadFile(path, begin, "the packet that begins here cannot be decoded.")
        if packet["stream_id"] == stream:
            parts.append(_events(path, begin, packet["events"], sensor))
            count += parts[-1].t.size
        if count >= block:
            yield joined(parts)
            parts, count = [], 0
    if parts:
        yield joined(parts)


def _events(path: Path, begin: int, packet: np.ndarray, sensor: Sensor) -> Events:
    # Coordinates are signed 16-bit numbers in the file and unsigned ones here.
    x, y = (packet[name].astype(np.int16).astype(np.int32) for name in ("x", "y"))
    # Packets are compressed: no event has a byte of its own.
    check_inside(path, x, y, sensor, lambda event: begin)
    return Events(packet["t"].astype(np.int64), x, y, packet["on"].astype(np.uint8))


def _packets(path: Path) -> list[int]:
    """The bytes at which packets (stream, size, content) begin, up to the table that the header points to."""
    end, begins = path.stat().st_size, []
    with path.open("rb") as file:
        first = file.read(len(MAGIC))
        if first != MAGIC:
            raise BadFile(path, 0, f"the first line is {first!r}, expected {MAGIC!r} of AEDAT 4.")
        length = file.read(4)
        size = int.from_bytes(length, "little")
        header = file.read(size) if size <= end else b""
        if len(length) < 4 or len(header) < size:
            raise BadFile(path, len(MAGIC), "the file ends inside its header; it was cut off.")
        table, begin = _table(path, header), file.tell()
        # A recording that was never closed has no table: its packets go to the end.
        while begin < (end if table < 0 else table):
            file.seek(begin)
            part = file.read(8)
            after = begin + 8 + (struct.unpack("<iI", part)[1] if len(part) == 8 else end)
            if after > end:
                raise BadFile(path, begin, "the file ends inside the packet that begins here; it was cut off.")
            begins.append(begin)
            begin = after
    return begins


def _table(path: Path, header: bytes) -> int:
    """Where in the file the table lies that ends it, or a negative number; the header's other field is checked too.

    The header is a flatbuffer: its second field is the place of the table, the third a description of the streams in
    XML.
    """
    try:
        root = struct.unpack_from("<I", header)[0]
        fields = root - struct.unpack_from("<i", header, root)[0]
        table = root + struct.unpack_from("<H", header, fields + 6)[0]
        text = root + struct.unpack_from("<H", header, fields + 8)[0]
        text += struct.unpack_from("<I", header, text)[0]
        length = struct.unpack_from("<I", header, text)[0]
        # The library ends the whole process at a description that is no XML.
        xml.etree.ElementTree.fromstring(header[text + 4 : text + 4 + length].decode("utf-8"))
        return struct.unpack_from("<q", header, table)[0] if table > root else -1
    except (struct.error, UnicodeDecodeError, xml.etree.ElementTree.ParseError) as error:
        raise BadFile(path, len(MAGIC), f"the header cannot be read ({error}); the file is damaged.") from error


@contextlib.contextmanager
def _decoding(path: Path, begin: int) -> Iterator[None]:
    """Errors of the library as those of a damaged file; where it gives up, its exception is no `Exception`."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, RuntimeError) or type(error).__name__ == "PanicException":
            raise BadFile(path, begin, f"the part that begins here cannot be decoded ({error}).") from error
        raise
