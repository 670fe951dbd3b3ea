"""A data set on the device: batches are gathered, augmented and normalised there, from indices alone."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from experiments.config import Config, ConfigError
from experiments.data import Dataset, Transform, epoch_indices, evaluation_batches, load, recipes

AUGMENTATIONS: dict[str, Callable[[Dataset], Transform]] = {
    "crop_flip_cutout": recipes.cifar,
    "crop_flip": recipes.fashion_mnist,
    "crop": recipes.digits,
    "none": lambda dataset: _without_key(recipes.evaluation(dataset)),
}


def load_dataset(config: Config) -> Dataset:
    """The data set of a run.

    Raises:
      ConfigError: it cannot be stored in the data directory, or is smaller than one batch.
      DataUnavailable: it is neither stored nor to be fetched.
    """
    try:
        dataset = load(config.dataset, config.data_dir)
    except OSError as error:
        raise ConfigError(f"--data-dir={config.data_dir} cannot be used: {error}.") from error
    count = len(dataset.train_labels)
    if config.batch_size > count:
        raise ConfigError(
            f"--batch-size={config.batch_size} is more than all {count} training images of {config.dataset}."
        )
    return dataset


class Batch(NamedTuple):
    """images float32 [B, H, W, C], labels int32 [B], and weights float32 [B]: 1 for an example, 0 for padding."""

    images: jax.Array
    labels: jax.Array
    weights: jax.Array


class Feed:
    """The batches of a run, the same for the same seed.

    Args:
      dataset: kept on the device as uint8.
      config: batch size, augmentation and seed are used.
    """

    def __init__(self, dataset: Dataset, config: Config):
        self._train = jax.device_put((dataset.train_images, dataset.train_labels))
        self._test = jax.device_put((dataset.test_images, dataset.test_labels))
        self._augment = AUGMENTATIONS[config.augmentation](dataset)
        self._prepare = _without_key(recipes.evaluation(dataset))
        self._seed, self._batch_size = config.seed, config.batch_size
        self.batches = len(dataset.train_labels) // config.batch_size
        """Batches of an epoch; the few images that do not fill another are left out, other ones each time."""

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The augmented batches of an epoch; their order and augmentation depend on (seed, epoch) alone."""
        weights = np.ones(self._batch_size, np.float32)
        indices = epoch_indices(self._seed, epoch, len(self._train[1]), self._batch_size)
        for number, chosen in enumerate(indices):
            yield _gather(self._augment, *self._train, chosen, weights, (self._seed, epoch, number))

    def test_batches(self) -> Iterator[Batch]:
        """Every test image once, in batches of one shape."""
        for chosen, weights in zip(*evaluation_batches(len(self._test[1]), self._batch_size), strict=True):
            yield _gather(self._prepare, *self._test, chosen, weights, (0, 0, 0))


def _without_key(transform: Callable[[jax.Array], jax.Array]) -> Transform:
    return lambda key, images: transform(images)


@functools.partial(jax.jit, static_argnums=0)
def _gather(
    transform: Transform,
    images: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
    weights: jax.Array,
    place: tuple[int, int, int],
) -> Batch:
    seed, epoch, number = place
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), epoch), number)
    return Batch(transform(key, images[indices]), labels[indices], weights)
