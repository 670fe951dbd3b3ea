"""A data set in a folder: which file is which sample, of which class and which split. Nothing is read but names and
lists."""

import dataclasses
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safjax.data.events import BadFile, Sensor


class Sample(NamedTuple):
    """One labelled recording, or a part of one.

    Attributes:
      path: of the file.
      label: from 0.
      start: µs where the part begins; None for the whole recording.
      end: µs where it has ended.
      place: which one it is in a file of many samples.
    """

    path: Path
    label: int
    start: int | None = None
    end: int | None = None
    place: int | None = None


class Incomplete(UserWarning):
    """A folder does not hold as many samples as were published."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """A data set.

    Attributes:
      name: of the data set.
      rule: in words, how samples are divided into splits: numbers of different rules are not to be compared.
      classes: names, in the order of the labels.
      sensor: (height, width), or None where there is none or each file has its own.
      splits: samples by the name of their split.
      mirrored: the label of a mirror image by the label of a sample; None where mirroring leaves the classes.
      published: how many samples each split should have, where that is known; a warning tells of other numbers.

    Raises:
      BadFile: a label is that of no class.
      FileNotFoundError: there are no samples at all.
    """

    name: str
    rule: str
    classes: tuple[str, ...]
    sensor: Sensor | None
    splits: dict[str, list[Sample]]
    mirrored: tuple[int, ...] | None = None
    published: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [s for samples in self.splits.values() for s in samples if not 0 <= s.label < len(self.classes)]
        if wrong:
            raise BadFile(wrong[0].path, 0, f"label {wrong[0].label} of {self.name}'s {len(self.classes)} classes.")
        if not any(self.splits.values()):
            raise FileNotFoundError(f"{self.name}: no sample is in the folder.")
        other = {s: n for s, n in self.published.items() if n != len(self.splits[s])}
        if other:
            numbers = ", ".join(f"{len(self.splits[split]):,} of {number:,} {split}" for split, number in other.items())
            warnings.warn(f"{self.name}: not as it was published, {numbers} samples.", Incomplete, stacklevel=4)

    def labels(self, split: str) -> np.ndarray:
        """int32 [samples]."""
        return np.array([sample.label for sample in self.splits[split]], np.int32)

    def __str__(self) -> str:
        """Name, rule, and the sizes of the splits."""
        sizes = ", ".join(f"{name} {len(samples):,}" for name, samples in self.splits.items())
        return f"{self.name}: {sizes} samples of {len(self.classes)} classes ({self.rule})"


def by_number(paths: Iterable[Path]) -> list[Path]:
    """Paths with the numbers in their names as numbers: 2 comes before 10."""
    return sorted(paths, key=lambda path: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", path.name)])


def split_folders(folder: Path | str, names: Sequence[str], what: str) -> list[Path]:
    """Folders of those names in a folder.

    Raises:
      FileNotFoundError: one is missing; the layout is told.
    """
    folder = Path(folder)
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: no folder {missing[0]!r}. Expected {what} as published, the folders {', '.join(names)}."
        )
    return [folder / name for name in names]


def classed(folder: Path | str, classes: Sequence[str], pattern: str, what: str) -> list[Sample]:
    """The files in the folder of each class, in the order of their numbers.

    Raises:
      FileNotFoundError: no class has a folder; the layout is told.
    """
    folder = Path(folder)
    if not any((folder / name).is_dir() for name in classes):
        names = ", ".join(classes[:3])
        raise FileNotFoundError(f"{folder}: expected {what} as it was published, a folder for each class: {names}, ...")
    return [
        Sample(path, label) for label, name in enumerate(classes) for path in by_number((folder / name).glob(pattern))
    ]
