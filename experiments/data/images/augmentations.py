"""What each data set's training does to a batch of images, and what evaluation does."""

from collections.abc import Callable
from typing import Protocol

import jax

from experiments.data.images.augment import (
    Transform,
    compose,
    cutout,
    normalise,
    random_crop,
    random_flip,
)


class Coloured(Protocol):
    """Images whose channels have a mean and a standard deviation, with 255 taken as 1."""

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...


def cifar(dataset: Coloured) -> Transform:
    """CIFAR's training: crop with padding 4, flip, cutout, normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    # The published order is crop, cutout, flip. Flipping first changes no probability, because the
    # rectangle is as likely on the left as on the right, and is the fast order (see `cutout`).
    return compose(random_crop(4), random_flip, cutout(), _normaliser(dataset))


def fashion_mnist(dataset: Coloured) -> Transform:
    """Fashion-MNIST's training: crop with padding 2, flip, normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_crop(2), random_flip, _normaliser(dataset))


def digits(dataset: Coloured) -> Transform:
    """The digits' training: crop with padding 1 and normalise; a mirrored digit is none.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_crop(1), _normaliser(dataset))


def imagenet(dataset: Coloured) -> Transform:
    """ImageNet's training, after the random crop (see `experiments.data.images.crops`): flip and normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_flip, _normaliser(dataset))


def evaluation(dataset: Coloured) -> Callable[[jax.Array], jax.Array]:
    """Evaluation of every data set: normalise.

    Returns:
      A function (images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    mean, std = dataset.mean, dataset.std
    return lambda images: normalise(images, mean, std)


def _normaliser(dataset: Coloured) -> Transform:
    # Takes the two tuples out: a captured data set would stay in memory with the function.
    mean, std = dataset.mean, dataset.std
    return lambda key, image: normalise(image, mean, std)


def without_key(transform: Callable[[jax.Array], jax.Array]) -> Transform:
    """A transform that draws nothing at random."""
    return lambda key, images: transform(images)


AUGMENTATIONS: dict[str, Callable[[Coloured], Transform]] = {
    "crop_flip_cutout": cifar,
    "crop_flip": fashion_mnist,
    "crop": digits,
    "none": lambda dataset: without_key(evaluation(dataset)),
}
"""Of images of one size: what training does to them."""
