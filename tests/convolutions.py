"""What the tests of the convolution share: arrays, its two gradients, and comparisons with the stock one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NHWC = ("NHWC", "HWIO", "NHWC")
SAME = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC}


def normal(*shape, seed=0, dtype=None):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype or float)


def all_three(convolution, x, w, δ, **options):
    """Value, input gradient and weight gradient."""
    y, vjp = jax.vjp(partial(convolution, **options), x, w)
    return y, *vjp(δ)


def assert_equal(ours, stock, rtol=1e-10, atol=1e-11):
    ours, stock = jax.tree.leaves(ours), jax.tree.leaves(stock)
    assert len(ours) == len(stock) > 0
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


def loss(convolution, x, w):
    return (jnp.sin(convolution(x, w, **SAME)) ** 2).sum()


def in_scan(convolution):
    def total(x, w):
        def step(carry, image):
            carry = jnp.tanh(convolution(carry + image, w, **SAME))
            return carry, carry.sum()

        return lax.scan(step, jnp.zeros_like(x[:1]), x[:, None])[1].sum()

    return jax.jit(jax.grad(total, (0, 1)))
