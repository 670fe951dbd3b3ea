"""A data set too large for memory: image files that are read and decoded when their turn comes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.errors import DataCorrupt
from experiments.data.examples import Examples, Made, Parts, Shape, refuse_unused
from experiments.data.images.augment import Transform
from experiments.data.images.augmentations import Coloured, evaluation, imagenet, without_key
from experiments.data.images.crops import Crop, center_crop, decode, random_resized_crop
from experiments.data.images.images import shown_steps


class Encoded(NamedTuple):
    """An image file's name and content, and its label."""

    name: str
    content: bytes
    label: int


CROPS: dict[str, tuple[Crop, Callable[[Coloured], Transform]]] = {
    "resized_crop_flip": (random_resized_crop, imagenet),
    "none": (center_crop, lambda dataset: without_key(evaluation(dataset))),
}
"""Augmentations of image files: what is done on the host to each image, and on the device to a batch."""


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

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`. Files are read, decoded and cropped on the host; batches are normalised on the device."""
        refuse_unused(data, self.name)
        if data.augmentation not in CROPS:
            raise ConfigError(
                f"--augmentation={data.augmentation} is for images of one size, but those of {self.name} have "
                f"many. Give one of {', '.join(CROPS)}."
            )
        size, steps = data.image_size or self.size, shown_steps(data.steps, self.name)
        train = self._decoded(self.train, *CROPS[data.augmentation], size)
        test = self._decoded(self.test, *CROPS["none"], size)
        plain = self._decoded(self.train, *CROPS["none"], size)
        return Parts(train, test, plain, Shape((size, size, 3), self.num_classes), steps)

    def _decoded(
        self, files: Sequence[Encoded], crop: Crop, transform: Callable[[Coloured], Transform], size: int
    ) -> Examples:
        """The files, with their pixels read on the host and what follows done on the device."""
        finish = transform(self)

        def read(index: int, steps: int | None, seed: tuple[int, ...]) -> tuple[np.ndarray, np.int32]:
            file = files[index]
            try:
                image = decode(file.content)
            except OSError as error:
                raise DataCorrupt(f"{self.name}: {file.name} is not a complete image ({error}).") from error
            if not 0 <= file.label < self.num_classes:
                raise DataCorrupt(
                    f"{self.name}: {file.name} has the label {file.label}, expected 0 .. {self.num_classes - 1}."
                )
            return crop(image, size, np.random.default_rng(seed)), np.int32(file.label)

        def make(key: jax.Array, held: Any, rows: tuple[jax.Array, jax.Array]) -> Made:
            images, labels = rows
            return Made(finish(key, images), labels)

        return Examples(len(files), make, read=read)
