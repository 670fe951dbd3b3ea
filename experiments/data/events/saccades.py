"""Images before a simulated event camera that moves as N-MNIST's did: handwritten digits, which need no download, and
Fashion-MNIST.

Images are split first and recorded afterwards, each with a seed of its own, by one camera (`safjax.data.Camera`): no
recording depends on another.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.config import Data
from experiments.console.messages import say
from experiments.data.events.binned import Binned, Events
from experiments.data.events.lines import memory, of_bins, of_splits
from experiments.data.images.cache import cached
from experiments.data.images.digits import load_digits
from experiments.data.images.images import Splits
from experiments.data.images.published import load_fashion_mnist
from safjax.data import Camera, Grid, Split, by_duration

CAMERA = Camera(sensor=(20, 20), reach=4.0)
"""N-MNIST's movement for images of 16 × 16: 16 / 28 of its reach."""
FASHION_CAMERA = Camera()
"""Of images of 28 × 28."""
CLIP, TIME = 4, 3 * CAMERA.saccade
FASHION = 6000, 1000
"""Images of Fashion-MNIST that are recorded, the first of each part: one takes 25 ms."""
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
APART = "split before they are recorded, each with a seed of its own"


def load(data_dir: Path) -> Events:
    """The digits; nothing is stored."""
    return Events("saccades", ("pool", "chain"), record)


def load_fashion(data_dir: Path) -> Events:
    """6,000 and 1,000 images of Fashion-MNIST; their frames are stored beside the images."""
    images = load_fashion_mnist(data_dir)
    (train, test), folder = FASHION, data_dir / "arrays"
    some = Splits(
        images.train_images[:train], images.train_labels[:train], images.test_images[:test], images.test_labels[:test]
    )

    def make(data: Data, steps: int) -> Binned:
        grid = Grid(FASHION_CAMERA.sensor, pool=data.pool or 1, clip=CLIP)
        settings = hashlib.sha256(repr((FASHION_CAMERA, grid, TIME / steps, FASHION)).encode()).hexdigest()[:16]

        def record_all() -> Splits:
            say(f"fashion_saccades: records {train + test:,} images, which takes some minutes; later starts read them")
            return Splits(*(array for split in _both(some, FASHION_CAMERA, grid, steps) for array in split[:2]))

        kept = cached(folder / f"fashion_saccades-{settings}", record_all)
        splits = Split(kept.train_images, kept.train_labels, 0), Split(kept.test_images, kept.test_labels, 0)
        return _binned("fashion_saccades", splits, grid, steps, CLOTHES)

    return Events("fashion_saccades", ("pool", "chain"), make)


def record(data: Data, steps: int) -> Binned:
    """The recordings of all digits in T bins; it takes some seconds."""
    digits, grid = load_digits(), Grid(CAMERA.sensor, pool=data.pool or 1, clip=CLIP)
    some = Splits(digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    return _binned("saccades", _both(some, CAMERA, grid, steps), grid, steps, tuple("0123456789"))


def _both(images: Splits, camera: Camera, grid: Grid, steps: int) -> tuple[Split, Split]:
    """The recordings of both parts: every image has its own seed, none of the test one of training."""
    count = len(images.train_labels)
    seeds = range(count), range(count, count + len(images.test_labels))
    train = recorded(images.train_images, images.train_labels, seeds[0], grid, steps, camera)
    return train, recorded(images.test_images, images.test_labels, seeds[1], grid, steps, camera)


def _binned(name: str, splits: tuple[Split, Split], grid: Grid, steps: int, classes: tuple[str, ...]) -> Binned:
    about = (of_bins(steps, TIME / steps, grid.shape, CLIP), of_splits(*splits, APART), memory(*splits))
    return Binned(name, *splits, classes, about)


def recorded(
    images: np.ndarray, labels: np.ndarray, seeds: Sequence[int], grid: Grid, steps: int, camera: Camera = CAMERA
) -> Split:
    """What a camera sends of images uint8 [N, h, w, 1], as frames of equal duration."""
    found = camera.record(images[..., 0], seeds)
    # Which cover the whole of a recording: no event lies outside.
    made = [by_duration(one, TIME / steps, grid, steps, start=0) for one in found]
    return Split(np.stack([frames.counts for frames in made]), labels, sum(frames.dropped for frames in made))
