"""A data set on the device: batches are gathered, augmented and normalised there, from indices alone."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config import Config, ConfigError
from experiments.data import (
    DataCorrupt,
    Dataset,
    ImageFiles,
    SpikeTimes,
    Transform,
    epoch_indices,
    evaluation_batches,
    load,
    recipes,
    spike_trains,
)
from experiments.data.spike_times import TICKS
from experiments.distribution.devices import Devices

AUGMENTATIONS: dict[str, Callable[[Dataset], Transform]] = {
    "crop_flip_cutout": recipes.cifar,
    "crop_flip": recipes.fashion_mnist,
    "crop": recipes.digits,
    "none": lambda dataset: without_key(recipes.evaluation(dataset)),
}


def load_dataset(config: Config) -> Dataset | SpikeTimes | ImageFiles:
    """The data set of a run.

    Raises:
      ConfigError: it cannot be stored in the data directory.
      DataUnavailable: it is neither stored nor to be fetched.
      DataCorrupt: what is stored has other shapes, dtypes or labels than it must have.
    """
    try:
        return load(config.dataset, config.data_dir)
    except ValueError as error:
        raise DataCorrupt(f"the data set in --data-dir={config.data_dir} cannot be used: {error}") from error
    except OSError as error:
        raise ConfigError(f"--data-dir={config.data_dir} cannot be used: {error}.") from error


def full_batches(config: Config, count: int) -> int:
    """Batches of an epoch; the few examples that do not fill another are left out, other ones each time.

    Raises:
      ConfigError: all `count` training examples are less than one batch.
    """
    if config.batch_size > count:
        raise ConfigError(
            f"--batch-size={config.batch_size} is more than all {count} training examples of {config.dataset}."
        )
    return count // config.batch_size


class Batch(NamedTuple):
    """inputs, labels int32 [B], and weights float32 [B]: 1 for an example, 0 for padding.

    Inputs are images [B, H, W, C], or sequences of spikes [T, B, units]; float32, or float64 under --precision=float64.
    """

    inputs: jax.Array
    labels: jax.Array
    weights: jax.Array


class Feed:
    """The batches of a run, the same for the same seed.

    Args:
      dataset: kept on the device as it is stored: uint8 images, or uint16 spike times.
      config: batch size, augmentation, steps and seed are used.
      devices: each keeps the whole data set, and makes its part of every batch.

    Attributes:
      batches: batches of an epoch.
      input_shape, num_classes: what the net takes and gives.
      steps: for how many steps an image is shown; None where the inputs are sequences.

    Raises:
      ConfigError: the data set is smaller than one batch, or cannot be augmented, cropped or divided into steps as
        asked for.
    """

    def __init__(self, dataset: Dataset | SpikeTimes, config: Config, devices: Devices):
        self.batches = full_batches(config, len(dataset.train_labels))
        self.input_shape, self.num_classes = dataset.train[0].shape[1:], dataset.num_classes
        self._train, self._test = devices.replicate((dataset.train, dataset.test))
        self._devices = devices
        self._augment, self._prepare = _transforms(dataset, config)
        self.steps = None if isinstance(dataset, SpikeTimes) else config.steps
        self._seed, self._batch_size = config.seed, config.batch_size

    def train_batches(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The augmented batches of an epoch after the first `done`; all depend on (seed, epoch) alone."""
        weights = np.ones(self._batch_size, np.float32)
        indices = epoch_indices(self._seed, epoch, len(self._train[1]), self._batch_size)
        for number, chosen in enumerate(indices[done:], done):
            yield self._batch(self._augment, self._train, chosen, weights, (self._seed, epoch, number))

    def test_batches(self) -> Iterator[Batch]:
        """Every test example once, in batches of one shape."""
        for chosen, weights in zip(*evaluation_batches(len(self._test[1]), self._batch_size), strict=True):
            yield self._batch(self._prepare, self._test, chosen, weights, (0, 0, 0))

    def _batch(self, transform: Transform, data: Any, chosen: Any, weights: Any, place: tuple[int, int, int]) -> Batch:
        devices = self._devices
        rows = (devices.divide(devices.share(rows)) for rows in (chosen, weights))
        # Seeds go up to 2^32 - 1, Python's numbers in a jitted function to 2^31 - 1.
        return _gather(transform, *data, *rows, np.array(place, np.uint32))


def _transforms(dataset: Dataset | SpikeTimes, config: Config) -> tuple[Transform, Transform]:
    """What is done to a batch in training, and what in evaluation."""
    if config.image_size is not None:
        raise ConfigError(
            f"--image-size={config.image_size} crops image files, such as imagenet's, but the examples of "
            f"{config.dataset} have one size already. Give --image-size=None."
        )
    if config.augmentation not in (*AUGMENTATIONS, "none"):
        raise ConfigError(
            f"--augmentation={config.augmentation} crops image files, such as imagenet's, but the examples of "
            f"{config.dataset} have one size already. Give one of {', '.join(AUGMENTATIONS)}."
        )
    if isinstance(dataset, Dataset):
        return AUGMENTATIONS[config.augmentation](dataset), without_key(recipes.evaluation(dataset))
    if config.augmentation != "none":
        raise ConfigError(
            f"--augmentation={config.augmentation} changes images, but {config.dataset} holds spike times. Give "
            "--augmentation=none."
        )
    if config.steps > TICKS:
        raise ConfigError(
            f"--steps={config.steps} is too many: the spike times of {config.dataset} are stored in {TICKS} parts, and "
            f"a step has one at least. Give {TICKS} or fewer."
        )
    as_spikes = without_key(functools.partial(spike_trains, steps=config.steps))
    return as_spikes, as_spikes


def batch_key(seed: int, epoch: int, number: int) -> jax.Array:
    """The random key of a batch."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), epoch), number)


def without_key(transform: Callable[[jax.Array], jax.Array]) -> Transform:
    """A transform that draws nothing at random."""
    return lambda key, images: transform(images)


@functools.partial(jax.jit, static_argnums=0)
def _gather(
    transform: Transform,
    examples: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
    weights: jax.Array,
    place: jax.Array,
) -> Batch:
    return Batch(transform(batch_key(*place), examples[indices]), labels[indices], weights)
