"""The convolution and its gradients equal the stock ones, whatever the sizes, strides, paddings and number formats."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from safjax.ops import conv_general_dilated, convolution_formulas
from tests.convolutions import NHWC, SAME, all_three, assert_equal, normal


@st.composite
def cases(draw):
    """Shapes and options of a covered convolution with a non-empty output."""
    spatial = draw(st.sampled_from([1, 2, 2, 2, 3]))
    axes = partial(st.lists, min_size=spatial, max_size=spatial)
    kernel = draw(axes(st.integers(1, 3)))
    strides, dilation = draw(axes(st.integers(1, 3))), draw(axes(st.integers(1, 2)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, features = groups * draw(st.sampled_from([1, 3, 16])), groups * draw(st.integers(1, 3))
    padding = draw(
        st.sampled_from(["SAME", "SAME_LOWER", "VALID"]) | axes(st.tuples(st.integers(-1, 3), st.integers(-1, 3)))
    )
    # Large enough for one window whatever is cropped; sizes that strides do not divide included.
    image = [d * (k - 1) + 3 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)]
    letters = "ABD"[:spatial]
    options = {
        "window_strides": tuple(strides),
        "padding": padding,
        "rhs_dilation": tuple(dilation),
        "feature_group_count": groups,
        "dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    }
    x, w = (draw(st.integers(1, 3)), *image, channels), (*kernel, channels // groups, features)
    return x, w, options


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cases())
def test_value_and_gradients_equal_the_stock_ones(case):
    x_shape, w_shape, options = case
    with jax.enable_x64(True):
        x, w = normal(*x_shape), normal(*w_shape, seed=1)
        δ = normal(*jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w).shape, seed=2)
        ours = jax.jit(partial(all_three, conv_general_dilated, **options))(x, w, δ)
        stock = jax.jit(partial(all_three, lax.conv_general_dilated, **options))(x, w, δ)
        assert_equal(ours, stock)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(cases().filter(lambda case: len(case[0]) > 3))
def test_single_precision_takes_the_row_formula_and_agrees(case):
    x_shape, w_shape, options = case
    x, w = normal(*x_shape, dtype=jnp.float32), normal(*w_shape, seed=1, dtype=jnp.float32)
    δ = normal(*jax.eval_shape(partial(lax.conv_general_dilated, **options), x, w).shape, seed=2, dtype=jnp.float32)
    ours = jax.jit(partial(all_three, conv_general_dilated, **options))(x, w, δ)
    with jax.enable_x64(True):
        double = [jnp.asarray(a, jnp.float64) for a in (x, w, δ)]
        exact = jax.jit(partial(all_three, lax.conv_general_dilated, **options))(*double)
        assert_equal([jnp.asarray(a, jnp.float64) for a in ours], exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_formulas_in_double_precision(x64, strides, groups):
    """Those that the public function leaves to other precisions (rows) or to thicker groups (input gradient)."""
    window = convolution_formulas.Window(
        image=(7, 8),
        kernel=(3, 2),
        strides=strides,
        padding=((1, 2), (-1, 2)),
        dilation=(2, 2),
        groups=groups,
        precision=None,
        dtype=None,
    )
    x, w = normal(2, 7, 8, 4), normal(3, 2, 4 // groups, 6)
    y, vjp = jax.vjp(lambda x, w: convolution_formulas.convolve(x, w, window), x, w)
    δ = normal(*y.shape, seed=1)
    dx, dw = vjp(δ)
    assert_equal(convolution_formulas.input_gradient(w, δ, window), dx)
    assert_equal(convolution_formulas.weight_gradient_by_rows(x, δ, window), dw)


@pytest.mark.parametrize("features", [4, 130])
@pytest.mark.parametrize("columns", [7, 10])
def test_long_rows_do_not_change_the_value(x64, columns, features):
    x, w = normal(3, 5, columns, 16), normal(3, 3, 16, features)
    options = {"window_strides": (2, 1), "padding": ((0, 1), (2, 0)), "dimension_numbers": NHWC}
    assert_equal(conv_general_dilated(x, w, **options), lax.conv_general_dilated(x, w, **options))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("preferred", [None, jnp.float32])
def test_low_precision_keeps_dtypes_and_accumulates_like_stock(dtype, preferred):
    x, w = normal(8, 9, 9, 16, dtype=dtype), normal(3, 3, 16, 4, seed=1, dtype=dtype)
    options = {**SAME, "preferred_element_type": preferred}
    δ = normal(8, 9, 9, 4, seed=2, dtype=preferred or dtype)
    ours = all_three(conv_general_dilated, x, w, δ, **options)
    stock = all_three(lax.conv_general_dilated, x, w, δ, **options)
    exact = all_three(lax.conv_general_dilated, *(a.astype(jnp.float32) for a in (x, w, δ)), **SAME)
    for a, b, c in zip(ours, stock, exact, strict=True):
        assert a.dtype == b.dtype
        unit = float(jnp.finfo(dtype).eps) * float(jnp.abs(c).max())
        np.testing.assert_allclose(a.astype(jnp.float32), c, rtol=0, atol=unit)
