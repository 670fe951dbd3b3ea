"""Data sets that are not what they should be: one paragraph on stderr, exit code 2, nothing written."""

import math

import numpy as np
import pytest

from experiments.config import Config
from experiments.data import DataCorrupt, Encoded, ImageFiles, Images, SpikeTimes
from experiments.data.images.image_files import CROPS
from experiments.training import feed
from experiments.training.metrics import Tally
from tests.experiments.making import feed_of

COUNT, CLASSES = 300, 10


def images(shape=(8, 8, 1), dtype=np.uint8, count=COUNT):
    return np.zeros((count, *shape), dtype)


def labels(highest=CLASSES - 1, lowest=0, dtype=np.int32, count=COUNT):
    return np.linspace(lowest, highest, count).astype(dtype)


def dataset(**changed):
    good = {
        "train_images": images(),
        "train_labels": labels(),
        "test_images": images(),
        "test_labels": labels(),
        "mean": (0.5,),
        "std": (0.25,),
    }
    return Images("digits", **{**good, **changed}, num_classes=CLASSES)


def spike_times(**changed):
    times = np.zeros((COUNT, 5), np.uint16)
    good = {"train_times": times, "train_labels": labels(), "test_times": times, "test_labels": labels()}
    return SpikeTimes("randman", **{**good, **changed}, num_classes=CLASSES)


BAD = {
    "label too large": (dataset, {"train_labels": labels(highest=10)}, "0 .. 10, expected 0 .. 9"),
    "label below 0": (dataset, {"test_labels": labels(lowest=-1)}, "-1 .. 9, expected 0 .. 9"),
    "too few labels": (dataset, {"train_labels": labels(count=299)}, r"(299,), expected (300,)"),
    "labels of another dtype": (dataset, {"train_labels": labels(dtype=np.int64)}, "expected int32"),
    "images of another dtype": (dataset, {"train_images": images(dtype=np.int16)}, "expected uint8"),
    "pixels that are not a number": (
        dataset,
        {"train_images": np.full((COUNT, 8, 8, 1), math.nan, np.float32)},
        "dtype float32, expected uint8",
    ),
    "no channel axis": (dataset, {"train_images": images((8, 8))}, "expected [N, H, W, C]"),
    "two sizes": (dataset, {"test_images": images((9, 9, 1))}, "one network sees both"),
    "no training image": (dataset, {"train_images": images(count=0), "train_labels": labels(count=0)}, "is empty"),
    "no test image": (dataset, {"test_images": images(count=0), "test_labels": labels(count=0)}, "is empty"),
    "no deviation": (dataset, {"std": (0.0,)}, "every channel needs a positive one"),
    "times of another dtype": (spike_times, {"train_times": np.zeros((COUNT, 5), np.float32)}, "expected uint16"),
    "no units": (spike_times, {"train_times": np.zeros((COUNT, 0), np.uint16)}, "is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused(case, run, monkeypatch, empty_folder):
    make, changed, reason = BAD[case]
    monkeypatch.setattr(feed, "load", lambda name, data_dir: make(**changed))
    ended = run("--method=saf_f")
    assert ended.code == 2 and ended.out == "" and "Traceback" not in ended.err
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1 and reason in ended.err
    assert not list(empty_folder.iterdir())


def test_no_image_files():
    file = [Encoded("a.png", b"", 0)]
    for train, test in ((file, []), ([], file)):
        with pytest.raises(ValueError, match="there is no (train|test) image"):
            ImageFiles("imagenet", train, test, 3, (0.5,) * 3, (0.5,) * 3, 32)


def test_a_file_with_a_label_out_of_range(monkeypatch):
    monkeypatch.setattr("experiments.data.images.image_files.decode", lambda content: None)
    monkeypatch.setitem(CROPS, "none", (lambda *args: np.zeros((8, 8, 3), np.uint8), CROPS["none"][1]))
    files = [Encoded(f"{i}.png", b"", i) for i in range(4)]
    config = Config().changed(dataset="imagenet", augmentation="none", batch_size=4)
    streamed = feed_of(ImageFiles("imagenet", files, files, 3, (0.5,) * 3, (0.5,) * 3, 8), config)
    with pytest.raises(DataCorrupt, match=r"3.png has the label 3, expected 0 .. 2"):
        next(streamed.train_batches(1))


def test_a_batch_as_large_as_the_data_is_possible_and_a_larger_one_is_not():
    config = Config().changed(dataset="digits", augmentation="none", batch_size=COUNT, seed=2**32 - 1)
    batches = list(feed_of(dataset(), config).train_batches(1))
    assert len(batches) == 1 and np.isfinite(batches[0].inputs).all()
    larger = config.changed(batch_size=COUNT + 1)
    with pytest.raises(ValueError, match="more than all 300 training examples"):
        feed_of(dataset(), larger)


def test_means_over_no_batch_are_refused():
    with pytest.raises(AssertionError, match="one batch or more"):
        list(Tally().over([]))
