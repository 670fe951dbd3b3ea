"""Batches from image files: which, in which order, how cropped, and what is left undone."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from experiments.config import Config, ConfigError
from experiments.data import DataCorrupt, Encoded, ImageFiles
from experiments.training.feed import AHEAD
from tests.experiments.making import feed_of
from tests.imagenet import image

COUNT = 22
CONFIG = Config().changed(dataset="imagenet", augmentation="resized_crop_flip", image_size=16, batch_size=4, seed=3)


class Files(list):
    """Files that count how often each was read."""

    def __init__(self, files):
        super().__init__(files)
        self.read, self.lock = [], threading.Lock()

    def __getitem__(self, index):
        with self.lock:
            self.read.append(index)
        return super().__getitem__(index)


def files(count=COUNT, shift=0):
    """Grey images, each with a level of its own that equals its label."""
    return Files(
        Encoded(f"{n}.JPEG", image((10 * n + shift,) * 3, (30 + n, 50), "RGB", "JPEG"), n) for n in range(count)
    )


def dataset(**changes):
    values = {"name": "toy", "train": files(), "test": files(6), "num_classes": COUNT, "size": 24}
    return ImageFiles(**{**values, "mean": (0.0,) * 3, "std": (1 / 255,) * 3, **changes})


def feed(data=None, **changes):
    config = CONFIG.changed(**changes)
    return feed_of(dataset() if data is None else data, config)


def listed(batches):
    return [tuple(np.asarray(part) for part in batch[:3]) for batch in batches]


def test_every_image_has_its_label():
    for images, labels, weights in listed(feed().train_batches(1)):
        assert (images.shape, images.dtype, labels.dtype) == ((4, 16, 16, 3), np.float32, np.int32)
        np.testing.assert_allclose(images.mean((1, 2, 3)), 10 * labels, atol=6)
        np.testing.assert_array_equal(weights, 1)


def test_epoch_is_a_permutation_without_the_last_few():
    fed = feed()
    epochs = [np.concatenate([labels for _, labels, _ in listed(fed.train_batches(epoch))]) for epoch in (1, 2)]
    assert fed.batches == 5
    assert all(len(labels) == len(set(labels)) == 20 for labels in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_same_seed_and_epoch_same_batches():
    first, second = listed(feed().train_batches(1)), listed(feed().train_batches(1))
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    other = listed(feed(seed=4).train_batches(1))
    assert not np.array_equal(first[0][0], other[0][0])


def test_crop_differs_from_epoch_to_epoch():
    fed = feed(dataset(train=files(4)))
    one, two = (listed(fed.train_batches(epoch))[0] for epoch in (1, 2))
    one, two = one[0][np.argsort(one[1])], two[0][np.argsort(two[1])]
    assert all(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_half_of_the_training_images_are_mirrored():
    """Images that grow brighter from left to right, whichever part is cropped."""
    pixels = np.zeros((40, 60, 3), np.uint8) + np.arange(0, 240, 4, np.uint8)[:, None]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = dataset(train=Files([Encoded("ramp", buffer.getvalue(), 0)] * 100))
    images = listed(feed(data, batch_size=100).train_batches(1))[0][0]
    mirrored = images[:, :, 0].mean((1, 2)) > images[:, :, -1].mean((1, 2))
    assert 30 < mirrored.sum() < 70


def test_test_images_come_once_in_order():
    fed = feed()
    images, labels, weights = (np.concatenate(parts) for parts in zip(*listed(fed.test_batches()), strict=True))
    np.testing.assert_array_equal(weights, [1] * 6 + [0] * 2)
    np.testing.assert_array_equal(labels[:6], np.arange(6))
    np.testing.assert_allclose(images.mean((1, 2, 3))[:6], 10 * labels[:6], atol=6)
    np.testing.assert_array_equal(listed(fed.test_batches())[0][0], images[:4])


def test_without_augmentation_training_sees_what_testing_sees():
    data = dataset(train=files(6))
    images, labels, _ = listed(feed(data, augmentation="none").train_batches(1))[0]
    seen = np.concatenate([images for images, _, _ in listed(feed(data).test_batches())])
    np.testing.assert_array_equal(images, seen[labels])


def test_size_is_that_of_the_data_unless_given():
    assert feed().shape.input_shape == (16, 16, 3)
    assert feed(image_size=None).shape.input_shape == (24, 24, 3)


def test_a_few_batches_are_read_ahead_and_no_more():
    data = dataset()
    batches = feed(data, batch_size=2).train_batches(1)
    next(batches)
    batches.close()
    assert len(data.train.read) <= 2 * (AHEAD + 1) < COUNT


def test_damaged_file_is_named():
    damaged = files()
    damaged[7] = damaged[7]._replace(content=damaged[7].content[:-200])
    with pytest.raises(DataCorrupt, match=r"toy: 7\.JPEG is not a complete image"):
        listed(feed(dataset(train=damaged), batch_size=22).train_batches(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "crop_flip_cutout"}, "Give one of resized_crop_flip, none"),
        ({"batch_size": 23}, "more than all 22 training examples"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        feed(**changes)
