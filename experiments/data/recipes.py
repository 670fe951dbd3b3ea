"""What each data set's training does to a batch of images, and what evaluation does."""

from collections.abc import Callable

import jax

from experiments.data.augment import (
    Transform,
    compose,
    cutout,
    normalise,
    random_crop,
    random_flip,
)
from experiments.data.dataset import Dataset
from experiments.data.image_files import ImageFiles


def cifar(dataset: Dataset) -> Transform:
    """CIFAR's training: crop with padding 4, flip, cutout, normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    # The published order is crop, cutout, flip. Flipping first changes no probability, because the
    # rectangle is as likely on the left as on the right, and is the fast order (see `cutout`).
    return compose(random_crop(4), random_flip, cutout(), _normaliser(dataset))


def fashion_mnist(dataset: Dataset) -> Transform:
    """Fashion-MNIST's training: crop with padding 2, flip, normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_crop(2), random_flip, _normaliser(dataset))


def digits(dataset: Dataset) -> Transform:
    """The digits' training: crop with padding 1 and normalise; a mirrored digit is none.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_crop(1), _normaliser(dataset))


def imagenet(dataset: ImageFiles) -> Transform:
    """ImageNet's training, after the random crop (see `experiments.data.crops`): flip and normalise.

    Returns:
      A function (key, images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    return compose(random_flip, _normaliser(dataset))


def evaluation(dataset: Dataset | ImageFiles) -> Callable[[jax.Array], jax.Array]:
    """Evaluation of every data set: normalise.

    Returns:
      A function (images uint8 [B, H, W, C]) -> floats [B, H, W, C].
    """
    mean, std = dataset.mean, dataset.std
    return lambda images: normalise(images, mean, std)


def _normaliser(dataset: Dataset | ImageFiles) -> Transform:
    # Takes the two tuples out: a captured data set would stay in memory with the function.
    mean, std = dataset.mean, dataset.std
    return lambda key, image: normalise(image, mean, std)
