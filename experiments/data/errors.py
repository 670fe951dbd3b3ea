"""The two ways in which a data set can fail to be there."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class DataUnavailable(RuntimeError):
    """A data set is neither stored locally nor to be fetched; the message says what to do."""


class DataCorrupt(DataUnavailable):
    """A file of a data set is there, but it is not the published one."""


class ByHand(NamedTuple):
    """A file that a user can fetch and put in place.

    Attributes:
      url: where the file is published.
      path: where it is looked for.
      sha256: hexadecimal digest that the file must have.
    """

    url: str
    path: Path
    sha256: str


def unavailable(name: str, tried: Iterable[str], files: Iterable[ByHand]) -> DataUnavailable:
    """The exception that explains a missing data set.

    Args:
      name: the data set's name, as given to `load`.
      tried: one line for each source that was looked at, with what came of it.
      files: the files that a user may place by hand.

    Returns:
      A `DataUnavailable` (not raised) with the sources, the files and an alternative.
    """
    lines = [f"the data set {name!r} is not stored here and could not be fetched.", "Tried:"]
    lines += [f"  - {attempt}" for attempt in tried]
    lines += ["To place it by hand, fetch each file and save it under the path on its right:"]
    for file in files:
        lines += [f"  - {file.url} -> {file.path}", f"    (SHA-256 {file.sha256})"]
    lines += ["To go on without any download, use the data set 'digits'."]
    return DataUnavailable("\n".join(lines))
