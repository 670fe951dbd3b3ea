"""Linen modules, through nnx.bridge.ToNNX, as the layers of synapses."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Dropout, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def image():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 2.0, (nets.BATCH, 7)))


def bridged(module=None):
    module = linen.Dense(nets.CLASSES, param_dtype=nets.DTYPE) if module is None else module
    return nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(image())


def net(layer, *more):
    return nnx.Sequential(Synapse(layer), LIF(), *more, LeakyReadout())


def trained(net, name):
    step = safjax.train_step(nets.loss, rules.RULES[name](), optax.sgd(0.1), 4)
    net, _, (_, aux) = step(net, step.init(net), image(), nets.labels())
    nets.assert_fires(aux.rates)
    return net


def stock(layer):
    linear = nnx.Linear(7, nets.CLASSES, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    linear.kernel[...], linear.bias[...] = layer.kernel[...], layer.bias[...]
    return linear


@pytest.mark.parametrize("name", ["saf_f", "ottt_o"])
def test_a_layer_that_draws_keys_for_nothing(name):
    layer = bridged()
    with pytest.raises(ValueError, match=r"'layer.to_nnx__rngs.default.count'.* layer.to_nnx__rngs = None if") as error:
        trained(net(layer), name)
    assert "batch" not in str(error.value)
    layer.to_nnx__rngs = None
    actual, expected = (trained(net(one), name).layers[0].layer for one in (layer, stock(layer)))
    np.testing.assert_allclose(actual.kernel[...], expected.kernel[...], rtol=1e-12)
    assert np.any(actual.kernel[...] != layer.kernel[...])


def test_rules_that_exchange_spikes_take_it_as_it_is():
    for name in ("bptt", "exodus"):
        layer = bridged()
        actual, expected = (trained(net(one), name).layers[0].layer for one in (layer, stock(layer)))
        np.testing.assert_allclose(actual.kernel[...], expected.kernel[...], rtol=1e-12)


def test_the_message_says_where_in_the_synapse_it_is():
    layers = nnx.Sequential(lambda x: 2.0 * x, bridged())
    with pytest.raises(ValueError, match=r"'layer.layers.1.to_nnx__rngs.default.count'.*layer.layers.1.to_nnx__rngs ="):
        trained(net(layers), "saf_f")
    layers.layers[1].to_nnx__rngs = None
    trained(net(layers, Dropout(0.1, rngs=nnx.Rngs(0))), "saf_f")


def test_other_changes_are_named_too():
    norm = nnx.BatchNorm(7, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"at 'layers.0' changes .*'layer.layers.0.(mean|var)'.*safjax.nn.WSConv"):
        trained(net(nnx.Sequential(norm, stock(bridged()))), "saf_f")
    masked = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)), stock(bridged()))
    with pytest.raises(ValueError, match=r"'layer.layers.0.rngs.*count'.*safjax.nn.Dropout"):
        trained(net(masked), "saf_f")
