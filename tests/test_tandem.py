"""Tandem learning is the spike representation of neurons without leak, layer by layer too (Wu et al. 2021, Sec. III).

A coupled net of clamped linear units shares the weights. Each of its layers has the spike counts of the spiking net for
values, and its own derivative at those counts for a gradient; its biases are spread over the steps.
"""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 8


class Net(nnx.Module):
    """Three layers of IF neurons; those behind the first `spiking` ones are clamped linear units on mean rates."""

    def __init__(self, spiking=3):
        rngs, sizes = nnx.Rngs(1), (7, 12, 10, 9)
        kernel = nnx.initializers.normal(0.45)
        self.synapses = nnx.List(
            [
                Synapse(nnx.Linear(a, b, kernel_init=kernel, param_dtype=jnp.float64, rngs=rngs))
                for a, b in zip(sizes, (*sizes[1:], nets.CLASSES), strict=True)
            ]
        )
        self.neurons = nnx.List([IF() for _ in range(spiking)])
        self.readout = LeakyReadout()

    def __call__(self, x):
        for synapse, neuron in zip(self.synapses, self.neurons, strict=False):
            x = neuron(synapse(x))
        x = self.readout(self.synapses[len(self.neurons)](x))
        for synapse in self.synapses[len(self.neurons) + 1 :]:
            x = synapse.layer(jnp.clip(x, 0, 1))
        return x


def tandem(net, x, counts):
    """The output of the coupled net: values are spike counts, derivatives those of the clamp at the counts before."""
    for place, synapse in enumerate(net.synapses):
        current = synapse.layer(x)
        if place == len(net.synapses) - 1:
            return current
        clamped = jnp.clip(current, 0, 1)
        known = counts[place] / STEPS if place < len(counts) else clamped
        x = clamped + jax.lax.stop_gradient(known - clamped)


def drive():
    return jnp.asarray(jax.random.uniform(jax.random.key(0), (nets.BATCH, 7), jnp.float64, -0.5, 1.5))


@pytest.mark.parametrize("spiking", [3, 2, 1])
def test_the_gradient_is_that_of_the_coupled_net(spiking):
    """With fewer than three layers of neurons the rest is the net not yet converted, fine-tuned behind them."""
    net, x, labels = Net(spiking), drive(), nets.labels()
    (value, aux), grads = safjax.value_and_grad(nets.loss, rules.spike_representation(), STEPS)(net, x, labels)
    nets.assert_fires(aux.rates)
    ran = safjax.simulate(net, x, STEPS)
    counts = [ran.spikes[path].sum(0) for path in sorted(ran.spikes)]

    def of(net):
        return nets.loss(tandem(net, x, counts), labels)

    expected, gradient = nnx.value_and_grad(of)(net)
    nets.assert_trees_close(grads, nnx.as_pure(gradient), 1e-12)
    assert abs(value - expected) < 1e-12
