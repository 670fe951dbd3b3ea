"""Random changes of images, written for one image and run for a batch inside `jit`.

A transform is a function (key, image [H, W, C]) -> image. `compose` chains transforms and maps the
chain over a batch, with a key of its own for every image. What is drawn at random is drawn in 32 bits, and so is the
same in every precision.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Transform = Callable[[jax.Array, jax.Array], jax.Array]


def compose(*transforms: Transform) -> Transform:
    """Chains transforms of one image into a function of a batch.

    Args:
      *transforms: functions (key, image [H, W, C]) -> image, applied from left to right.

    Returns:
      A function (key, images [B, H, W, C]) -> images.
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        for place, transform in enumerate(transforms):
            image = transform(jax.random.fold_in(key, place), image)
        return image

    def batch(key: jax.Array, images: jax.Array) -> jax.Array:
        return jax.vmap(one)(jax.random.split(key, images.shape[0]), images)

    return batch


def unchanged(key: jax.Array, batch: jax.Array) -> jax.Array:
    """The transform that changes nothing."""
    return batch


def random_crop(padding: int) -> Transform:
    """Shifts by up to `padding` pixels along each axis; what comes in at the edge is 0."""

    def crop(key: jax.Array, image: jax.Array) -> jax.Array:
        padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)

    return crop


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors left and right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def cutout(
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.4, 2.5),
) -> Transform:
    """Covers a rectangle with one grey level, the same for all channels (DeVries & Taylor, 2017).

    With a share a of the image and an aspect r, both uniform, the rectangle has ⌊√(a·H·W·r)⌋ rows
    and ⌊√(a·H·W/r)⌋ columns, cut to the image, and lies anywhere inside of it. The level is one
    of 0 .. 254.

    Compose it after crop and flip: read through a later one of these, XLA's CPU backend computes
    the rectangle anew for every pixel, which was measured to be 15 times slower.

    Args:
      probability: probability that an image gets a rectangle.
      area: smallest and largest share of the image's area.
      aspect: smallest and largest ratio of height to width.

    Returns:
      A transform of uint8 images.
    """

    def cut(key: jax.Array, image: jax.Array) -> jax.Array:
        limits = jnp.array(image.shape[:2])
        draws = jax.random.uniform(key, (6,), jnp.float32)
        share = area[0] + (area[1] - area[0]) * draws[0]
        ratio = aspect[0] + (aspect[1] - aspect[0]) * draws[1]
        sides = jnp.sqrt(share * limits.prod() * jnp.stack([ratio, 1 / ratio]))
        size = jnp.minimum(sides.astype(jnp.int32), limits)
        start = ((limits - size + 1) * draws[2:4]).astype(jnp.int32)
        rows, columns = (_interval(start[axis], size[axis], image.shape[axis]) for axis in (0, 1))
        covered = rows[:, None] & columns & (draws[4] < probability)
        grey = (255 * draws[5]).astype(image.dtype)
        return jnp.where(covered[..., None], grey, image)

    return cut


def _interval(start: jax.Array, length: jax.Array, size: int) -> jax.Array:
    """bool [size], True at start .. start + length - 1."""
    place = jnp.arange(size)
    return (place >= start) & (place < start + length)


def normalise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """(images / 255 - mean) / std, channel by channel.

    Args:
      images: uint8 [..., C].
      mean: mean of each channel, with 255 taken as 1.
      std: standard deviation of each channel, in the same unit.

    Returns:
      float32 of the same shape; float64 where 64-bit numbers are enabled.
    """
    return (images.astype(float) / 255 - jnp.asarray(mean, float)) / jnp.asarray(std, float)
