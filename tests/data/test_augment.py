"""Events changed at random: what stays, what goes, and what a mirror image is of."""

import numpy as np
import pytest

from safjax import data
from safjax.data import augment
from safjax.data.datasets.gestures import MIRRORED

SENSOR = (20, 30)


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(1000, 101_000, 4000))
    return data.as_events(t, rng.integers(0, 30, 4000), rng.integers(0, 20, 4000), rng.integers(0, 2, 4000))


@pytest.fixture
def rng():
    return np.random.default_rng(1)


CHANGES = {
    "shift": lambda found, rng: augment.shift(found, SENSOR, 5, rng),
    "crop": lambda found, rng: augment.crop(found, SENSOR, (12, 9), rng),
    "drop": lambda found, rng: augment.drop(found, 0.3, rng),
    "drop_area": lambda found, rng: augment.drop_area(found, SENSOR, 0.5, rng),
    "drop_time": lambda found, rng: augment.drop_time(found, 0.25, rng),
    "warp_time": lambda found, rng: augment.warp_time(found, 0.5, rng),
    "jitter_time": lambda found, rng: augment.jitter_time(found, 500.0, rng),
    "mirror": lambda found, rng: augment.mirror(found, SENSOR, 0, [0])[0],
}


@pytest.mark.parametrize("name", CHANGES)
def test_events_stay_events(name, found, rng):
    """By time, on the sensor, of the same types; the arrays that were given are left alone; the same seed does the
    same."""
    before = [field.copy() for field in found]
    made = CHANGES[name](found, rng)
    again = CHANGES[name](found, np.random.default_rng(1))
    height, width = (12, 9) if name == "crop" else SENSOR
    assert (np.diff(made.t) >= 0).all() and ((made.x >= 0) & (made.x < width) & (made.y >= 0) & (made.y < height)).all()
    for field, kept, other, was in zip(made, before, again, found, strict=True):
        assert field.dtype == was.dtype
        np.testing.assert_array_equal(field, other)
        np.testing.assert_array_equal(was, kept)
    none = data.as_events([], [], [], [])
    assert CHANGES[name](none, rng).t.size == 0


def test_shift(found, rng):
    made = [augment.shift(found, SENSOR, 3, rng) for _ in range(60)]
    moves = {(int(m.x.min()), int(m.x.max()), int(m.y.min()), int(m.y.max())) for m in made}
    assert len(moves) > 20 and max(m[0] for m in moves) == 3 and min(m[1] for m in moves) == 26
    assert augment.shift(found, SENSOR, 0, rng).t.size == 4000


def test_crop_and_drop(found, rng):
    assert augment.crop(found, SENSOR, SENSOR, rng).t.size == 4000
    share = np.mean([augment.crop(found, SENSOR, (10, 15), rng).t.size for _ in range(40)]) / 4000
    assert share == pytest.approx(0.25, rel=0.05)
    assert augment.drop(found, 0.3, rng).t.size == pytest.approx(2800, rel=0.05)
    assert augment.drop(found, 0, rng).t.size == 4000 and augment.drop(found, 1, rng).t.size == 0
    assert augment.drop_area(found, SENSOR, 0.5, rng).t.size == pytest.approx(3000, rel=0.05)
    assert augment.drop_area(found, SENSOR, 1, rng).t.size == 0
    made = augment.drop_time(found, 0.25, rng)
    gaps = np.diff(made.t)
    assert made.t.size == pytest.approx(3000, rel=0.05)
    assert gaps.max() > 24_000 or made.t[0] > 25_000 or made.t[-1] < 77_000, "in one piece"
    assert augment.drop_time(found, 1, rng).t.size == 0


def test_time(found, rng):
    lengths = [np.ptp(augment.warp_time(found, 0.5, rng).t) / np.ptp(found.t) for _ in range(200)]
    assert 0.66 < min(lengths) < 0.72 and 1.4 < max(lengths) < 1.51 and abs(np.mean(np.log(lengths))) < 0.05
    made = augment.jitter_time(found, 500.0, rng)
    assert made.t[0] >= found.t[0] and sorted(made.x) == sorted(found.x) and not np.array_equal(made.x, found.x)


def test_mirror_images(found):
    made, label = augment.mirror(found, SENSOR, 3, MIRRORED)
    np.testing.assert_array_equal(made.x, 29 - found.x)
    assert label == 6 and [MIRRORED[MIRRORED[i]] for i in range(11)] == list(range(11))
    back, label = augment.mirror(made, SENSOR, label, MIRRORED)
    np.testing.assert_array_equal(back.x, found.x)
    assert label == 3
    with pytest.raises(ValueError, match="belongs to none of the classes"):
        augment.mirror(found, SENSOR, 3, None)


@pytest.mark.parametrize("call, match", [
    (lambda e, r: augment.drop(e, 1.5, r), "share=1.5"), (lambda e, r: augment.drop_area(e, SENSOR, -1, r), "share=-1"),
    (lambda e, r: augment.drop_time(e, np.nan, r), "share=nan"), (lambda e, r: augment.warp_time(e, -1, r), "most=-1"),
    (lambda e, r: augment.jitter_time(e, -1, r), "deviation=-1"),
    (lambda e, r: augment.crop(e, SENSOR, (21, 5), r), "at most \\(20, 30\\)"),
])  # fmt: skip
def test_what_cannot_be(call, match, found, rng):
    with pytest.raises(ValueError, match=match):
        call(found, rng)
