"""A data set of image files as batches: a few threads read, decode and crop what the device will need next."""

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np

from experiments.config import Config, ConfigError
from experiments.data import DataCorrupt, Encoded, ImageFiles, Transform, epoch_indices, evaluation_batches, recipes
from experiments.data.crops import Crop, center_crop, decode, random_resized_crop
from experiments.distribution.devices import Devices
from experiments.feed import Batch, batch_key, full_batches, without_key

Read = Callable[[int], tuple[np.ndarray, int]]

CROPS: dict[str, tuple[Crop, Callable[[ImageFiles], Transform]]] = {
    "resized_crop_flip": (random_resized_crop, recipes.imagenet),
    "none": (center_crop, lambda dataset: without_key(recipes.evaluation(dataset))),
}
"""Augmentations of image files: what is done on the host to each image, and on the device to a batch."""

AHEAD = 3
"""Batches that are decoded while the device works on another."""


class StreamedFeed:
    """The batches of a run, the same for the same seed; has the attributes and methods of `Feed`.

    Args:
      dataset: read anew in every epoch.
      config: batch size, augmentation, image size, steps and seed are used.
      devices: each makes its part of every batch, from images that its own process reads.

    Raises:
      ConfigError: the data set is smaller than one batch, or cannot be augmented as asked for.
    """

    def __init__(self, dataset: ImageFiles, config: Config, devices: Devices):
        if config.augmentation not in CROPS:
            raise ConfigError(
                f"--augmentation={config.augmentation} is for images of one size, but those of {config.dataset} have "
                f"many. Give one of {', '.join(CROPS)}."
            )
        self.batches = full_batches(config, len(dataset.train))
        size = config.image_size or dataset.size
        self.input_shape, self.num_classes, self.steps = (size, size, 3), dataset.num_classes, config.steps
        self._dataset, self._seed, self._batch_size = dataset, config.seed, config.batch_size
        self._devices = devices
        self._crop, augmentation = CROPS[config.augmentation]
        self._augment, self._prepare = augmentation(dataset), CROPS["none"][1](dataset)
        self._pool = ThreadPoolExecutor(os.cpu_count(), "decode")

    def train_batches(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The augmented batches of an epoch after the first `done`; all depend on (seed, epoch) alone."""
        weights = np.ones(self._batch_size, np.float32)
        batches = epoch_indices(self._seed, epoch, len(self._dataset.train), self._batch_size)
        read = functools.partial(self._read, self._dataset.train, self._crop, epoch)
        for number, decoded in enumerate(self._decoded(read, batches[done:]), done):
            yield self._batch(self._augment, decoded, weights, (self._seed, epoch, number))

    def test_batches(self) -> Iterator[Batch]:
        """Every test image once, in batches of one shape."""
        indices, weights = evaluation_batches(len(self._dataset.test), self._batch_size)
        read = functools.partial(self._read, self._dataset.test, center_crop, 0)
        for decoded, weight in zip(self._decoded(read, indices), weights, strict=True):
            yield self._batch(self._prepare, decoded, weight, (0, 0, 0))

    def _batch(
        self, transform: Transform, decoded: tuple[np.ndarray, ...], weights: np.ndarray, place: tuple[int, int, int]
    ) -> Batch:
        rows = (*decoded, self._devices.share(weights))
        return _finish(transform, *map(self._devices.divide, rows), np.array(place, np.uint32))

    def _read(self, files: Sequence[Encoded], crop: Crop, epoch: int, index: int) -> tuple[np.ndarray, int]:
        """The pixels and the label of one image; what is random depends on (seed, epoch, index) alone."""
        file = files[index]
        try:
            image = decode(file.content)
        except OSError as error:
            raise DataCorrupt(f"{self._dataset.name}: {file.name} is not a complete image ({error}).") from error
        if not 0 <= file.label < self.num_classes:
            raise DataCorrupt(
                f"{self._dataset.name}: {file.name} has the label {file.label}, expected 0 .. {self.num_classes - 1}."
            )
        return crop(image, self.input_shape[0], np.random.default_rng((self._seed, epoch, index))), file.label

    def _decoded(self, read: Read, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """images uint8 [B, H, W, 3] and labels int32 [B] of each batch of indices, with `AHEAD` more on the way.

        B is this process's share of the batch.
        """
        waiting: deque[list[Future]] = deque()
        try:
            for indices in batches:
                waiting.append([self._pool.submit(read, int(index)) for index in self._devices.share(indices)])
                if len(waiting) > AHEAD:
                    yield _stacked(waiting.popleft())
            while waiting:
                yield _stacked(waiting.popleft())
        finally:
            # Reached early when training is interrupted: what is not wanted any more need not be decoded.
            for future in itertools.chain.from_iterable(waiting):
                future.cancel()


def _stacked(futures: list[Future]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*(future.result() for future in futures), strict=True)
    return np.stack(images), np.array(labels, np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _finish(transform: Transform, images: jax.Array, labels: jax.Array, weights: jax.Array, place: jax.Array) -> Batch:
    return Batch(transform(batch_key(*place), images), labels, weights)
