"""DVS128 Gesture's lists: when in a recording which gesture was made, and which recordings are for training.

A table has the columns class, startTime_usec and endTime_usec, its classes count from 1; labels count from 0. Trials
may overlap and a class may come several times, so each row is a trial of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safjax.data.events import BadFile, EventFile, Events, in_order, joined

COLUMNS = "class,startTime_usec,endTime_usec"


class Trial(NamedTuple):
    """One gesture of a recording.

    Attributes:
      label: from 0.
      start: µs, where it begins.
      end: µs, where it has ended.
    """

    label: int
    start: int
    end: int


def read_trials(path: Path | str, classes: int = 11) -> list[Trial]:
    """The rows of a table of trials, in its order.

    Args:
      path: of the .csv file. Blank lines and both kinds of line ends are taken.
      classes: how many there are.

    Raises:
      BadFile: no heading, or a row that is not three whole numbers, of a class that does not exist, or that ends before
        it begins; `offset` is where the row begins.
    """
    path, found = Path(path), []
    rows = list(_lines(path))
    if not rows or rows[0][1].replace(" ", "").lstrip("\ufeff") != COLUMNS:
        raise BadFile(path, 0, f"the first line is {rows[0][1] if rows else ''!r}, expected {COLUMNS!r}.")
    for offset, row in rows[1:]:
        try:
            number, start, end = (int(cell) for cell in row.split(","))
        except ValueError:
            raise BadFile(path, offset, f"the row {row!r}, expected three whole numbers, {COLUMNS}.") from None
        if not 1 <= number <= classes:
            raise BadFile(path, offset, f"the row {row!r} is of class {number}, expected 1 to {classes}.")
        if not 0 <= start <= end:
            raise BadFile(path, offset, f"the row {row!r} ends before it begins, or begins before 0.")
        found.append(Trial(number - 1, start, end))
    return found


def read_list(path: Path | str) -> list[str]:
    """Names of recordings, without their suffix, one a line; blank lines are skipped.

    Raises:
      BadFile: a name stands there twice, or is that of a file in another folder.
    """
    path, names = Path(path), []
    for offset, line in _lines(path):
        name = line.removesuffix(".aedat")
        if name in names or Path(name).name != name:
            raise BadFile(path, offset, f"the name {line!r} for the second time, or of another folder.")
        names.append(name)
    return names


def cut(recording: EventFile, trials: list[Trial]) -> Iterator[tuple[Trial, Events]]:
    """Each trial with its events, start ≤ t < end, in the order of the trials; times stay those of the recording.

    The recording is read once and only the events of trials are kept.
    """
    parts: list[list[Events]] = [[] for _ in trials]
    for block in recording:
        for trial, kept in zip(trials, parts, strict=True):
            inside = (block.t >= trial.start) & (block.t < trial.end)
            if inside.any():
                kept.append(block.where(inside))
    for trial, kept in zip(trials, parts, strict=True):
        yield trial, in_order(joined(kept), recording.path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with the byte at which each begins."""
    offset = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise BadFile(path, offset, "a line that is no text.") from None
        if text:
            yield offset, text
        offset += len(line)
