"""What is not a number in one example of a batch stays in it: convolutions, their gradients, pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax import ops
from safjax.computed_after import zero_known_with
from safjax.ops import winograd
from tests.convolutions import normal

BATCH = 3
WIDE = (3, 3, 64, 128)

# Kernel and options of convolutions of x[3, *spatial, channels]: every formula that there is.
CONVOLUTIONS = {
    "winograd": ((6, 5), WIDE, {}),
    "winograd, tiles of 4×4": ((10, 11), WIDE, {}),
    "winograd, valid": ((6, 5), WIDE, {"padding": "VALID"}),
    "winograd, uneven padding": ((6, 5), WIDE, {"padding": ((2, 0), (0, 3))}),
    "long rows": ((6, 5), (3, 3, 16, 4), {}),
    "long rows, dilated": ((7, 8), (3, 2, 16, 4), {"rhs_dilation": (2, 3)}),
    "as it stands": ((6, 5), (3, 3, 2, 4), {}),
    "strides": ((7, 6), (3, 3, 16, 4), {"window_strides": (2, 2)}),
    "strides on one axis": ((7, 6), (3, 3, 16, 4), {"window_strides": (2, 1)}),
    "groups": ((6, 5), (3, 3, 16, 16), {"feature_group_count": 2}),
    "groups of one channel": ((6, 5), (3, 3, 1, 16), {"feature_group_count": 16}),
    "1×1": ((4, 4), (1, 1, 16, 4), {}),
    "one spatial axis": ((9,), (3, 16, 4), {}),
    "three spatial axes": ((4, 3, 4), (2, 2, 2, 16, 4), {}),
    "kernel of another layout": ((6, 5), (3, 3, 16, 4), {"dimension_numbers": ("NHWC", "OIHW", "NHWC")}),
}
# Where in an example the number stands, as a fraction of its entries; and in which example.
PLACES = [(0.0, 0), (0.5, 1), (1.0, 2), (0.0, 2), (1.0, 0)]
NUMBERS = [np.nan, np.inf, -np.inf]


def spoilt(x, example, place, number, axis=0):
    """x with one entry of one example, along `axis`, put in the place of another."""
    x = np.moveaxis(np.array(x), axis, 0)
    x[example].flat[int(place * (x[example].size - 1))] = number
    return jnp.asarray(np.moveaxis(x, 0, axis))


def assert_isolated(function, x, number, places=PLACES, axis=0):
    """All examples but the spoilt one are the same to the last bit in every result of `function`."""
    clean = jax.tree.leaves(function(x))
    assert all(np.isfinite(a).all() and np.abs(a).max() > 0 for a in clean)
    for place, example in places:
        for before, after in zip(
            clean, jax.tree.leaves(function(spoilt(x, example, place, number, axis))), strict=True
        ):
            before, after = (np.delete(a, example, axis) for a in (before, after))
            np.testing.assert_array_equal(after, before, err_msg=f"{number} in example {example} at {place}")


@functools.cache
def program(name):
    """x ↦ the convolution and δ ↦ its input gradient, and examples of x and δ; compiled once."""
    spatial, kernel, options = CONVOLUTIONS[name]
    options = _defaults(len(spatial)) | options
    groups = options.get("feature_group_count", 1)
    x, w = normal(BATCH, *spatial, groups * kernel[-2], dtype=jnp.float32), normal(*kernel, seed=1, dtype=jnp.float32)
    if name == "kernel of another layout":
        w = w.transpose(3, 2, 0, 1)
    function = jax.jit(lambda x: ops.conv_general_dilated(x, w, **options))
    gradient = jax.jit(lambda δ: jax.vjp(lambda x: ops.conv_general_dilated(x, w, **options), x)[1](δ)[0])
    δ = normal(*jax.eval_shape(function, x).shape, seed=2, dtype=jnp.float32)
    return function, x, gradient, δ


def _defaults(spatial):
    letters = "DHW"[-spatial:]
    layouts = f"N{letters}C", f"{letters}IO", f"N{letters}C"
    return {"window_strides": (1,) * spatial, "padding": "SAME", "dimension_numbers": layouts}


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_input_gradients(name, number):
    function, x, gradient, δ = program(name)
    assert_isolated(function, x, number)
    assert_isolated(gradient, δ, number)


@pytest.mark.parametrize("name", ["winograd", "long rows", "strides"])
def test_the_input_gradient_of_others_when_the_input_is_not_finite(name):
    function, x, _, _ = program(name)

    @jax.jit
    def gradients(x):
        return jax.grad(lambda x: jnp.sum(jnp.tanh(function(x))))(x)

    assert_isolated(gradients, x, np.nan)


@pytest.mark.parametrize("name", ["winograd", "strides", "one spatial axis"])
def test_the_weight_gradient_shows_it(name):
    """In both of its factors: a weight gradient that looked finite would be a wrong one."""
    spatial, kernel, options = CONVOLUTIONS[name]
    options = _defaults(len(spatial)) | options
    _, x, _, δ = program(name)
    w = normal(*kernel, seed=1, dtype=jnp.float32)
    gradient = jax.jit(lambda x, δ: jax.vjp(lambda w: ops.conv_general_dilated(x, w, **options), w)[1](δ)[0])
    for number in NUMBERS:
        assert not np.isfinite(gradient(spoilt(x, 1, 0.0, number), δ)).all()
        assert not np.isfinite(gradient(x, spoilt(δ, 1, 0.0, number))).all()


@pytest.mark.parametrize("block", [1, 50_000])
def test_blocks_of_tiles(block, monkeypatch):
    """Several blocks, and the border between two."""
    monkeypatch.setattr(winograd, "BLOCK", block)
    x, w, padding = normal(BATCH, 16, 6, 2), normal(3, 3, 2, 3, seed=1), ((1, 1), (1, 1))
    δ = normal(BATCH, 16, 6, 3, seed=2)
    assert_isolated(jax.jit(lambda x: winograd.convolve(x, w, padding)), x, np.nan)
    assert_isolated(jax.jit(lambda δ: winograd.input_gradient(w, δ, padding)), δ, np.nan)


POOLS = {
    "tiles": lambda x: ops.avg_pool(x, (2, 2)),
    "overlapping": lambda x: ops.avg_pool(x, (3, 2), (1, 2), "SAME"),
    "padded": lambda x: ops.avg_pool(x, (2, 2), padding=((1, 1), (0, 2))),
    "global": ops.global_avg_pool,
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name):
    x = normal(BATCH, 6, 6, 3)
    for number in NUMBERS:
        assert_isolated(POOLS[name], x, number)
        assert_isolated(lambda δ: jax.vjp(POOLS[name], x)[1](δ)[0], POOLS[name](x), number)


def test_a_number_that_is_zero_whatever_the_array_holds():
    """And of which the compiler does not know that it is: the program still looks at the array."""
    program = jax.jit(zero_known_with)
    for first in (*NUMBERS, 0.0, -0.0, 6e4, -6e4):
        for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
            assert program(jnp.full((2, 3), first, dtype)) == 0
    assert " compare(" in program.lower(jnp.ones((2, 3))).compile().as_text()
