"""A value with the derivatives of another: in both modes, twice, mapped, and inside loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax.neurons import psn, sliding_psn
from safjax.standing_in import with_gradient_of

pytestmark = pytest.mark.usefixtures("x64")
X = np.array([0.3, -1.2, 2.6])


def rounded(x):
    """round(x), differentiated as x³."""
    return with_gradient_of(jnp.round(x), x**3)


def in_a_loop(x):
    return jax.lax.scan(lambda c, _: (c + rounded(x), None), jnp.zeros_like(x), None, 2)[0] / 2


@pytest.mark.parametrize("f", [rounded, jax.jit(rounded), in_a_loop, jax.vmap(rounded)])
@pytest.mark.parametrize("outer", [jax.jacrev, jax.jacfwd])
@pytest.mark.parametrize("inner", [jax.jacrev, jax.jacfwd])
def test_first_and_second_derivatives(f, outer, inner):
    np.testing.assert_array_equal(f(jnp.asarray(X)), np.round(X))
    np.testing.assert_allclose(jnp.diagonal(inner(f)(jnp.asarray(X))), 3 * X**2, rtol=1e-14)
    second = outer(lambda x: jnp.diagonal(inner(f)(x)))(jnp.asarray(X))
    np.testing.assert_allclose(jnp.diagonal(second), 6 * X, rtol=1e-14)


def test_maps_over_one_of_the_two():
    one, x, both = jnp.asarray(7.0), jnp.asarray(X), jax.vmap(with_gradient_of, (None, 0))
    np.testing.assert_array_equal(both(one, x), jnp.full(3, 7.0))
    np.testing.assert_array_equal(jax.vmap(with_gradient_of, (0, None))(x, one), X)
    np.testing.assert_array_equal(jax.jacrev(lambda x: both(one, x))(x), jnp.eye(3))


def test_unlike_arrays_are_refused():
    with pytest.raises(TypeError, match=r"float64\[3\] for float64\[\]"):
        with_gradient_of(jnp.asarray(X), jnp.asarray(1.0))


CURRENTS = np.random.default_rng(0).normal(size=(6, 2, 3))
MATRIX = np.random.default_rng(1).normal(size=(6, 6))
NEURONS = {
    "PSN": lambda x: psn(x, jnp.asarray(MATRIX), jnp.zeros(6), jax.nn.sigmoid),
    "sliding": lambda x: sliding_psn(x, jnp.asarray([0.2, 0.5, 1.0]), 0.0, jax.nn.sigmoid),
}


@pytest.mark.parametrize("kind", NEURONS)
def test_parallel_neurons_in_a_loop_over_layers(kind):
    """Differentiated twice, and forwards: with a `custom_jvp` the first of these ended in JAX's error."""
    neurons, currents = NEURONS[kind], jnp.asarray(CURRENTS)

    def looped(x):
        return jnp.sum(jax.lax.scan(lambda c, _: (neurons(c), None), x, None, 2)[0] ** 2)

    def unrolled(x):
        return jnp.sum(neurons(neurons(x)) ** 2)

    direction = jnp.cos(currents)
    for twice in (
        lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), direction))(currents),
        lambda f: jax.jvp(jax.grad(f), (currents,), (direction,))[1],
    ):
        expected = twice(unrolled)
        np.testing.assert_allclose(twice(looped), expected, rtol=1e-10, atol=1e-12 * float(jnp.abs(expected).max()))
        assert jnp.abs(expected).max() > 1e-4
