"""Events of sound changed at random, for training: another voice, and parts that are not heard.

A transform is a function (key, counts [T, 2 · bands]) -> counts of one example, of every band OFF and ON in turn, as
those of `experiments.data.images.augment` are of one image. None moves events in time, and silence stays silence: the
zeros that a sequence is filled up with are left as they are.

What is covered is as in D. S. Park et al., "SpecAugment: a simple data augmentation method for automatic speech
recognition", 2019, section 2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.data.images.augment import Transform, compose

SHIFT, BANDS_COVERED, TIME_COVERED = 1, 1 / 8, 1 / 10
"""Bands by which all events move at most; shares of the bands and of the steps that are covered at most."""


def sound() -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The training with --augmentation=sound: (key, counts [B, T, 2 · bands]) -> counts."""
    return compose(shift_bands(SHIFT), cover_bands(BANDS_COVERED), cover_time(TIME_COVERED))


def shift_bands(most: int) -> Transform:
    """All events higher or lower by the same number of bands, up to `most`; those beyond the last band are gone."""

    def shift(key: jax.Array, counts: jax.Array) -> jax.Array:
        padded = jnp.pad(counts, ((0, 0), (2 * most, 2 * most)))
        begin = 2 * jax.random.randint(key, (), 0, 2 * most + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (jnp.zeros_like(begin), begin), counts.shape)

    return shift


def cover_bands(share: float) -> Transform:
    """Without the events of 0 to share · bands neighbouring bands, anywhere; each number of them is as likely."""

    def cover(key: jax.Array, counts: jax.Array) -> jax.Array:
        covered = jnp.repeat(_interval(key, counts.shape[1] // 2, share), 2)
        return jnp.where(covered, jnp.zeros_like(counts), counts)

    return cover


def cover_time(share: float) -> Transform:
    """Without the events of 0 to share · T steps in one piece, anywhere; each number of them is as likely."""

    def cover(key: jax.Array, counts: jax.Array) -> jax.Array:
        return jnp.where(_interval(key, len(counts), share)[:, None], jnp.zeros_like(counts), counts)

    return cover


def _interval(key: jax.Array, size: int, share: float) -> jax.Array:
    """bool [size], True in one piece of 0 to ⌊share · size⌋."""
    of_length, of_begin = jax.random.split(key)
    length = jax.random.randint(of_length, (), 0, int(share * size) + 1, jnp.int32)
    begin = jax.random.randint(of_begin, (), 0, size - length + 1, jnp.int32)
    place = jnp.arange(size)
    return (place >= begin) & (place < begin + length)
