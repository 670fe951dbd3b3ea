"""Which neuron here is which elsewhere: the table of the README, against the other libraries' equations in NumPy.

The order of operations is that of snnTorch 1.0 (`snntorch/_neurons/leaky.py`, `synaptic.py`) and SpikingJelly 2.0
(`spikingjelly/activation_based/neuron/lif.py`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.neurons import run_cell
from safjax.nn import LIF, CurrentLIF, LeakyReadout, Neuron, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

ALPHA, BETA, TAU = 0.6, 0.8, 4.0


@dataclasses.dataclass(frozen=True)
class ZeroResetCell:
    """u[t] = λ m[t−1] + I[t], s[t] = H(u[t] − 1), m[t] = (1 − s[t]) u[t]: none of the library's own."""

    decay: float

    def start(self, current):
        return jnp.zeros_like(current)

    def step(self, state, current, detach_reset=False):
        potential = self.decay * state + current
        spikes = Sigmoid()(potential - 1)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        return (1 - reset) * potential, spikes


class ZeroReset(Neuron):
    def __init__(self, decay):
        self.decay = decay

    def cell(self):
        return ZeroResetCell(self.decay)


def leaky(currents, zero=False):
    """snnTorch's `Leaky(BETA)`: what has fired in the step before is reset in this one."""
    potential, spikes = np.zeros(currents.shape[1]), []
    for current in currents:
        reset = potential > 1
        kept = (1 - reset) * potential if zero else potential - reset / BETA
        potential = BETA * kept + current
        spikes.append(potential > 1)
    return spikes


def synaptic(currents):
    """snnTorch's `Synaptic(ALPHA, BETA)`."""
    filtered, inputs = np.zeros(currents.shape[1]), []
    for current in currents:
        filtered = ALPHA * filtered + current
        inputs.append(filtered)
    return leaky(np.stack(inputs))


def lif_node(currents, decay_input=False, zero=False):
    """SpikingJelly's `LIFNode(TAU, decay_input, v_reset=0.0 if zero else None)`."""
    voltage, spikes = np.zeros(currents.shape[1]), []
    for current in currents:
        voltage = voltage + (current - voltage) / TAU if decay_input else voltage * (1 - 1 / TAU) + current
        spikes.append(voltage >= 1)
        voltage = (1 - spikes[-1]) * voltage if zero else voltage - spikes[-1]
    return spikes


@pytest.mark.parametrize(
    "neuron, theirs",
    {
        "Leaky": (LIF(BETA, reset=1 / BETA), leaky),
        "Leaky, zero": (ZeroReset(BETA), lambda currents: leaky(currents, zero=True)),
        "Synaptic": (CurrentLIF(ALPHA, BETA, reset=1 / BETA), synaptic),
        "LIFNode, v_reset=None": (LIF(1 - 1 / TAU), lif_node),
        "LIFNode, decay_input": (LIF(1 - 1 / TAU), lambda currents: lif_node(TAU * currents, decay_input=True)),
        "LIFNode, v_reset=0": (ZeroReset(1 - 1 / TAU), lambda currents: lif_node(currents, zero=True)),
    }.values(),
)
def test_neurons_fire_as_those_elsewhere(neuron, theirs):
    currents = np.random.default_rng(0).normal(0.25, 0.7, (60, 50))
    expected = np.stack(theirs(currents))
    assert 0.05 < expected.mean() < 0.6
    np.testing.assert_array_equal(run_cell(neuron.cell(), jnp.asarray(currents))[1], expected)


def test_an_own_neuron_trains_where_it_can_and_is_refused_elsewhere():
    rngs = nnx.Rngs(0)
    first, last = nets._dense(7, 9, rngs), nets._dense(9, nets.CLASSES, rngs)
    net = nnx.Sequential(Synapse(first), ZeroReset(0.7), Synapse(last), LeakyReadout())
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.STEPS, nets.BATCH, 7)))

    def compute(rule):
        return safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())

    (_, aux), grads = compute(rules.bptt())
    nets.assert_fires(aux.rates)
    nets.assert_trees_close(compute(rules.bptt(layerwise=True))[1], grads, rtol=1e-12)
    jax.eval_shape(lambda: compute(rules.sltt())[1])  # Refusals come with the shapes, before anything is compiled.
    for name in ("exodus", "ottt_a", "saf_f"):
        with pytest.raises(
            ValueError, match=rf"ZeroReset at 'layers.1': the rule '{name}'.*: bptt, sltt, bptt\(layerwise=True\)\."
        ):
            compute(rules.RULES[name]())
