"""Randman: classes that are random smooth manifolds of spike times, told apart by timing alone.

Zenke & Vogels, "The remarkable robustness of surrogate gradient learning for instilling complex function in spiking
neural networks", Neural Computation 33, 2021. Every unit fires once, whatever the class.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.events.spike_times import TICKS, SpikeTimes

HIGHEST = 8  # frequency of the shortest wave
SURVEY = 4096  # points at which the range of every coordinate is taken


class Manifold(NamedTuple):
    """A smooth periodic map from the torus [0, 1)^D into [0, 1]^units.

        f_i(z) = Σ_k |k|^−α (a_ik cos 2π k·z + b_ik sin 2π k·z),   x_i = (f_i − min f_i) / (max f_i − min f_i)

    over the whole-numbered wave vectors 0 < |k| ≤ 8, with normal a and b: amplitudes and phases are random.

    Attributes:
      waves: k, [K, D].
      weights: |k|^−α (a, b), [2 K, units].
      low: min f_i, [units].
      high: max f_i, [units].
    """

    waves: np.ndarray
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """z[N, D] ↦ x[N, units] in [0, 1]."""
        return np.clip((series(self.waves, self.weights, points) - self.low) / (self.high - self.low), 0, 1)


def random_manifold(random: np.random.Generator, units: int, dimension: int, smoothness: float) -> Manifold:
    """Draws a manifold.

    Args:
      random: source of all randomness.
      units: coordinates of the embedding space.
      dimension: D, coordinates on the manifold.
      smoothness: α ≥ 0; the larger, the less weight short waves have.
    """
    waves = wave_vectors(dimension)
    fall = np.linalg.norm(waves, axis=1) ** -smoothness
    weights = random.normal(size=(2 * len(waves), units)) * np.tile(fall, 2)[:, None]
    values = series(waves, weights, random.random((SURVEY, dimension)))
    return Manifold(waves, weights, values.min(0), values.max(0))


def series(waves: np.ndarray, weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """f(z) of `Manifold`: [N, units]."""
    angles = 2 * np.pi * points @ waves.T
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) @ weights


def wave_vectors(dimension: int) -> np.ndarray:
    """All k ≠ 0 with |k| ≤ 8 in D dimensions, one of each pair k, −k, which are the same wave: [K, D]."""
    grid = itertools.product(range(-HIGHEST, HIGHEST + 1), repeat=dimension)
    zero = (0,) * dimension
    return np.array([k for k in grid if k > zero and np.linalg.norm(k) <= HIGHEST])


def load(data_dir: Path) -> SpikeTimes:
    """The usual one; nothing is stored."""
    return load_randman()


def load_randman(
    classes: int = 10,
    units: int = 100,
    dimension: int = 2,
    smoothness: float = 2.0,
    train: int = 8000,
    test: int = 2000,
    seed: int = 0,
    sampling_seed: int = 0,
) -> SpikeTimes:
    """Draws a manifold for each class, and from it points at random, whose coordinates are the times of the spikes.

    Args:
      classes: manifolds.
      units: input units M, each of which fires once.
      dimension: D, coordinates on a manifold; 1 .. 3.
      smoothness: α ≥ 0.
      train: training examples of all classes together.
      test: test examples, other points of the same manifolds.
      seed: of the manifolds.
      sampling_seed: of the points on them.

    Raises:
      ValueError: an argument is out of its range.
    """
    _check(classes, units, dimension, smoothness, train, test)
    manifolds = [
        random_manifold(np.random.default_rng((seed, label)), units, dimension, smoothness) for label in range(classes)
    ]
    splits = [_sample(manifolds, count, (sampling_seed, split)) for split, count in enumerate((train, test))]
    return SpikeTimes("randman", *splits[0], *splits[1], classes)


def _sample(manifolds: list[Manifold], count: int, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Times and labels of `count` points, the classes in turn."""
    points = np.random.default_rng(seed).random((count, manifolds[0].waves.shape[1]))
    labels = np.arange(count, dtype=np.int32) % len(manifolds)
    times = np.empty((count, len(manifolds[0].low)), np.uint16)
    for label, manifold in enumerate(manifolds):
        times[labels == label] = np.minimum(TICKS * manifold(points[labels == label]), TICKS - 1)
    return times, labels


def _check(classes, units, dimension, smoothness, train, test) -> None:
    for name, value in (("classes", classes), ("units", units), ("train", train), ("test", test)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"load_randman({name}={value!r}): expected a whole number, 1 or more.")
    if dimension not in (1, 2, 3):
        raise ValueError(
            f"load_randman(dimension={dimension!r}): expected 1, 2 or 3 coordinates on a manifold; the waves of more "
            "are too many to sum."
        )
    if not smoothness >= 0 or not np.isfinite(smoothness):
        raise ValueError(
            f"load_randman(smoothness={smoothness!r}): expected a number of 0 or more, for instance 2.0; the larger, "
            "the smoother."
        )
