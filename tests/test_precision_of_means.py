"""Number formats of rate-based back-propagation, layer by layer too: means over time are sums of float32 or wider."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse
from tests import nets
from tests.test_precision import BFLOAT16, ROUNDING, assert_products_in_bfloat16, equations, floats, training_program

FORMS = {"by step": rules.rate_backprop(), "by layer": rules.rate_backprop(layerwise=True)}


def test_layer_by_layer_parameters_and_gradients_are_float32_and_products_bfloat16():
    jaxpr, results = training_program(FORMS["by layer"], BFLOAT16, jnp.float32)
    assert floats(jax.tree.leaves(results)) == {"float32"}
    assert_products_in_bfloat16(equations(jaxpr))


@pytest.mark.parametrize("video", [True, False])
def test_layer_by_layer_float64_is_float64_throughout(video, x64):
    jaxpr, shapes = training_program(FORMS["by layer"], jnp.float64, jnp.float64, video)
    assert floats(jax.tree.leaves(shapes)) == {"float64"}
    assert floats(v.aval for e in equations(jaxpr) for v in (*e.invars, *e.outvars)) == {"float64"}


def gradient(rule, dtype, steps=6):
    """Of two layers whose products are in this format, without spikes that rounding flips."""
    images = jnp.asarray(np.random.default_rng(4).uniform(-1, 2, (4, 7)), jnp.float32)
    rngs = nnx.Rngs(1)
    dense = [
        Synapse(nnx.Linear(a, b, kernel_init=nnx.initializers.normal(1.5 / a**0.5), dtype=dtype, rngs=rngs))
        for a, b in ((7, 9), (9, nets.CLASSES))
    ]
    model = nnx.Sequential(dense[0], LIF(), dense[1], LeakyReadout())
    labels = jnp.arange(4) % nets.CLASSES
    (_, aux), grads = safjax.value_and_grad(nets.loss, rule, steps)(model, images, labels)
    nets.assert_fires(aux.rates)
    return aux.rates, grads


@pytest.mark.parametrize("dtype", [BFLOAT16, jnp.float16])
def test_both_forms_agree_to_the_rounding_of_half_precision(dtype):
    unit = float(jnp.finfo(dtype).eps)
    (rates, by_step), (rates_by_layer, by_layer) = (gradient(rule, dtype) for rule in FORMS.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), rates, rates_by_layer)
    assert nets.distance(by_layer, by_step) < 2 * unit
    assert unit / 100 < nets.distance(by_step, gradient(FORMS["by step"], jnp.float32)[1]) < 10 * unit


@pytest.mark.parametrize("form", FORMS)
def test_means_over_many_steps_are_not_those_of_half_precision(form):
    """A sum of bfloat16 stays at 256 ones; 600 steps at which a neuron fires at every one have the mean rate 1."""
    net = nnx.Sequential(LIF(0.0), Synapse(Scale()), InstantReadout())
    (_, aux), grads = safjax.value_and_grad(lambda o: o.sum(), FORMS[form], 600)(net, jnp.full((1, 1), 2.0, BFLOAT16))
    assert aux.rates == {"layers.0": 1.0}
    np.testing.assert_allclose(grads["layers"][1]["layer"]["weight"], 1.0, rtol=ROUNDING)


class Scale(nnx.Module):
    """x ↦ w x in bfloat16."""

    def __init__(self):
        self.weight = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return self.weight[...].astype(BFLOAT16) * x.astype(BFLOAT16)
