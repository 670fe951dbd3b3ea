"""The rows of the input pipeline: how fast batches for training can be had."""

import io
import itertools
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from experiments.benchmark.rows import BATCHES
from experiments.benchmark.work import USUAL, Prepared, Work
from experiments.config import Data, Run
from experiments.data import Encoded, ImageFiles, Images
from experiments.distribution import devices
from experiments.training.feed import Feed

CIFAR = 50_000
"""Training images of CIFAR-10."""

PHOTO = (500, 375)
"""Width and height of an ordinary file of ImageNet."""

DISTINCT = 16
"""Files; they come again and again under other names."""

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def prepare(work: Work, method: str) -> Prepared:
    """A turn is `BATCHES` batches, from nothing prepared to all on the device; what it returns is their last mean.

    Args:
      work: batch size, steps and image size are used.
      method: memory or files.
    """
    feed, epochs = _in_memory(work) if method == "memory" else _files(work), itertools.count()

    def step() -> float:
        for batch in itertools.islice(feed.train_batches(next(epochs)), BATCHES):
            jax.block_until_ready(batch)
        return float(batch.inputs.mean())

    return Prepared(step)


def _in_memory(work: Work) -> Feed:
    """Random bytes of CIFAR-10's shape, in its recipe."""
    rng, count = np.random.default_rng(0), max(CIFAR, BATCHES * work.batch_size)
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, count, np.int32)
    dataset = Images("cifar10", images, labels, images[:1], labels[:1], 10, MEAN, STD)
    data = Data(augmentation="crop_flip_cutout", batch_size=work.batch_size, steps=work.steps)
    return Feed(dataset, data, 0, devices.choose(Run(), data.batch_size))


def _files(work: Work) -> Feed:
    """JPEG files held in memory, in ImageNet's recipe, as many as a turn needs: none is decoded before its turn."""
    train = _photos(BATCHES * work.batch_size)
    dataset = ImageFiles("imagenet", train, train[:1], USUAL["resnet"].classes, MEAN, STD, work.image_size)
    data = Data(
        dataset="imagenet",
        augmentation="resized_crop_flip",
        batch_size=work.batch_size,
        steps=work.steps,
        image_size=work.image_size,
    )
    return Feed(dataset, data, 0, devices.choose(Run(), data.batch_size))


def _photos(count: int) -> Sequence[Encoded]:
    contents = [photo(seed) for seed in range(min(DISTINCT, count))]
    return [Encoded(f"{number}.JPEG", contents[number % DISTINCT], number % 1000) for number in range(count)]


def photo(seed: int) -> bytes:
    """A JPEG file with smooth shapes and some grain, of about the mean size of ImageNet's, 115 kB.

    1,281,167 training images take 147,897,477,120 bytes (https://image-net.org/download-images).
    """
    rng, (width, height) = np.random.default_rng(seed), PHOTO
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(PHOTO, Image.Resampling.BICUBIC)
    grain = rng.normal(scale=24, size=(height, width, 1))
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
