"""Where a sequence starts is the cell's to say, under every rule that takes it, and may be learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LeakyReadout, Neuron
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


@dataclasses.dataclass(frozen=True)
class RaisedCell:
    """An integrator that starts from m[0] instead of rest."""

    first: jax.Array

    def start(self, current):
        return jnp.zeros_like(current) + self.first

    def step(self, state, current, detach_reset=False):
        potential = 0.5 * state + current
        spikes = Sigmoid()(potential - 1)
        return potential - (jax.lax.stop_gradient(spikes) if detach_reset else spikes), spikes


class Raised(Neuron):
    decay = 0.5

    def __init__(self, value=1.5, cell=RaisedCell):
        self.first, self.make = nnx.Param(jnp.full((2,), value)), cell

    def cell(self):
        return self.make(self.first[...])


def currents():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (6, 3, 2)))


def loss(output):
    return jnp.mean(output**2)


STEPWISE = [rules.bptt(), rules.bptt(remat=True), rules.sltt()]


@pytest.mark.parametrize("rule", [*STEPWISE, rules.bptt(layerwise=True)], ids=str)
def test_it_is_honoured(rule):
    """Step by step it was zero: no spike at the first step, [0, 0, 0] against [1, 0, 0]."""
    net = nnx.Sequential(Raised(), LeakyReadout())
    expected = safjax.simulate(net, currents()).spikes["layers.0"]
    membrane, spikes = np.full((3, 2), 1.5), []
    for current in np.asarray(currents()):
        potential = 0.5 * membrane + current
        spikes.append(potential >= 1)
        membrane = potential - spikes[-1]
    np.testing.assert_array_equal(expected, spikes)
    (_, aux), _ = safjax.value_and_grad(loss, rule, outputs="all")(net, currents())
    nets.assert_fires(aux.rates, high=0.8)
    np.testing.assert_allclose(aux.rates["layers.0"], np.mean(spikes), rtol=1e-12)
    np.testing.assert_allclose(aux.outputs, safjax.predict(net, currents()), rtol=1e-12)


def test_a_stream_starts_there_too():
    net = nnx.Sequential(Raised(), LeakyReadout())
    stream = safjax.stream(net)
    state = stream.start(currents()[0])
    for x, expected in zip(currents(), safjax.predict(net, currents()), strict=True):
        state, output = stream(state, x)
        np.testing.assert_allclose(output, expected, rtol=1e-12)


def test_it_is_learned_as_autodiff_learns_it():
    net = nnx.Sequential(Raised(0.6), LeakyReadout())
    grads = [
        safjax.value_and_grad(loss, rule, outputs="all")(net, currents())[1]
        for rule in (rules.bptt(), rules.bptt(remat=True), rules.bptt(layerwise=True))
    ]

    def by_hand(first):
        def body(carry, current):
            membrane, readout, gain = carry
            potential = 0.5 * membrane + current
            spikes = Sigmoid()(potential - 1)
            readout, gain = 0.5 * readout + spikes, 0.5 * gain + 1
            return (potential - spikes, readout, gain), loss(readout / gain)

        zeros = jnp.zeros((3, 2))
        return jax.lax.scan(body, (zeros + first, zeros, 0.0), currents())[1].mean()

    expected = jax.grad(by_hand)(jnp.full((2,), 0.6))
    for grad in grads:
        nets.assert_trees_close(grad["layers"][0]["first"], expected, rtol=1e-12)


class OfItsInput(RaisedCell):
    def start(self, current):
        return current


class OfAnotherShape(RaisedCell):
    def start(self, current):
        return jnp.zeros(1)


def test_what_cannot_be_a_start_is_refused():
    for cell, words in (
        (OfItsInput, r"'layers.0' start from a state that depends on the values of their first current"),
        (OfAnotherShape, r"Raised at 'layers.0' starts from a state of the shapes \[\(1,\)\], but its step returns"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            safjax.predict(nnx.Sequential(Raised(cell=cell), LeakyReadout()), jnp.ones((4, 1, 2)))
