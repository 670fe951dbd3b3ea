"""The one value that every loader returns, and the checks that it has passed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data.examples import Examples, Made, Parts, Shape, refuse_unused
from experiments.data.images.augment import Transform
from experiments.data.images.augmentations import AUGMENTATIONS, evaluation, without_key


class Splits(NamedTuple):
    """The four arrays of a data set.

    Attributes:
      train_images: uint8 [N, H, W, C].
      train_labels: int32 [N].
      test_images: uint8 [M, H, W, C].
      test_labels: int32 [M].
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images for classification, held as arrays.

    Attributes:
      name: the name given to `load`.
      train_images: uint8 [N, H, W, C], 0 is black and 255 is white.
      train_labels: int32 [N], in 0 .. num_classes - 1.
      test_images: uint8 [M, H, W, C].
      test_labels: int32 [M].
      num_classes: number of classes.
      mean: mean of each channel, with 255 taken as 1.
      std: standard deviation of each channel, with 255 taken as 1.

    Raises:
      ValueError: a split is empty, or a shape, a dtype or a label is not as above.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels."""
        return self.train_images, self.train_labels

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images and labels."""
        return self.test_images, self.test_labels

    def parts(self, data: Data) -> Parts:
        """As of `DataSet`. The images lie on the devices as uint8; batches are gathered and augmented there."""
        refuse_unused(data, self.name)
        if data.image_size is not None:
            raise ConfigError(
                f"--image-size={data.image_size} crops image files, such as imagenet's, but the examples of "
                f"{self.name} have one size already. Give --image-size=None."
            )
        if data.augmentation not in AUGMENTATIONS:
            raise ConfigError(
                f"--augmentation={data.augmentation} crops image files, such as imagenet's, but the examples of "
                f"{self.name} have one size already. Give one of {', '.join(AUGMENTATIONS)}."
            )
        steps = shown_steps(data.steps, self.name)
        train = _gathered(AUGMENTATIONS[data.augmentation](self), self.train)
        plain = without_key(evaluation(self))
        test, untouched = _gathered(plain, self.test), _gathered(plain, self.train)
        return Parts(train, test, untouched, Shape(self.train_images.shape[1:], self.num_classes), steps)

    def __post_init__(self):
        _check_images(f"{self.name}: train_images", self.train_images)
        _check_images(f"{self.name}: test_images", self.test_images)
        train_shape, test_shape = self.train_images.shape[1:], self.test_images.shape[1:]
        if train_shape != test_shape:
            raise ValueError(
                f"{self.name}: training images are {train_shape} and test images {test_shape}; "
                "one network sees both, so resize one of them."
            )
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            check_labels(f"{self.name}: {split}_labels", labels, len(images), self.num_classes)
        _check_statistics(self.name, self.mean, self.std, train_shape[-1])


def shown_steps(steps: int | None, name: str) -> int:
    """For how many steps an image is shown, or spike times are divided into.

    Raises:
      ConfigError: it is not said.
    """
    if steps is None:
        raise ConfigError(
            f"--steps=None is for sequences with lengths of their own, which {name} has not. Give a number of steps."
        )
    return steps


def _gathered(transform: Transform, data: tuple[np.ndarray, np.ndarray]) -> Examples:
    def make(key: jax.Array, held: Any, indices: jax.Array) -> Made:
        images, labels = held
        return Made(transform(key, images[indices]), labels[indices])

    return Examples(len(data[1]), make, held=data)


def _check_images(what: str, images: np.ndarray) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"{what} has shape {images.shape}, expected [N, H, W, C]; "
            "a grey image needs a last axis of size 1: images[..., None]."
        )
    if images.size == 0:
        raise ValueError(f"{what} has shape {images.shape}: it is empty. Load at least one image.")
    if images.dtype != np.uint8:
        raise ValueError(
            f"{what} has dtype {images.dtype}, expected uint8 in 0 .. 255; "
            "normalise on the device, after the augmentation."
        )


def check_labels(what: str, labels: np.ndarray, count: int, num_classes: int) -> None:
    """Refuses labels that are not int32 [count] in 0 .. num_classes - 1."""
    if labels.shape != (count,):
        raise ValueError(f"{what} has shape {labels.shape}, expected ({count},): one class index per image.")
    if labels.dtype != np.int32:
        raise ValueError(f"{what} has dtype {labels.dtype}, expected int32; write labels.astype(np.int32).")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{what} lies in {low} .. {high}, expected 0 .. {num_classes - 1} "
            f"for {num_classes} classes; count classes from 0."
        )


def _check_statistics(name: str, mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> None:
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"{name}: mean has {len(mean)} entries and std {len(std)}, "
            f"expected one for each of the {channels} channels."
        )
    if min(std) <= 0:
        raise ValueError(f"{name}: std is {std}; every channel needs a positive one.")
