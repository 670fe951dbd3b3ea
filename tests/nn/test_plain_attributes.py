"""Attributes of a net that are neither variables nor hashable: lists, dicts, and what holds such."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.nn.graphs import split_net
from tests import nets
from tests.tables import some_slow


@dataclasses.dataclass
class Settings:
    """As a user writes one, with a list and no hash."""

    scales: list
    name: str = "net"


class Net(nnx.Module):
    """Its output is multiplied by a number that one of its plain attributes holds."""

    traced = 0

    def __init__(self, config, scale):
        self.synapse = Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0)))
        self.lif, self.readout = LIF(threshold=0.5), LeakyReadout()
        self.config, self.scale = config, scale

    def __call__(self, x):
        Net.traced += 1
        return self.scale(self.config) * self.readout(self.lif(self.synapse(x)))


CASES = {
    "list": (lambda s: [64, s], lambda c: c[1]),
    "dict": (lambda s: {"a": s}, lambda c: c["a"]),
    "tuple of lists": (lambda s: ([1], [s]), lambda c: c[1][0]),
    "nested": (lambda s: {"a": [1, {"b": (2, [s])}]}, lambda c: c["a"][1]["b"][1][0]),
    "set": (lambda s: {s}, max),
    "dataclass": (lambda s: Settings([s]), lambda c: c.scales[0]),
    "array in a dataclass": (lambda s: Settings(np.array([0, s])), lambda c: c.scales[1]),
    "numpy array": (lambda s: np.array([0, s]), lambda c: c[1]),
}

X = jnp.full((nets.BATCH, 4), 3.0)


def trained(net):
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.0), 2, outputs="all")
    opt_state = step.init(net)
    for _ in range(2):
        net, opt_state, (_, aux) = step(net, opt_state, X, nets.labels())
    assert net.config is not None
    return aux.outputs[-1]


def streamed(net):
    stream = safjax.stream(net)
    state, _ = stream(stream.start(X), X)
    return stream(state, X)[1]


def differentiated(net):
    return safjax.value_and_grad(nets.loss, rules.ottt_a(), 2, outputs="all")(net, X, nets.labels())[0][1].outputs[-1]


ENTRY_POINTS = {
    "trained": trained,
    "streamed": streamed,
    "differentiated": differentiated,
    "predicted": lambda net: safjax.predict(net, X, 2)[-1],
    "simulated": lambda net: safjax.simulate(net, X, 2).outputs[-1],
}


@pytest.mark.parametrize(
    "case, entry",
    some_slow(
        itertools.product(CASES, ENTRY_POINTS), lambda case, entry: case == "nested" or entry == "differentiated"
    ),
)
def test_every_entry_point_takes_them(case, entry):
    """Every time each of them at the gradient, and one of them everywhere."""
    (config, scale), run = CASES[case], ENTRY_POINTS[entry]
    one, five = (run(Net(config(s), scale)) for s in (1, 5))
    assert np.any(one)
    np.testing.assert_allclose(five, 5 * one, rtol=1e-6)


def test_compiled_once_for_equal_values_and_anew_for_others():
    config, scale = CASES["nested"]
    run = safjax.value_and_grad(nets.loss, rules.saf_f(), 3, outputs="all")

    def tracings(net, call):
        before = Net.traced
        call(net)
        return Net.traced - before

    for call in (lambda net: run(net, X, nets.labels()), lambda net: safjax.predict(net, X, 3), streamed):
        counts = [tracings(Net(config(s), scale), call) for s in (7, 7, 8, 8, 7)]
        assert counts[0] > 0 and counts[2] > 0 and [counts[1], *counts[3:]] == [0, 0, 0]
    net = Net([1, 7], lambda c: c[1])
    first = safjax.predict(net, X, 3)
    net.config[1] = 14
    np.testing.assert_allclose(safjax.predict(net, X, 3), 2 * first, rtol=1e-6)


def test_numbers_of_another_type_are_other_values():
    """1 == 1.0 == True, but a net may ask which it is."""
    graphs = {split_net(Net([value], None))[0] for value in (1, 1.0, True)}
    assert len(graphs) == 3


def test_a_stream_keeps_what_it_was_made_with():
    net = Net([1, 3], lambda c: c[1])
    stream = safjax.stream(net)
    before = stream(stream.start(X), X)[1]
    net.config[1] = 30
    np.testing.assert_array_equal(stream(stream.start(X[:2]), X[:2])[1], before[:2])


def test_what_cannot_be_compared_is_named():
    net = nnx.Sequential(Synapse(nnx.Linear(4, 3, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
    net.layers[0].layer.notes = {"buffer": bytearray(b"1")}
    with pytest.raises(TypeError, match=r"'layers.0.layer.notes' .*unhashable type: 'bytearray'.*nnx.Variable"):
        safjax.predict(net, X, 2)
