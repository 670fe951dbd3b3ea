"""Spike functions: a step forward, the stated bump backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax import surrogate

SURROGATES = [
    surrogate.Sigmoid(),
    surrogate.Sigmoid(2.5),
    surrogate.Triangle(),
    surrogate.Triangle(0.5),
    surrogate.Rectangle(0.7),
    surrogate.Arctan(),
    surrogate.Exponential(),
    surrogate.Gaussian(),
]
STEEP = [surrogate.Reciprocal(), surrogate.Reciprocal(0.5)]
POINTS = np.array([-2.0, -0.4, -0.1, 0.0, 0.1, 0.3, 2.0])

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("spike", SURROGATES + STEEP, ids=str)
def test_forward_is_the_step_with_h_of_zero_one(spike):
    np.testing.assert_array_equal(spike(jnp.asarray(POINTS)), (POINTS >= 0).astype(float))
    assert spike(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("spike", SURROGATES + STEEP, ids=str)
def test_both_modes_of_differentiation_give_the_slope(spike):
    x = jnp.asarray(POINTS)
    reverse = jax.vmap(jax.grad(spike))(x)
    forward = jax.jvp(spike, (x,), (jnp.ones_like(x),))[1]
    np.testing.assert_allclose(reverse, spike.slope(x), rtol=1e-14)
    np.testing.assert_allclose(forward, spike.slope(x), rtol=1e-14)


@pytest.mark.parametrize("spike", SURROGATES, ids=str)
def test_the_slope_is_an_even_bump_of_unit_area(spike):
    """Each is the derivative of a smoothed step from 0 to 1 (the exponential: of one twice as high)."""
    x = np.linspace(-60, 60, 240_001)
    slope = np.asarray(spike.slope(jnp.asarray(x)))
    assert slope.argmax() == len(x) // 2 or np.isclose(slope.max(), slope[len(x) // 2])
    np.testing.assert_allclose(slope, slope[::-1], atol=1e-12)
    area = 2.0 if isinstance(spike, surrogate.Exponential) else 1.0
    np.testing.assert_allclose(np.trapezoid(slope, x), area, rtol=1e-2)


@pytest.mark.parametrize(
    "spike, x, expected",
    [
        (surrogate.Sigmoid(4.0), 0.0, 1.0),
        (surrogate.Sigmoid(4.0), 0.5, 4 * np.exp(-2) / (1 + np.exp(-2)) ** 2),
        (surrogate.Triangle(1.0), -0.25, 0.75),
        (surrogate.Triangle(0.5), 0.25, 1.0),
        (surrogate.Rectangle(0.5), 0.2, 2.0),
        (surrogate.Rectangle(0.5), 0.25, 0.0),
        (surrogate.Rectangle(0.5), 0.3, 0.0),
        (surrogate.Arctan(2.0), 1.0, 1 / (1 + np.pi**2)),
        (surrogate.Exponential(0.5, 1.0), -0.5, 2 / np.e),
        (surrogate.Gaussian(0.5), 0.5, np.exp(-0.5) / (0.5 * np.sqrt(2 * np.pi))),
        (surrogate.Reciprocal(0.5), 0.0, 2.0),
        (surrogate.Reciprocal(0.5), 1.5, 0.5),
        (surrogate.Reciprocal(0.5), -0.5, 0.0),
    ],
)
def test_values_worked_out_by_hand(spike, x, expected):
    np.testing.assert_allclose(spike.slope(jnp.asarray(x)), expected, rtol=1e-12)


def test_they_are_values():
    assert surrogate.Sigmoid(4.0) == surrogate.Sigmoid() != surrogate.Sigmoid(2.0)
    assert hash(surrogate.Triangle()) == hash(surrogate.Triangle(1.0))


def test_defaults():
    assert surrogate.Triangle() == surrogate.Triangle(1.0)
    assert surrogate.Rectangle() == surrogate.Rectangle(1.0)
    assert surrogate.Arctan() == surrogate.Arctan(2.0)
    assert surrogate.Exponential() == surrogate.Exponential(0.5, 1.0)
    assert surrogate.Gaussian() == surrogate.Gaussian(0.5)
    assert surrogate.Reciprocal() == surrogate.Reciprocal(1.0)


def test_slopes_of_few_channels_lie_in_long_rows_and_may_differ_between_channels():
    """What a time loop keeps for the way back has the shape whose loops run in vectors; the values are the same."""

    class Widths(surrogate.Surrogate):
        def slope(self, x):
            return jnp.exp(-jnp.abs(x) / jnp.arange(1.0, 4.0))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 3)))
    for spike in (surrogate.Sigmoid(), Widths()):
        s, transpose = jax.vjp(spike, x)
        kept = [leaf.shape for leaf in jax.tree.leaves(transpose) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        assert kept == [(2, 60)]
        np.testing.assert_array_equal(transpose(jnp.ones_like(s))[0], spike.slope(x))
        each = jax.vmap(lambda x, spike=spike: jax.vjp(spike, x)[1](jnp.ones_like(x))[0])(x)
        np.testing.assert_array_equal(each, spike.slope(x))
