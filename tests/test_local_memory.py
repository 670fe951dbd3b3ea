"""What a cut between layers saves, read from the compiler: products of errors with weights, and what they need."""

import re

import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, Synapse, detach, fixed
from tests.tables import some_slow

STEPS, BATCH, UNITS = 8, 256, 64


class Local(nnx.Module):
    """Dense layers, each with a fixed readout; between them the error passes or not."""

    def __init__(self, between, layers):
        rngs, self.between = nnx.Rngs(0), between
        self.synapses, self.lifs, self.local, self.readouts = (nnx.List() for _ in range(4))
        for _ in range(layers):
            self.synapses.append(Synapse(nnx.Linear(UNITS, UNITS, rngs=rngs)))
            self.local.append(Synapse(fixed(nnx.Linear(UNITS, 10, rngs=rngs))))
            self.lifs.append(LIF())
            self.readouts.append(InstantReadout())

    def __call__(self, x):
        outputs = []
        for synapse, lif, local, readout in zip(self.synapses, self.lifs, self.local, self.readouts, strict=True):
            spikes = lif(synapse(x))
            outputs.append(readout(local(spikes)))
            x = self.between(spikes)
        return tuple(outputs)


def loss(outputs, labels):
    return sum(optax.softmax_cross_entropy_with_integer_labels(output, labels).mean() for output in outputs)


def passed(spikes):
    return spikes


def compiled(rule, between, layers):
    net = Local(between, layers)
    step = safjax.train_step(loss, rule, optax.sgd(0.1))
    x, labels = jnp.ones((STEPS, BATCH, UNITS)), jnp.zeros(BATCH, jnp.int32)
    return step.lower(net, step.init(net), x, labels).compile()


def products(rule, between, layers):
    return len(re.findall(r" dot\(", compiled(rule, between, layers).as_text()))


@pytest.mark.parametrize("name", ["sltt", "exodus", pytest.param("ottt_a", marks=pytest.mark.slow)])
def test_no_error_is_multiplied_with_the_weights_behind_a_cut(name):
    """Of L layers: forward, its readout, the weights' gradient, and the error through the readout. 4 L products."""
    rule, layers = rules.RULES[name](), 3
    assert products(rule, detach, layers) == 4 * layers
    assert products(rule, passed, layers) == 4 * layers + layers - 1


def maps_per_layer(rule, between):
    """By how many arrays of a layer's size the temporary memory grows with each layer."""
    few, many = (compiled(rule, between, n).memory_analysis().temp_size_in_bytes for n in (4, 8))
    return (many - few) / 4 / (BATCH * UNITS * 4)


@pytest.mark.parametrize(
    ("name", "cut", "whole"),
    some_slow(
        [("sltt", 2.1, 4.0), ("ottt_a", 3.1, 5.0), ("exodus", 3.0, 2.0 * STEPS)], lambda name, *_: name == "exodus"
    ),
)
def test_nothing_is_kept_for_errors_between_layers(name, cut, whole):
    """A layer that goes step by step keeps its state alone; of the whole sequence, one layer's at a time."""
    rule = rules.RULES[name]()
    assert maps_per_layer(rule, detach) < cut
    assert maps_per_layer(rule, passed) > whole
