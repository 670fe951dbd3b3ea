"""AEDAT 2.0 files of a DVS128 (CIFAR10-DVS): lines of text, then 8 bytes an event.

Each event is a big-endian address and a big-endian time in microseconds, 32 bits each. Of the address, bit 0 is the
polarity (1 = OFF), bits 1-7 one coordinate and bits 8-14 the other. The axes are those that CIFAR10-DVS is published
with: x = 127 − bits 8-14, y = 127 − bits 1-7 (H. Li et al., Frontiers in Neuroscience 2017). Bit 15 marks what is no
event of a pixel, such as a signal at the camera's socket; these are left out. A clock that has run full after 71
minutes goes on.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safjax.data.events import BadFile, EventFile, Events
from safjax.data.formats.files import BLOCK, Clock, check_block, check_whole, header_lines, records

MAGIC = b"#!AER-DAT2.0"
RECORD, SIDE = 8, 128


def open_aedat2(path: Path | str, *, block: int = BLOCK) -> EventFile:
    """A recording of a DVS128 in AEDAT 2.0.

    Args:
      path: of the file.
      block: events that are read at once.

    Raises:
      BadFile: the file does not begin with its format's name, is cut off, or (when events are read) has an address that
        no DVS128 sends.
    """
    path = Path(path)
    with path.open("rb") as file:
        lines = list(header_lines(file, path, b"#"))
        start = file.tell()
    if not lines or lines[0] != MAGIC:
        raise BadFile(
            path, 0, f"the first line is {lines[0][:40] if lines else b''!r}, expected {MAGIC!r} of AEDAT 2.0."
        )
    check_whole(path, start, RECORD, "an event")
    return EventFile(path, "AEDAT 2.0", (SIDE, SIDE), functools.partial(_blocks, path, start, check_block(block)))


def _blocks(path: Path, start: int, block: int) -> Iterator[Events]:
    clock = Clock(32)
    for begin, words in records(path, start, (">u4", 2), block):
        address, t = words[:, 0].astype(np.uint32), clock(words[:, 1])
        if address.max() >> 16:
            wrong = int(np.argmax(address >> 16 > 0))
            raise BadFile(
                path, begin + RECORD * wrong,
                f"the address {address[wrong]:#010x}, expected at most 15 bits, as a DVS128 sends; recordings of other "
                "cameras in AEDAT 2.0 are not read.",
            )  # fmt: skip
        x = SIDE - 1 - (address >> 8 & 127).astype(np.int32)
        y = SIDE - 1 - (address >> 1 & 127).astype(np.int32)
        found = Events(t, x, y, 1 - (address & 1).astype(np.uint8))
        yield found.where(address >> 15 == 0) if (address >> 15).any() else found
