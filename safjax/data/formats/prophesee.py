"""The header of Prophesee's files: lines that begin with %, names and values."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safjax.data.events import BadFile, Sensor
from safjax.data.formats.files import header_lines


class Header(NamedTuple):
    """What the lines say.

    Attributes:
      fields: values by name, names in lower case.
      start: the byte behind the last line.
    """

    fields: dict[str, str]
    start: int

    @property
    def version(self) -> str | None:
        """ "2.0", "2.1", "3.0" or whatever else the file says that its events are coded in; None if it does not."""
        if "evt" in self.fields:
            return self.fields["evt"]
        named = re.match(r"EVT(\d)(\d?)", self.fields.get("format", ""))
        return f"{named[1]}.{named[2] or 0}" if named else None

    @property
    def sensor(self) -> Sensor | None:
        """(height, width), if the file says."""
        geometry = re.fullmatch(r"(\d+)x(\d+)", self.fields.get("geometry", ""))
        if geometry:
            return int(geometry[2]), int(geometry[1])
        named = dict(re.findall(r"(width|height)=(\d+)", self.fields.get("format", "")))
        sizes = [named.get(name) or self.fields.get(name) for name in ("height", "width")]
        return (int(sizes[0]), int(sizes[1])) if all(s and s.isdecimal() for s in sizes) else None  # type: ignore


def header(path: Path, kind: str) -> Header:
    """The lines at the beginning of a file.

    Raises:
      BadFile: there are none, or the file ends inside one.
    """
    fields = {}
    with path.open("rb") as file:
        for line in header_lines(file, path, b"%", doubtful=True):
            name, _, value = line[1:].decode("utf-8").strip().partition(" ")
            fields[name.lower()] = value.strip()
            if name.lower() == "end":
                break
        start = file.tell()
    if not fields:
        raise BadFile(path, 0, f"no line that begins with %, as a file of {kind} has.")
    return Header(fields, start)


def offset(begin: int, size: int, words: np.ndarray, event: int) -> int:
    """The byte of an event's word: of words of so many bytes from `begin` on, `words` has that of each event."""
    return begin + size * int(words[event])


def check_version(path: Path, found: Header, expected: str) -> None:
    """Refuses a file that says that its events are coded in another way."""
    if found.version not in (None, expected):
        raise BadFile(path, 0, f"the header says that the events are of EVT {found.version}, expected EVT {expected}.")
