"""Delays of a whole sequence against loops over its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax import delays

pytestmark = pytest.mark.usefixtures("x64")

LONGEST, STEPS = 4, 6


def sequence(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=(LONGEST + STEPS, 2, *shape)))


@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (5, 1), (1, 3)])
def test_shifted(shape):
    x, d = sequence(5, 3), np.random.default_rng(1).integers(0, LONGEST + 1, shape)
    everywhere = np.broadcast_to(d, (5, 3))
    expected = np.empty((STEPS, 2, 5, 3))
    for t, i, j in np.ndindex(STEPS, 5, 3):
        expected[t, :, i, j] = x[t + LONGEST - everywhere[i, j], :, i, j]
    np.testing.assert_array_equal(delays.shifted(x, d, LONGEST), expected)


def test_of_whole_delays_all_kinds_are_one():
    x, d = sequence(3), jnp.array([0.0, 2.0, 4.0])
    expected = delays.shifted(x, d.astype(int), LONGEST)
    np.testing.assert_array_equal(delays.interpolated(x, d, LONGEST), expected)
    for kernel in (delays.gaussian(d, 0.01, LONGEST), delays.between_two(d, LONGEST), delays.nearest(d + 0.4, LONGEST)):
        np.testing.assert_allclose(delays.weighed(x, kernel), expected, rtol=1e-12)
    np.testing.assert_allclose(delays.gaussian(d, 3.0, LONGEST).sum(0), 1, rtol=1e-12)


def test_one_step_is_one_of_many():
    x, kernel = sequence(3), delays.gaussian(jnp.array([0.3, 2.0, 3.9]), 0.9, LONGEST)
    dense = kernel[..., None] * jnp.arange(6.0).reshape(3, 2)
    for function, weights in ((delays.weighed, kernel), (delays.convolved, dense)):
        steps = [function(x[t : t + LONGEST + 1], weights)[0] for t in range(STEPS)]
        np.testing.assert_allclose(function(x, weights), jnp.stack(steps), rtol=1e-12, atol=1e-14)
    expected = sum(x[LONGEST - k : LONGEST - k + STEPS] @ dense[k] for k in range(LONGEST + 1))
    np.testing.assert_allclose(delays.convolved(x, dense), expected, rtol=1e-12, atol=1e-14)


def test_between_two_has_the_gradient_of_interpolated():
    x, d = sequence(3), jnp.array([0.3, 2.0, 4.0])
    ours, expected = (
        jax.grad(lambda d: jnp.sum(f(d) ** 2))(d)  # noqa: B023
        for f in (
            lambda d: delays.weighed(x, delays.between_two(d, LONGEST)),
            lambda d: delays.interpolated(x, d, LONGEST),
        )
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert (expected != 0).all()


def test_nothing_of_later_steps_is_seen():
    x = sequence(3).at[LONGEST + 3].set(np.nan)
    kernel = delays.gaussian(jnp.array([0.3, 2.0, 3.9]), 0.9, LONGEST)
    for y in (delays.weighed(x, kernel), delays.interpolated(x, jnp.array([0.3, 2.0, 3.9]), LONGEST)):
        assert jnp.isfinite(y[:3]).all() and not jnp.isfinite(y).all()


def test_the_gradient_keeps_the_sequence_once():
    """Not K + 1 times."""
    longest, x = 40, jax.ShapeDtypeStruct((40 + 64, 8, 128), jnp.float32)

    def loss(x, kernel):
        return jnp.sum(delays.weighed(jnp.sin(x), kernel) ** 2)

    kernel = jax.ShapeDtypeStruct((longest + 1, 128), jnp.float32)
    memory = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile().memory_analysis().temp_size_in_bytes
    assert memory < 8 * 104 * 8 * 128 * 4
