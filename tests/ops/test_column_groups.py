"""Neighbouring columns taken together: the gradients of convolutions of few channels are the stock ones."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from safjax.ops import convolution_formulas as formulas
from safjax.ops.column_groups import kernel_gradient, kernel_of_groups
from safjax.ops.convolution_formulas import Window
from tests.convolutions import assert_equal, normal

pytestmark = pytest.mark.usefixtures("x64")

CASES = {
    # image, kernel, padding, channels, strides; whether pairs of columns scatter, how many stand together
    "as in LeNet": ((9, 12), (5, 5), ((0, 0), (0, 0)), 1, (1, 1), True, 4),
    "several channels": ((6, 10), (3, 5), ((1, 1), (2, 2)), 12, (1, 1), True, None),
    "odd image": ((9, 11), (3, 3), ((1, 1), (1, 2)), 1, (2, 1), False, 2),
    "one axis": ((12,), (5,), ((0, 0),), 1, (1,), True, 4),
    "three axes, cropped": ((4, 5, 8), (2, 3, 5), ((0, 1), (0, 0), (-2, 4)), 3, (1, 2, 1), True, None),
    "wide padding": ((5, 12), (5, 7), ((0, 0), (4, 4)), 1, (1, 1), True, 2),
    "cropped by one": ((8, 9), (2, 4), ((0, 0), (-1, 3)), 1, (1, 1), False, 2),
    "odd output": ((8, 11), (3, 5), ((0, 0), (0, 0)), 1, (1, 1), False, 1),
    "strides": ((8, 11), (3, 5), ((0, 0), (0, 1)), 1, (1, 2), False, 1),
}


@pytest.mark.parametrize("image, kernel, padding, channels, strides, pairs, together", CASES.values(), ids=CASES)
def test_gradients_are_the_stock_ones(image, kernel, padding, channels, strides, pairs, together):
    window = Window(image, kernel, strides, padding, (1,) * len(kernel), 1, None, None)
    x, w = normal(3, *image, channels), normal(*kernel, channels, 6, seed=1)
    y, transpose = jax.vjp(lambda x, w: formulas.convolve(x, w, window), x, w)
    δ = normal(*y.shape, seed=2)
    assert formulas.gains_by_pairs(δ.shape[-2], window) == pairs
    assert together is None or formulas.columns_together(δ.shape[-2], window) == together
    ours = formulas.input_gradient(w, δ, window), formulas.weight_gradient(x, δ, window)
    assert_equal(ours, transpose(δ))


@pytest.mark.parametrize("columns, size", [(3, 2), (5, 2), (5, 4), (4, 3)])
def test_kernel_gradient_is_the_transpose_of_the_kernel_of_groups(columns, size):
    w = normal(2, columns, 3, 4)
    kernels, transpose = jax.vjp(lambda w: kernel_of_groups(w, size), w)
    assert kernels.size > size * w.size
    δ = normal(*kernels.shape, seed=1)
    assert_equal(kernel_gradient(δ, columns, size), transpose(δ)[0], rtol=1e-12, atol=0)


def test_not_a_number_stays_in_its_image():
    window = Window((6, 8), (3, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, None, None)
    δ = normal(3, 4, 4, 6).at[1, 0, 0, 0].set(jnp.nan)
    x = formulas.input_gradient(normal(3, 5, 2, 6), δ, window)
    assert jnp.isfinite(x[::2]).all()
    assert not jnp.isfinite(x[1, 0, 0]).all()
    assert lax.is_finite(x[1, 3:]).all()
