"""Weight standardisation against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax.nn import WSConv
from safjax.ops.standardisation import standardise

pytestmark = pytest.mark.usefixtures("x64")


def test_formula():
    rng = np.random.default_rng(0)
    kernel, gain = rng.normal(1.0, 2.0, (3, 3, 4, 5)), rng.uniform(0.5, 2.0, 5)
    actual = standardise(jnp.asarray(kernel), jnp.asarray(gain))
    for unit in range(5):
        w = kernel[..., unit]
        expected = gain[unit] * (w - w.mean()) / np.sqrt(w.var(ddof=1) * 36 + 1e-4)
        np.testing.assert_allclose(actual[..., unit], expected, rtol=1e-12)


def test_outputs_have_the_variance_of_the_gain():
    kernel = standardise(jnp.asarray(np.random.default_rng(0).normal(size=(400, 3))), jnp.array([1.0, 2.0, 0.5]))
    expected = np.array([1.0, 4.0, 0.25]) * 399 / 400  # the unbiased variance is n / (n − 1) of the mean square
    np.testing.assert_allclose(np.sum(np.asarray(kernel) ** 2, 0), expected, rtol=1e-5)


def test_kernels_start_at_the_variance_of_he():
    """2 / fan-out. The outputs do not show it, but the size of an update relative to the kernel does."""
    np.testing.assert_allclose(WSConv(4, 64, rngs=nnx.Rngs(0)).kernel[...].var(), 2 / (9 * 64), rtol=0.1)


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (2, 3)])
def test_gradient_equals_autodiff_of_the_formula(shape):
    """Also where the mean is not small, and of a gain that is zero."""

    def formula(kernel, gain):
        axes, size = tuple(range(kernel.ndim - 1)), kernel[..., 0].size
        return gain * (kernel - kernel.mean(axes)) / jnp.sqrt(size * kernel.var(axes, ddof=1) + 1e-4)

    rng = np.random.default_rng(0)
    kernel, gain = jnp.asarray(rng.normal(1.0, 2.0, shape)), jnp.arange(float(shape[-1]))
    error = jnp.asarray(rng.normal(size=shape))
    actual, expected = (jax.vjp(f, kernel, gain)[1](error) for f in (standardise, formula))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
