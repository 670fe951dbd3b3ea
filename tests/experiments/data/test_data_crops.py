"""The crops of ImageNet."""

import math

import numpy as np
import pytest
from PIL import Image

from experiments.data.images import crops
from experiments.data.images.crops import center_crop, decode, random_resized_crop
from tests.imagenet import image


def coordinates(width, height):
    """An image that shows in red the column and in green the row of each pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "1", "RGBA"])
def test_every_kind_of_file_becomes_rgb(mode):
    kind = "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG"
    pixels = np.asarray(decode(image((250, 250, 250), (20, 10), mode, kind)))
    assert pixels.shape == (10, 20, 3) and pixels.dtype == np.uint8
    assert pixels.mean() > 200


@pytest.mark.parametrize("content", [b"", b"no image", image((9, 9, 9), (40, 40), "RGB", "JPEG")[:-100]])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(OSError):
        decode(content)


@pytest.mark.parametrize(("width", "height"), [(200, 64), (64, 200), (64, 64), (65, 64)])
def test_center_crop_is_the_middle_of_the_resized_image(width, height):
    """At 64 = 256/224 · 56 pixels nothing is resized, and the pixels tell where they come from."""
    got = center_crop(coordinates(width, height), 56)
    assert got.shape == (56, 56, 3) and got.dtype == np.uint8
    assert tuple(got[0, 0, :2]) == (round((width - 56) / 2), round((height - 56) / 2))
    np.testing.assert_array_equal(got[0, :, 0], got[0, 0, 0] + np.arange(56))
    np.testing.assert_array_equal(got[:, 0, 1], got[0, 0, 1] + np.arange(56))


def test_center_crop_keeps_the_aspect():
    """Of 128 × 240, half the size is 64 × 120, whose middle 56 rows are the source's 64 … 175."""
    got = center_crop(coordinates(128, 240), 56).astype(int)
    np.testing.assert_allclose(got[:, 0, 1], 2 * (np.arange(56) + 32) + 0.5, atol=1)
    np.testing.assert_allclose(got[0, :, 0], 2 * (np.arange(56) + 4) + 0.5, atol=1)


@pytest.mark.parametrize("size", [1, 32, 224, 225])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (500, 375)])
def test_both_crops_are_square_whatever_the_image(size, shape):
    for crop in (center_crop, random_resized_crop):
        assert crop(coordinates(*shape), size, np.random.default_rng(0)).shape == (size, size, 3)


def test_random_part_has_the_published_distribution():
    """Of a large square image the first attempt is nearly always taken, if the part is not larger than the image."""
    width = height = 1000
    random = np.random.default_rng(0)
    boxes = np.array([crops._random_box(width, height, random) for _ in range(4000)])
    left, top, w, h = boxes.T
    assert (left >= 0).all() and (top >= 0).all() and (left + w <= width).all() and (top + h <= height).all()
    area, aspect = w * h / (width * height), np.log(w / h)
    assert 0.079 < area.min() < 0.09 and area.max() > 0.95
    # Half of the parts below 3/4 of the area, where every aspect fits, are below (0.08 + 0.75) / 2.
    assert np.median(area[area < 0.75]) == pytest.approx(0.415, abs=0.02)
    assert abs(aspect).max() < math.log(4 / 3) + 0.01 and abs(aspect.mean()) < 0.01
    assert np.std(aspect[area < 0.5]) == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.05)
    assert np.mean(left / np.maximum(width - w, 1)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("shape", "box"), [((1000, 30), (480, 0, 40, 30)), ((30, 1000), (0, 480, 30, 40))])
def test_long_image_gives_its_middle(shape, box):
    assert crops._random_box(*shape, np.random.default_rng(0)) == box


def test_random_crop_resizes_the_part(monkeypatch):
    monkeypatch.setattr(crops, "_random_box", lambda *args: (10, 20, 80, 40))
    got = random_resized_crop(coordinates(200, 100), 40, np.random.default_rng(0)).astype(int)
    np.testing.assert_allclose(got[0, :, 0], 10 + 2 * np.arange(40) + 0.5, atol=1)
    np.testing.assert_array_equal(got[:, 0, 1], 20 + np.arange(40))
