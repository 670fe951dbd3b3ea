"""A net is looked at as seldom as can be: what was traced where it met the rule is not traced for the gradient too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


class Layer(nnx.Module):
    """Counts how often it is called, which is how often it is traced."""

    calls = 0

    def __init__(self):
        self.dense = nets._dense(7, nets.CLASSES, nnx.Rngs(0))

    def __call__(self, x):
        Layer.calls += 1
        return self.dense(x)


class Net(nnx.Module):
    calls = 0

    def __init__(self, layer=Layer):
        self.layer, self.lif, self.readout = Synapse(layer()), LIF(threshold=0.7), LeakyReadout()

    def __call__(self, x):
        Net.calls += 1
        return self.readout(self.lif(self.layer(x)))


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.STEPS, nets.BATCH, 7)))


@pytest.mark.parametrize(
    ("rule", "of_net", "of_layer"),
    [
        # One call finds the states, and one is the step's. Rules that accumulate look first at what enters the net.
        (rules.bptt(), 2, 2),
        (rules.exodus(), 3, 4),
        (rules.saf_e(), 3, 1),
        (rules.ottt_a(), 3, 1),
        (rules.spike_representation(), 3, 1),
    ],
    ids=lambda x: x.name if isinstance(x, rules.Rule) else "",
)
def test_calls(rule, of_net, of_layer):
    Net.calls = Layer.calls = 0
    jax.eval_shape(lambda x: safjax.value_and_grad(nets.loss, rule)(Net(), x, nets.labels()), inputs())
    assert (Net.calls, Layer.calls) == (of_net, of_layer)


@pytest.mark.parametrize("name", ["saf_e", "bptt"])
def test_what_a_layer_closes_over_may_be_traced(name):
    """Such a program is good for its own trace only."""
    gradient = safjax.value_and_grad(nets.loss, rules.RULES[name]())

    def computed(factor):
        class Scaled(Layer):
            def __call__(self, x):
                return factor * super().__call__(x)

        (value, aux), grads = gradient(Net(Scaled), inputs(), nets.labels())
        return value, aux.rates, nnx.as_pure(grads)

    value, rates, grads = jax.jit(computed)(1.3)
    expected, _, others = computed(1.3)
    nets.assert_fires(rates)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    nets.assert_trees_close(grads, others, rtol=1e-12)
