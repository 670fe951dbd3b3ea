"""The checks that every data set passes, and the files that it is kept in."""

import numpy as np
import pytest

from experiments.data import DataCorrupt, Images
from experiments.data.images.cache import cached
from experiments.data.images.images import Splits

GOOD = {
    "name": "toy",
    "train_images": np.zeros((3, 4, 5, 2), np.uint8),
    "train_labels": np.array([0, 1, 2], np.int32),
    "test_images": np.zeros((2, 4, 5, 2), np.uint8),
    "test_labels": np.array([2, 0], np.int32),
    "num_classes": 3,
    "mean": (0.5, 0.5),
    "std": (0.2, 0.3),
}


def test_good_data_passes():
    assert Images(**GOOD).num_classes == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train_images", np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\).*\[N, H, W, C\]"),
        ("train_images", np.zeros((0, 4, 5, 2), np.uint8), "empty"),
        ("train_images", np.zeros((3, 4, 5, 2), np.float32), "float32, expected uint8"),
        ("train_images", np.zeros((3, 5, 5, 2), np.uint8), "resize"),
        ("test_images", np.zeros((0, 4, 5, 2), np.uint8), "test_images.*empty"),
        ("train_labels", np.zeros(2, np.int32), r"shape \(2,\), expected \(3,\)"),
        ("train_labels", np.zeros((3, 1), np.int32), r"shape \(3, 1\)"),
        ("train_labels", np.zeros(3, np.int64), "int64, expected int32"),
        ("train_labels", np.array([0, 1, 3], np.int32), r"0 \.\. 3, expected 0 \.\. 2"),
        ("test_labels", np.array([-1, 0], np.int32), r"test_labels lies in -1 \.\. 0"),
        ("mean", (0.5,), "mean has 1 entries.*2 channels"),
        ("std", (0.5, 0.0), "positive"),
    ],
)
def test_bad_data_is_explained(field, value, message):
    with pytest.raises(ValueError, match=message) as error:
        Images(**GOOD | {field: value})
    assert str(error.value).startswith("toy: ")


SPLITS = Splits(*(GOOD[field] for field in Splits._fields))


def test_arrays_are_made_once(tmp_path):
    first = cached(tmp_path / "toy", lambda: SPLITS)
    second = cached(tmp_path / "toy", lambda: pytest.fail("made again"))
    for made, again, expected in zip(first, second, SPLITS, strict=True):
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal(again, expected)
        assert not again.flags.writeable
    assert len(list((tmp_path / "toy").iterdir())) == 4


def test_write_that_was_cut_off_is_made_good(tmp_path):
    cached(tmp_path, lambda: SPLITS)
    (tmp_path / "test_labels.npy").unlink()
    again = cached(tmp_path, lambda: SPLITS)
    np.testing.assert_array_equal(again.test_labels, SPLITS.test_labels)


def test_failed_write_leaves_nothing(tmp_path):
    unwritable = SPLITS._replace(test_labels=np.array([object()]))
    with pytest.raises(ValueError):
        cached(tmp_path, lambda: unwritable)
    assert not (tmp_path / "test_labels.npy").exists()
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("keep", [0, 60, -1])
def test_damaged_file_is_named(keep, tmp_path):
    cached(tmp_path, lambda: SPLITS)
    path = tmp_path / "train_images.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataCorrupt, match="train_images.npy.*Delete the folder"):
        cached(tmp_path, lambda: SPLITS)
