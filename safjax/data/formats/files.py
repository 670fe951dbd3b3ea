"""Pieces that several binary formats share: records of one size, lines of a header, clocks that wrap."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from safjax.data.events import BadFile

BLOCK = 1 << 18
"""Records that are read at once unless a caller says otherwise."""

LONGEST_LINE = 1 << 16


def check_block(block: int) -> int:
    """The number of records in a block, refused if below 1."""
    if block < 1:
        raise ValueError(f"block={block}: expected a number of records, 1 or more.")
    return block


def check_whole(path: Path, start: int, size: int, what: str) -> None:
    """Refuses a file whose bytes from `start` on are not a whole number of records of `size` bytes."""
    end = path.stat().st_size
    rest = (end - start) % size
    if end < start or rest:
        raise BadFile(path, end - rest, f"the file ends inside {what} of {size} bytes; it was cut off.")


def records(path: Path, start: int, dtype: npt.DTypeLike, block: int) -> Iterator[tuple[int, np.ndarray]]:
    """Arrays of at most `block` records, each with the byte at which it begins."""
    with path.open("rb") as file:
        file.seek(start)
        while True:
            begin = file.tell()
            found = np.fromfile(file, dtype, count=block)
            if not found.size:
                return
            yield begin, found


def header_lines(file: BinaryIO, path: Path, mark: bytes, doubtful: bool = False) -> Iterator[bytes]:
    """The lines at the beginning of a file that start with `mark`; the file is left at the first byte behind them.

    Args:
      file: at its beginning.
      path: of the file.
      mark: of a line.
      doubtful: data may begin with the mark too: what holds control characters, or is no UTF-8, is no line then.
    """
    while True:
        begin = file.tell()
        line = file.readline(LONGEST_LINE)
        if not line.startswith(mark) or (doubtful and not _text(line)):
            file.seek(begin)
            return
        if not line.endswith(b"\n"):
            raise BadFile(path, begin, "the file ends inside its header; it was cut off.")
        yield line.strip()


def _text(line: bytes) -> bool:
    try:
        return all(c.isprintable() or c in "\t\r\n" for c in line.decode("utf-8"))
    except UnicodeDecodeError:
        return False


class Clock:
    """A counter of `bits` bits that begins anew when it is full: t + 2^bits · (times that it was full).

    A value smaller than the one before it by more than half the range is a new round. One larger by as much belongs to
    the round before, since events out of order may straddle the moment; the first round has none before it.

    Args:
      bits: of the counter.
      straddles: False for a clock that never goes back: then a value larger by half the range is a long silence.
    """

    def __init__(self, bits: int, straddles: bool = True) -> None:
        self.bits, self.straddles, self.rounds = bits, straddles, 0
        self.last: int | None = None

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """int64 times of the next values."""
        t = t.astype(np.int64)
        if not t.size:
            return t
        half = 1 << (self.bits - 1)
        change = np.diff(t, prepend=t[0] if self.last is None else self.last)
        self.last = int(t[-1])
        begin = self.rounds << self.bits
        if change.min() >= -half and change.max() <= half:
            return t + begin if begin else t
        offset = np.full(t.size, begin, np.int64)
        for jump in np.flatnonzero(np.abs(change) > half):
            self.rounds = self.rounds + 1 if change[jump] < 0 else max(self.rounds - self.straddles, 0)
            offset[jump:] = self.rounds << self.bits
        return t + offset


def held(sets: np.ndarray, value: np.ndarray, before: int, at: np.ndarray) -> tuple[np.ndarray, int]:
    """The value that was set last before each of the words `at`, and at the end of all; int64.

    Args:
      sets: bool [N], the words that set it.
      value: what they set it to, one each.
      before: what holds until the first of them.
      at: indices of words, ascending.
    """
    values = np.concatenate([np.array([before], np.int64), value])
    return values[np.cumsum(sets, dtype=np.int32)[at]], int(values[-1])
