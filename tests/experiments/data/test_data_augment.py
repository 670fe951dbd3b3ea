"""What each random change keeps, whatever the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import Images
from experiments.data.images import augmentations
from experiments.data.images.augment import compose, cutout, normalise, random_crop, random_flip

H, W, B = 10, 12, 64
PLACES = np.arange(1, H * W + 1, dtype=np.uint8).reshape(H, W, 1)  # every pixel another value
PURPLE = np.full((B, 32, 32, 3), (255, 0, 255), np.uint8)
keys = st.integers(0, 2**32 - 1).map(jax.random.key)
few = settings(max_examples=25, deadline=None)

crop_2, flip = jax.jit(random_crop(2)), jax.jit(random_flip)
cut = jax.jit(lambda key, images, probability: compose(cutout(probability))(key, images))


@few
@given(keys)
def test_crop_shifts_and_fills_with_zero(key):
    cropped = np.asarray(crop_2(key, PLACES))[..., 0]
    rows, columns = np.nonzero(cropped)
    old_rows, old_columns = np.divmod(cropped[rows, columns].astype(int) - 1, W)
    (down,), (right,) = np.unique(rows - old_rows), np.unique(columns - old_columns)
    assert max(abs(down), abs(right)) <= 2
    assert len(rows) == (H - abs(down)) * (W - abs(right))


def test_crop_reaches_every_shift():
    batch = np.broadcast_to(PLACES, (500, H, W, 1))
    cropped = np.asarray(jax.jit(compose(random_crop(2)))(jax.random.key(0), batch))
    shifts = set(cropped[:, 4, 4, 0].tolist())
    assert shifts == {int(PLACES[4 + y, 4 + x, 0]) for y in range(-2, 3) for x in range(-2, 3)}


@few
@given(keys)
def test_flip_is_identity_or_mirror_and_undoes_itself(key):
    once = flip(key, PLACES)
    assert any(np.array_equal(once, image) for image in (PLACES, PLACES[:, ::-1]))
    np.testing.assert_array_equal(flip(key, once), PLACES)


def test_flip_is_drawn_for_each_image():
    batch = np.broadcast_to(PLACES, (400, H, W, 1))
    flipped = np.asarray(jax.jit(compose(random_flip))(jax.random.key(0), batch))
    assert 0.4 < np.mean(np.any(flipped != PLACES, axis=(1, 2, 3))) < 0.6


@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (0.5, 0.3, 0.7), (1, 1, 1)])
def test_cutout_is_drawn_for_each_image(probability, low, high):
    changed = np.asarray(cut(jax.random.key(0), PURPLE, probability))
    assert low <= np.mean(np.any(changed != PURPLE, axis=(1, 2, 3))) <= high


@few
@given(keys)
def test_cutout_is_one_grey_rectangle_within_the_bounds(key):
    for image in np.asarray(cut(key, PURPLE, 1.0)):
        covered = (image[..., 0] == image[..., 1]) & (image[..., 1] == image[..., 2])
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert covered.sum() == height * width
        assert len(np.unique(image[covered])) == 1 and image[covered].max() < 255
        # Each side is rounded down from √(a·H·W·r) or √(a·H·W/r).
        assert height * width <= 0.4 * 1024 * (1 + 1e-5)
        assert (height + 1) * (width + 1) > 0.02 * 1024
        assert height / (width + 1) < 2.5 and (height + 1) / width > 0.4


def test_cutout_stays_within_a_narrow_image():
    narrow = np.full((B, 4, 64, 1), 255, np.uint8)
    covered = np.asarray(cut(jax.random.key(0), narrow, 1.0)) < 255
    assert covered.any((1, 2, 3)).all()
    assert np.all(covered.any((2, 3)), axis=1).any()  # some cover the whole height and no more


@few
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_normalise_can_be_undone(values):
    image, mean, std = np.array(values, np.uint8), (0.1, 0.5, 0.9), (0.2, 0.3, 1.5)
    normal = normalise(jnp.asarray(image), mean, std)
    assert normal.dtype == jnp.float32
    restored = (np.asarray(normal) * np.array(std) + np.array(mean)) * 255
    np.testing.assert_allclose(restored, image, atol=1e-3)


def toy(channels: int) -> Images:
    images, labels = np.full((2, 16, 16, channels), 51, np.uint8), np.zeros(2, np.int32)
    half = (0.5,) * channels
    return Images("toy", images, labels, images, labels, num_classes=1, mean=half, std=half)


@pytest.mark.parametrize(
    ("recipe", "channels"), [(augmentations.cifar, 3), (augmentations.fashion_mnist, 1), (augmentations.digits, 1)]
)
def test_recipe_is_decided_by_its_key(recipe, channels):
    augment = jax.jit(recipe(toy(channels)))
    draw = jnp.asarray(np.random.default_rng(0).integers(1, 256, (16, 16, 16, channels), np.uint8))
    first = augment(jax.random.key(0), draw)
    assert first.shape == draw.shape and first.dtype == jnp.float32
    np.testing.assert_array_equal(first, augment(jax.random.key(0), draw))
    assert not np.array_equal(first, augment(jax.random.key(1), draw))


def test_digits_are_never_mirrored():
    dataset = toy(1)
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 8, 3:7] = np.array([[40], [80], [160], [255]])
    images = np.repeat(image, 200, 0)
    augmented = jax.jit(augmentations.digits(dataset))(jax.random.key(0), jnp.asarray(images))
    middle = np.asarray(augmented).max(1)[..., 0]
    assert np.all(np.argmax(middle > -0.9, axis=1) < np.argmax(middle, axis=1))


def test_evaluation_normalises_only():
    images = toy(1).test_images
    prepared = augmentations.evaluation(toy(1))(jnp.asarray(images))
    np.testing.assert_allclose(prepared, (images / 255 - 0.5) / 0.5, rtol=1e-6)


def test_composition_runs_from_left_to_right():
    image = np.full((1, 4, 4, 1), 255, np.uint8)

    def halve(key, image):
        return image // 2

    def add_one(key, image):
        return image + 1

    composed = compose(halve, add_one)(jax.random.key(0), jnp.asarray(image))
    np.testing.assert_array_equal(composed, np.full_like(image, 128))
