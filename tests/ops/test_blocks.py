"""A convolution of a large batch goes in blocks of images: nothing else changes."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from safjax.ops import blocks, conv_general_dilated, max_pool
from tests.convolutions import NHWC, all_three, assert_equal, normal

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(
    "x, w, strides",
    {
        "plain": ((12, 6, 7, 16), (3, 3, 16, 5), (1, 1)),
        "few channels": ((12, 6, 7, 3), (3, 2, 3, 5), (1, 1)),
        "one channel": ((12, 6, 7, 1), (3, 2, 1, 5), (1, 1)),
        "strides": ((12, 7, 7, 16), (3, 3, 16, 5), (2, 2)),
        "one by one": ((12, 7, 7, 16), (1, 1, 16, 5), (2, 2)),
        "a prime number of images": ((7, 6, 7, 16), (3, 3, 16, 5), (1, 1)),
    }.values(),
)
def test_value_and_gradients_are_those_of_the_whole_batch(monkeypatch, x, w, strides):
    monkeypatch.setattr(blocks, "BLOCK", 3 * 8 * (6 * 7 * 16 + 6 * 7 * 5))
    options = {"window_strides": strides, "padding": "SAME", "dimension_numbers": NHWC}
    x, w = normal(*x), normal(*w, seed=1)
    δ = normal(*jax.eval_shape(functools.partial(lax.conv_general_dilated, **options), x, w).shape, seed=2)
    # A function of its own: what was compiled with larger blocks must not be found.
    ours = jax.jit(lambda x, w, δ: all_three(conv_general_dilated, x, w, δ, **options))
    assert_equal(ours(x, w, δ), jax.jit(functools.partial(all_three, lax.conv_general_dilated, **options))(x, w, δ))


def test_blocks_divide_the_batch_and_fit_the_cache():
    assert blocks.blocks_of(16, 1) == 1
    assert blocks.blocks_of(96, blocks.BLOCK // 8) == 12
    assert blocks.blocks_of(90, blocks.BLOCK // 8) == 15
    assert blocks.blocks_of(97, blocks.BLOCK // 8) == 1  # none between 13 and 52
    assert blocks.blocks_of(4, 10 * blocks.BLOCK) == 4
    assert [blocks.blocks_of(images, 1, at_least=2) for images in (16, 9, 1, 11)] == [2, 3, 1, 1]


def test_one_channel_is_not_convolved_again_for_each_entry_of_a_pooled_window():
    """Not even of a small batch is the compiler left without a loop, which keeps the two from becoming one fusion."""
    x, w = jnp.ones((4, 12, 12, 1)), jnp.ones((5, 5, 1, 6))

    def pooled(x, w):
        return max_pool(conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=NHWC), (2, 2))

    text = jax.jit(pooled).lower(x, w).compile().as_text()
    assert " while(" in text and text.count(" multiply(") == 25


def test_the_loop_over_blocks_is_there(monkeypatch):
    """Or else the first test would compare nothing."""
    monkeypatch.setattr(blocks, "BLOCK", 1 << 12)
    x, w = jnp.ones((8, 8, 8, 16)), jnp.ones((3, 3, 16, 5))
    convolve = functools.partial(conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NHWC)
    text = jax.jit(lambda x, w: convolve(x, w) + 0).lower(x, w).as_text()
    assert "while" in text
