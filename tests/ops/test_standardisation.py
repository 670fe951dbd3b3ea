"""Weight standardisation against its formula."""

import jax.numpy as jnp
import numpy as np
import pytest

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
