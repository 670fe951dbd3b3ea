"""The simulated event camera: numbers of events of published settings, where they lie, and what they depend on."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from safjax.data import Camera, Grid, by_duration, enlarged

SMALL = Camera((20, 20), reach=4, noise=0)


@pytest.fixture(scope="module")
def digits():
    images, labels = (part[::2] for part in load_digits(return_X_y=True))
    return enlarged(images.reshape(-1, 8, 8) / 16, 2), labels


def mean(camera, images):
    return np.mean([found.t.size for found in camera.record(images, range(len(images)))])


@pytest.fixture(scope="module")
def recordings(digits):
    return list(SMALL.record(digits[0], range(len(digits[0]))))


def test_events_by_class(digits, recordings):
    """Digits of 16 × 16 pixels on 20 × 20, θ = 0.2, ε = 0.1, without noise."""
    numbers = np.array([found.t.size for found in recordings])
    want = [4637, 3825, 4453, 4469, 3948, 4541, 4093, 4106, 4014, 4399]
    found = [numbers[digits[1] == k].mean() for k in range(10)]
    np.testing.assert_allclose(found, want, rtol=0.04)
    np.testing.assert_allclose(np.array(found) / want, np.mean(found) / np.mean(want), rtol=0.03)
    on = sum(int(found.p.sum()) for found in recordings) / numbers.sum()
    assert abs(on - 0.506) < 0.003


def test_saccades_begin_and_end_slowly(recordings):
    """Events per 21 ms of the first saccade; at constant speed the profile is flat."""
    profile = sum(np.bincount(found.t // 21_000, minlength=15) for found in recordings) / len(recordings)
    np.testing.assert_allclose(profile[:5] / profile[:5].sum(), np.array([122, 386, 451, 383, 188]) / 1530, atol=0.012)
    assert (profile.reshape(3, 5)[:, 2] > 2 * profile.reshape(3, 5)[:, ::4].max(1)).all()


def test_what_events_depend_on(digits):
    """Numbers of events relative to θ = 0.2 and ε = 0.1: ε matters as much as θ."""
    images = digits[0][:40]
    base = mean(SMALL, images)
    for name, values, want in (
        ("threshold", (0.1, 0.15, 0.3, 0.5), (8963, 5747, 2567, 1333)),
        ("offset", (0.02, 0.05, 0.3, 1.0), (7633, 5579, 2200, 741)),
    ):
        found = [mean(dataclasses.replace(SMALL, **{name: value}), images) / base for value in values]
        np.testing.assert_allclose(found, np.array(want) / 4148, rtol=0.02)
    assert mean(dataclasses.replace(SMALL, steps=140), images) == pytest.approx(base, rel=0.005)
    noise = mean(dataclasses.replace(SMALL, noise=1.0), images) - base
    assert noise == pytest.approx(400 * 0.315, rel=0.05)
    constant = next(dataclasses.replace(SMALL, eased=False).record(images[:1], [0]))
    profile = np.bincount(constant.t // 21_000, minlength=15)[:5]
    assert profile.min() > 0.6 * profile.max()


def test_events_are_by_time_and_on_the_sensor(recordings):
    for found in recordings[:50]:
        assert (np.diff(found.t) >= 0).all() and found.t[0] >= 0 and found.t[-1] < 315_000
        assert [field.dtype for field in found] == [np.int64, np.int32, np.int32, np.uint8]
        assert by_duration(found, 105_000, Grid((20, 20)), 3, 0).counts.sum() == found.t.size


def test_an_edge_that_comes_is_on_and_one_that_goes_is_off():
    """A white bar moves right and down, then right and up, then left: its sides say which."""
    image = np.zeros((1, 16, 16))
    image[0, :, 6:10] = 1.0
    found = next(dataclasses.replace(SMALL, mismatch=0).record(image, [0]))
    counts = by_duration(found, 105_000, Grid((20, 20)), 3, 0).counts[:, 8:12].sum(1, dtype=int)
    left, right = counts[:, :10], counts[:, 10:]
    for saccade, (leading, trailing) in enumerate([(right, left), (right, left), (left, right)]):
        assert leading[saccade, :, 1].sum() > 3 * leading[saccade, :, 0].sum()
        assert trailing[saccade, :, 0].sum() > 3 * trailing[saccade, :, 1].sum()
    flat = next(SMALL.record(np.zeros((1, 16, 16)), [0]))
    assert flat.t.size == 0, "nothing moves in the dark"


def test_events_count_the_change_of_brightness():
    """What a pixel has sent, ON less OFF, is the change of log(I + ε) since the start, in units of θ."""
    camera = dataclasses.replace(SMALL, mismatch=0)
    image = np.random.default_rng(0).random((1, 16, 16))
    found = next(camera.record(image, [3]))
    end = found.where(found.t < 2 * 105_000)  # where the path has come to its third corner
    sent = np.zeros((20, 20))
    np.add.at(sent, (end.y, end.x), np.where(end.p, 1, -1))
    seen = [np.full((20, 20), np.log(0.1)) for _ in range(2)]
    for light, x in zip(seen, (0, 4), strict=True):
        light[0:16, x : x + 16] = np.log(image[0] + 0.1)
    phase = np.random.default_rng(3).uniform(-0.5, 0.5, (20, 20))
    residue = (seen[1] - seen[0]) / 0.2 - phase - sent
    assert np.abs(residue).max() <= 1.0 + 1e-9, "less than one threshold is left to send"


def test_no_image_depends_on_the_others(digits):
    images = digits[0][:70]
    alone = next(SMALL.record(images[66:67], [66]))
    beside = list(SMALL.record(images, range(70)))[66]
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)
    other = next(dataclasses.replace(SMALL, seed=1).record(images[66:67], [66]))
    assert other.t.size != alone.t.size, "another camera"


def test_images_of_bytes_are_those_of_numbers():
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    found = [next(Camera().record(kind, [0])) for kind in (image, image / 255)]
    assert found[0].t.size > 1000 and np.array_equal(found[0].t, found[1].t)


def test_enlarged():
    image = np.array([[[0.0, 1.0], [2.0, 3.0]]])
    np.testing.assert_allclose(enlarged(image, 2)[0, 0], [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(enlarged(image, 2)[0, :, 0], [0, 0.5, 1.5, 2])
    assert enlarged(np.ones((2, 3, 5)), 4).shape == (2, 12, 20) and np.allclose(enlarged(np.ones((1, 3, 5)), 4), 1)


@pytest.mark.parametrize("call, match", [
    (lambda: Camera(threshold=0), "above 0"), (lambda: Camera(mismatch=0.5), "mismatch from 0 to 0.2"),
    (lambda: list(Camera((20, 20)).record(np.zeros((1, 16, 16)), [0])), "a sensor that the whole way fits into"),
    (lambda: list(SMALL.record(np.full((1, 16, 16), 2.0), [0])), "expected 0 \\(black\\) to 1"),
    (lambda: list(SMALL.record(np.full((1, 16, 16), np.nan), [0])), "expected 0 \\(black\\) to 1"),
    (lambda: list(SMALL.record(np.zeros((1, 16, 16)), [0, 1])), "1, 16, 16\\) and 2 seeds"),
])  # fmt: skip
def test_what_cannot_be(call, match):
    with pytest.raises(ValueError, match=match):
        call()
