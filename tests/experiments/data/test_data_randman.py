"""Random manifolds of spike times."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import SpikeTimes, load, spike_trains
from experiments.data.events.randman import load_randman, random_manifold, wave_vectors
from experiments.data.events.spike_times import TICKS

CLASSES, UNITS, TRAIN, TEST = 4, 30, 400, 100
SIZES = {"classes": CLASSES, "units": UNITS, "train": TRAIN, "test": TEST}
STEPS = 37


@pytest.fixture(scope="module")
def data():
    return load_randman(**SIZES)


def trains(times, steps=STEPS):
    return np.asarray(jax.jit(spike_trains, static_argnums=1)(jnp.asarray(times), steps))


def rows(times):
    return {row.tobytes() for row in times}


def test_shapes(data):
    assert (data.train_times.shape, data.test_times.shape) == ((TRAIN, UNITS), (TEST, UNITS))
    assert np.array_equal(np.bincount(data.train_labels), [TRAIN // CLASSES] * CLASSES)
    assert trains(data.test_times).shape == (STEPS, TEST, UNITS)


def test_every_unit_fires_once_so_counts_carry_no_class(data):
    spikes = trains(data.train_times)
    assert set(np.unique(spikes)) == {0.0, 1.0}
    np.testing.assert_array_equal(spikes.sum(0), np.ones((TRAIN, UNITS)))


@pytest.mark.parametrize("steps", [1, 7, 100, 4096])
def test_spikes_come_at_their_times(steps):
    times = np.array([[0, 1, TICKS // 2 - 1, TICKS // 2, TICKS - 1]], np.uint16)
    expected = np.floor(times / TICKS * steps).astype(int)
    np.testing.assert_array_equal(trains(times, steps).argmax(0), expected)


def test_steps_are_no_finer_than_the_times():
    times = np.array([[0, 1, TICKS - 1]], np.uint16)
    np.testing.assert_array_equal(trains(times, TICKS).argmax(0), times)
    with pytest.raises(ValueError, match=r"spike_trains\(steps=65537\): expected 65536 or fewer"):
        spike_trains(jnp.asarray(times), TICKS + 1)


def test_values_fill_the_presentation(data):
    """No tenth of the presentation is empty or holds a third of a class's spikes, and every unit uses most of it."""
    x = data.train_times / TICKS
    for label in range(CLASSES):
        own = x[data.train_labels == label]
        share = np.histogram(own, 10, (0, 1))[0] / own.size
        assert share.min() > 0.01 and share.max() < 0.3
        assert np.median(np.ptp(own, axis=0)) > 0.8
    assert abs(x.mean() - 0.5) < 0.05


def test_classes_are_apart():
    """The nearest training example, by all times, knows the class; by the time of one unit it does not."""
    data = load_randman(**SIZES | {"train": 2000})

    def accuracy(train, test):
        distances = ((test[:, None, :] - train[None, :, :]) ** 2).sum(-1)
        return np.mean(data.train_labels[distances.argmin(1)] == data.test_labels)

    train, test = data.train_times / TICKS, data.test_times / TICKS
    assert accuracy(train, test) > 0.95
    assert accuracy(train[:, :1], test[:, :1]) < 0.5


def test_seeds():
    first = load_randman(**SIZES)
    again, elsewhere = load_randman(**SIZES), load_randman(**SIZES, seed=1)
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(again, split)[0], getattr(first, split)[0])
        assert not rows(getattr(elsewhere, split)[0]) & rows(getattr(first, split)[0])
    assert not rows(first.train_times) & rows(first.test_times)


def test_other_points_lie_on_the_same_manifolds():
    """Densely sampled curves: every point of one sampling has a near neighbour in another, not on other manifolds."""
    few = {"classes": 1, "units": UNITS, "dimension": 1, "train": 1000, "test": 50}
    reference, points, strange = (
        load_randman(**few, **seeds).train_times / TICKS for seeds in ({}, {"sampling_seed": 1}, {"seed": 1})
    )
    test = load_randman(**few).test_times / TICKS

    def distance(points):
        return np.sqrt(((points[:, None, :] - reference[None, :, :]) ** 2).mean(-1)).min(1).max()

    assert distance(points[:50]) < 0.05 and distance(test) < 0.05
    assert distance(strange[:50]) > 0.2


def test_smoothness_grows_with_alpha():
    """The mean distance of two points on a manifold whose coordinates differ by 0.01."""
    points = np.random.default_rng(0).random((500, 2))
    distances = []
    for smoothness in (0.0, 1.0, 2.0, 4.0):
        manifold = random_manifold(np.random.default_rng(7), UNITS, 2, smoothness)
        distances.append(np.abs(manifold(points + np.array([0.01, 0])) - manifold(points)).mean())
    assert all(later < 0.9 * earlier for earlier, later in itertools.pairwise(distances))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_manifolds_are_periodic_and_depend_on_every_coordinate(dimension):
    manifold = random_manifold(np.random.default_rng(0), 5, dimension, 1.0)
    points = np.random.default_rng(1).random((20, dimension))
    for axis in np.eye(dimension):
        np.testing.assert_allclose(manifold(points + axis), manifold(points), atol=1e-9)
        assert np.abs(manifold(points + 0.1 * axis) - manifold(points)).mean() > 0.02


def test_no_wave_comes_twice():
    waves = wave_vectors(2)
    both = {tuple(k) for k in waves} | {tuple(-k) for k in waves}
    assert len(both) == 2 * len(waves) and (0, 0) not in both
    assert len(wave_vectors(1)) == 8 and np.linalg.norm(waves, axis=1).max() <= 8


def test_load_gives_the_defaults(tmp_path):
    data, expected = load("randman", tmp_path), load_randman()
    np.testing.assert_array_equal(data.train_times, expected.train_times)
    assert data.train_times.shape == (8000, 100) and data.num_classes == 10
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("classes", 0),
        ("units", 0),
        ("train", 0),
        ("test", 1.5),
        ("dimension", 0),
        ("dimension", 4),
        ("smoothness", -1.0),
        ("smoothness", float("nan")),
    ],
)
def test_bad_arguments(argument, value):
    assert argument in inspect.signature(load_randman).parameters
    with pytest.raises(ValueError, match=rf"load_randman\({argument}={value}\): expected"):
        load_randman(**{argument: value})


GOOD = {
    "name": "toy",
    "train_times": np.zeros((3, 5), np.uint16),
    "train_labels": np.array([0, 1, 2], np.int32),
    "test_times": np.zeros((2, 5), np.uint16),
    "test_labels": np.array([2, 0], np.int32),
    "num_classes": 3,
}


def test_good_spike_times_pass():
    assert SpikeTimes(**GOOD).num_classes == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train_times", np.zeros((3, 5, 1), np.uint16), r"shape \(3, 5, 1\).*\[N, units\]"),
        ("train_times", np.zeros((0, 5), np.uint16), "empty"),
        ("test_times", np.zeros((2, 5), np.float32), "test_times.*float32, expected uint16"),
        ("test_times", np.zeros((2, 6), np.uint16), "5 units.*6"),
        ("train_labels", np.zeros(2, np.int32), r"shape \(2,\), expected \(3,\)"),
        ("test_labels", np.array([3, 0], np.int32), r"0 \.\. 2"),
    ],
)
def test_bad_spike_times_are_explained(field, value, message):
    with pytest.raises(ValueError, match=message) as error:
        SpikeTimes(**GOOD | {field: value})
    assert str(error.value).startswith("toy: ")
