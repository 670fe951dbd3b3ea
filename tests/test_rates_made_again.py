"""Rates that the backward pass makes again of accumulated spikes: the gradient of rates that are kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.held import late
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.rules.accumulation import RatePropagation
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def convolution(n, m, rngs):
    return nnx.Conv(n, m, (3, 3), kernel_init=nnx.initializers.normal(0.5), param_dtype=nets.DTYPE, rngs=rngs)


def neurons():
    return LIF(0.5, nnx.Param(jnp.full((), 1.1, nets.DTYPE)), scaled=True)


def pool(x):
    return 2.0 * safjax.ops.avg_pool(x, (2, 2))


def flat(x):
    return x.reshape(len(x), -1)


def net():
    """Learned thresholds as heights of spikes, and pooling."""
    rngs = nnx.Rngs(0)
    pooled = nnx.Sequential(pool, convolution(4, 4, rngs))
    last = nnx.Sequential(flat, nnx.Linear(36, nets.CLASSES, param_dtype=nets.DTYPE, rngs=rngs))
    layers = Synapse(convolution(2, 4, rngs)), neurons(), Synapse(pooled), neurons(), Synapse(last), LeakyReadout()
    return nnx.Sequential(*layers)


def test_the_gradient_is_that_of_rates_that_are_kept():
    image, labels = nets.image(), nets.labels()
    (value, aux), grads = safjax.value_and_grad(nets.loss, rules.saf_e(), 5)(net(), image, labels)
    nets.assert_fires(aux.rates)
    kept = dataclasses.replace(rules.saf_e(), propagation=RatePropagation())
    (expected, _), exact = safjax.value_and_grad(nets.loss, kept, 5)(net(), image, labels)
    assert value == expected
    nets.assert_trees_close(grads, exact, rtol=1e-12)


def test_late():
    """x itself, by every transformation."""
    x, known = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2))), jnp.ones((3, 4))
    assert (jax.jit(late)(x, known) == x).all() and (late(x, known) == x).all()
    for axes in ((0, 0), (1, None), (None, 0), (0, 1)):
        out = jax.vmap(late, axes)(x, known if axes[1] != 1 else known.T)
        np.testing.assert_array_equal(out, jnp.moveaxis(x, axes[0] or 0, 0) if axes[0] is not None else [x] * 3)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(late(x, known) ** 2))(x), 2 * x)
    assert (jax.grad(lambda known: jnp.sum(late(x, known)))(known) == 0).all()
    barriers = jax.export.export(jax.jit(late), platforms=["cuda"])(x, known).mlir_module()
    assert "optimization_barrier" in barriers
    assert "optimization_barrier" not in jax.jit(late).lower(x, known).as_text()
