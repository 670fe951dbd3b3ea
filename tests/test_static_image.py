"""One image for all steps is the sequence that repeats it, wherever it goes in the net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax import rules
from safjax.nn import LIF, Delay, Dropout, LeakyReadout, Recurrent, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def gradients(net, rule, x, steps=None, loss=nets.loss):
    (value, aux), grads = nets.value_and_grad(loss, rule, steps, outputs="all")(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    return value, aux, grads


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_f"])
def test_a_static_image_is_the_constant_sequence(name):
    rule, x = rules.RULES[name](), nets.image()
    value, _, grads = gradients(nets.Conv(), rule, x, nets.STEPS)
    expected_value, _, expected = gradients(nets.Conv(), rule, jnp.stack([x] * nets.STEPS))
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    nets.assert_trees_close(grads, expected, rtol=1e-11)


def vector():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.BATCH, 7)))


class Wandering(nnx.Module):
    """What a stock layer makes of the image is dropped out of, passes two synapses in a row, comes back one step late,
    and is the current of recurrent neurons as it is."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.before, self.drop = nets._dense(7, 7, rngs), Dropout(0.3, rngs=rngs)
        self.one, self.two = Synapse(nets._dense(7, 8, rngs)), Synapse(nets._dense(8, 9, rngs))
        self.late, self.delay, self.lif = Synapse(nets._dense(7, 9, rngs)), Delay(), LIF()
        self.loop, self.heard = Recurrent(LIF(), Synapse(nets._dense(7, 7, rngs))), Synapse(nets._dense(7, 9, rngs))
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        x = 2 * jnp.tanh(self.before(x))
        current = self.two(self.one(self.drop(x))) + self.late(self.delay.recall()) + self.heard(self.loop(x))
        self.delay.keep(x)
        return self.readout(self.last(self.lif(0.5 * current)))


def test_theorem_1_wherever_the_image_goes():
    _, aux, grads = gradients(Wandering(), rules.ottt_a(), vector(), nets.STEPS)
    _, expected_aux, expected = gradients(Wandering(), rules.saf_e(), vector(), nets.STEPS)
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-11, atol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


class Beside(nnx.Module):
    """Returns what no neuron has touched beside its logits."""

    def __init__(self):
        self.net, self.plain = nets.Dense(), nnx.Linear(7, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.net(x), self.plain(x)


def test_an_output_that_does_not_change_with_time():
    """Layer by layer it is computed once, and handed to the loss at every step as it is step by step."""

    def loss(output, labels):
        return nets.loss(output[0], labels) + jnp.mean(output[1] ** 2)

    value, aux, grads = gradients(Beside(), rules.exodus(), vector(), 4, loss)
    expected_value, expected_aux, expected = gradients(Beside(), rules.bptt(), vector(), 4, loss)
    assert aux.outputs[1].shape == (4, nets.BATCH, 2)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), aux.outputs, expected_aux.outputs)
    nets.assert_trees_close(grads, expected, rtol=1e-12)
