"""Average pooling equals flax's, and its gradient spreads evenly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from safjax.ops import avg_pool, global_avg_pool
from safjax.ops.pooling import _mean_of_windows


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def value_and_gradient(pool, x, seed=1):
    y, vjp = jax.vjp(pool, x)
    return y, *vjp(normal(*y.shape, seed=seed))


def assert_equal(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), tuple(a), tuple(b))


@st.composite
def cases(draw):
    spatial = draw(st.integers(1, 3))
    axes = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(spatial))  # noqa: E731
    window, strides = axes(1, 3), draw(st.sampled_from([None, axes(1, 3)]))
    tiles = draw(st.booleans())
    image = tuple(k * m if tiles else k + m for k, m in zip(window, axes(1, 3), strict=True))
    padding = draw(st.sampled_from(["VALID", "SAME", tuple((0, min(1, k - 1)) for k in window)]))
    return (2, *image, 3), window, strides, padding


@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases())
def test_equals_flax(case):
    shape, window, strides, padding = case
    with jax.enable_x64(True):
        x = normal(*shape)
        ours = jax.jit(lambda x: value_and_gradient(lambda x: avg_pool(x, window, strides, padding), x))(x)
        flax = jax.jit(lambda x: value_and_gradient(lambda x: nnx.avg_pool(x, window, strides or window, padding), x))(
            x
        )
        assert_equal(ours, flax)


def test_leading_axes_are_independent():
    with jax.enable_x64(True):
        x = normal(2, 3, 4, 6, 5)
        for pool in (lambda x: avg_pool(x, (2, 3)), lambda x: avg_pool(x, (2, 2), (1, 1), "SAME")):
            assert_equal([pool(x)], [jnp.stack([jnp.stack([pool(image) for image in row]) for row in x])])


def test_padding_counts_as_zeros_in_the_mean():
    x = jnp.ones((1, 2, 2, 1))
    np.testing.assert_array_equal(avg_pool(x, (2, 2), (2, 2), ((1, 1), (0, 0)))[0, :, 0, 0], [0.5, 0.5])


@pytest.mark.parametrize("size", [7, 8])
def test_overlapping_windows_with_padding_are_sums_over_ninths(size):
    """Windows of 3, two apart, one row of zeros around: also at the edge the divisor is 9, and the gradient's too."""
    matrix = np.zeros((-(-size // 2), size))
    for row in range(len(matrix)):
        matrix[row, max(0, 2 * row - 1) : 2 * row + 2] = 1 / 3
    with jax.enable_x64(True):
        x = normal(2, size, size, 3)
        y, gradient = value_and_gradient(lambda x: avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
        np.testing.assert_allclose(y, np.einsum("ih,jw,bhwc->bijc", matrix, matrix, x), rtol=1e-12, atol=1e-14)
        expected = np.einsum("ih,jw,bijc->bhwc", matrix, matrix, normal(*y.shape, seed=1))
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


def lowered(function, platform):
    return (
        jax.jit(jax.grad(lambda x: (function(x) ** 2).sum()))
        .trace(jnp.ones((1, 4, 4, 2)))
        .lower(lowering_platforms=(platform,))
        .as_text()
    )


def test_exact_tiles_need_no_window_operation_but_on_tpus():
    for platform, windows in (("cpu", False), ("cuda", False), ("tpu", True)):
        assert ("reduce_window" in lowered(lambda x: avg_pool(x, (2, 2)), platform)) == windows
        assert "reduce_window" in lowered(lambda x: avg_pool(x, (3, 3)), platform)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_tiles_and_windows_have_one_mean(dtype):
    """Of spikes and of their sums bit for bit, so that what ties on one platform ties on the other."""
    x = jnp.asarray(np.random.default_rng(0).integers(0, 5, (2, 8, 6, 3)), dtype) * 0.25
    of_windows = functools.partial(_mean_of_windows, window=(2, 2), strides=(2, 2), pads=((0, 0), (0, 0)))
    windows = of_windows(x.astype(jnp.float32)).astype(dtype)
    np.testing.assert_array_equal(*(np.asarray(y, np.float32) for y in (avg_pool(x, (2, 2)), windows)))
    with jax.enable_x64(True):
        wide = x.astype(jnp.float64)
        assert_equal(*(value_and_gradient(pool, wide) for pool in (lambda x: avg_pool(x, (2, 2)), of_windows)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype_under_jit_and_grad(dtype):
    x = jnp.ones((2, 5, 5, 3), dtype)
    for pool in (lambda x: avg_pool(x, (5, 5)), lambda x: avg_pool(x, (2, 2)), global_avg_pool):
        assert pool(x).dtype == dtype
        assert jax.jit(jax.grad(lambda x: pool(x).sum()))(x).dtype == dtype  # noqa: B023


def test_global_pool_is_the_mean_over_space():
    with jax.enable_x64(True):
        x = normal(2, 3, 4, 5)
        y, gradient = value_and_gradient(global_avg_pool, x)
        np.testing.assert_allclose(y, x.reshape(2, 12, 5).mean(1), rtol=1e-12)
        np.testing.assert_allclose(gradient, jnp.broadcast_to(normal(2, 5, seed=1)[:, None, None] / 12, x.shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "one window size for each spatial axis"),
        (((2, 2, 2, 2),), "one window size for each spatial axis"),
        (((2, 0),), "both at least 1"),
        (((2, 2), (2,)), "one stride"),
        (((2, 2), None, "FULL"), '"VALID", "SAME"'),
        (((2, 2), None, ((1, 1),)), "low, high"),
        (((5, 2),), "fit into the padded input"),
    ],
)
def test_unfit_arguments_say_what_is_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        avg_pool(jnp.ones((2, 4, 4, 3)), *arguments)


def test_global_pool_needs_a_spatial_axis():
    with pytest.raises(ValueError, match="at least three axes"):
        global_avg_pool(jnp.ones((2, 3)))
