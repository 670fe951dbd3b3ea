"""A data set too large for memory: image files that are read and decoded when their turn comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Encoded(NamedTuple):
    """An image file's name and content, and its label."""

    name: str
    content: bytes
    label: int


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Labelled image files for classification, read one by one in any order and from any thread.

    Attributes:
      name: the name given to `load`.
      train, test: the files of the two splits.
      num_classes: number of classes.
      mean: mean of each channel, with 255 taken as 1.
      std: standard deviation of each channel, with 255 taken as 1.
      size: height and width to which the images are usually cropped.

    Raises:
      ValueError: a split is empty.
    """

    name: str
    train: Sequence[Encoded]
    test: Sequence[Encoded]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    def __post_init__(self):
        for split in ("train", "test"):
            if not len(getattr(self, split)):
                raise ValueError(f"{self.name}: there is no {split} image. Load at least one.")
