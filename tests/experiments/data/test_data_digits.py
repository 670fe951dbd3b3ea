"""The data set that needs no download."""

import numpy as np
import pytest

from experiments.data import load
from experiments.data.images.digits import load_digits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def rows(images):
    return {image.tobytes() for image in images}


def test_shapes_and_range(digits):
    assert digits.train_images.shape == (1437, 16, 16, 1)
    assert digits.test_images.shape == (360, 16, 16, 1)
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)


def test_load_gives_the_same(digits, tmp_path):
    again = load("digits", tmp_path)
    np.testing.assert_array_equal(again.train_images, digits.train_images)
    np.testing.assert_array_equal(again.test_labels, digits.test_labels)
    assert not list(tmp_path.iterdir())


def test_splits_are_disjoint_and_stratified(digits):
    assert not rows(digits.train_images) & rows(digits.test_images)
    assert len(rows(digits.train_images) | rows(digits.test_images)) == 1797
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert np.all(np.abs(test - (train + test) * 360 / 1797) <= 1)


def test_seed_chooses_the_split(digits):
    other = load_digits(seed=1)
    assert rows(other.test_images) != rows(digits.test_images)
    assert rows(other.train_images) | rows(other.test_images) == rows(digits.train_images) | rows(digits.test_images)


def test_size_of_the_source_keeps_the_counts():
    original = load_digits(size=8)
    assert original.train_images.shape == (1437, 8, 8, 1)
    levels = np.rint(np.arange(17) * 255 / 16).astype(np.uint8)
    assert set(np.unique(original.train_images)) == set(levels)


def test_statistics_are_those_of_the_training_images(digits):
    pixels = digits.train_images / 255
    assert digits.mean[0] == pytest.approx(pixels.mean())
    assert digits.std[0] == pytest.approx(pixels.std())
