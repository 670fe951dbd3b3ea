"""Handwritten digits before a simulated event camera that moves as N-MNIST's did: events that need no download.

The digits of `experiments.data.images.digits` are split first and recorded afterwards, each with a seed of its own, by
one camera (`safjax.data.Camera`): no recording depends on another.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.config import Data
from experiments.data.events.binned import Binned, Events
from experiments.data.events.lines import memory, of_bins, of_splits
from experiments.data.images.digits import load_digits
from safjax.data import Camera, Grid, Split, by_duration

CAMERA = Camera(sensor=(20, 20), reach=4.0)
"""N-MNIST's movement for images of 16 × 16: 16 / 28 of its reach."""
CLIP, TIME = 4, 3 * CAMERA.saccade


def load(data_dir: Path) -> Events:
    """The digits; nothing is stored."""
    return Events("saccades", ("pool", "chain"), record)


def record(data: Data, steps: int) -> Binned:
    """The recordings of all digits in T bins; it takes some seconds."""
    digits = load_digits()
    grid = Grid(CAMERA.sensor, pool=data.pool or 1, clip=CLIP)
    # Every image has its own seed, none of the test one of training.
    count = len(digits.train_labels)
    train = recorded(digits.train_images, digits.train_labels, range(count), grid, steps)
    test = recorded(digits.test_images, digits.test_labels, range(count, count + len(digits.test_labels)), grid, steps)
    about = (
        of_bins(steps, TIME / steps, grid.shape, CLIP),
        of_splits(train, test, "split before they are recorded, each with a seed of its own"),
        memory(train, test),
    )
    return Binned("saccades", train, test, tuple("0123456789"), about)


def recorded(images: np.ndarray, labels: np.ndarray, seeds: Sequence[int], grid: Grid, steps: int) -> Split:
    """What the camera sends of images uint8 [N, h, w, 1], as frames of equal duration."""
    found = CAMERA.record(images[..., 0], seeds)
    made = [by_duration(one, TIME / steps, grid, steps, start=0) for one in found]
    return Split(np.stack([frames.counts for frames in made]), labels, sum(frames.dropped for frames in made))
