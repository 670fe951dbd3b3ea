"""Training on all devices of the process against training on one; run by `tests/test_sharding.py`.

Two ways: `safjax.train_step` given arrays that are divided, which the compiler then divides the rest by, and
`experiments.distribution.parallel.ParallelStep`, in which every device runs the whole net on its part of the batch.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import safjax
from experiments.distribution.devices import AXIS, Devices
from experiments.distribution.parallel import ParallelStep, predict
from safjax.rules import RULES
from tests import nets
from tests.tables import BROAD

STEPS, UPDATES = 4, 3
nets.BATCH = 16
DEVICES = Devices(Mesh(jax.devices(), (AXIS,)))
EXCHANGES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def spike_trains():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1, (STEPS, nets.BATCH, 7)))


NETS = {"dense": (nets.Dense, spike_trains, None, 1), "conv": (nets.Conv, nets.image, STEPS, 0)}
"""Net, its input, T where that is an image, and the batch axis of the input."""


def momentum():
    return optax.sgd(0.1, momentum=0.9)


def trained(step, net, opt_state, x, labels):
    """Parameters, momentum (which is made of gradients), and the values, outputs and rates of a few steps."""
    results = []
    for _ in range(UPDATES):
        net, opt_state, result = step(net, opt_state, x, labels)
        results.append(result)
    return nnx.as_pure(nnx.state(net)), opt_state, results


@functools.cache
def on_one(kind, name):
    """What one device makes of it."""
    build, inputs, steps, _ = NETS[kind]
    net, step = build(), safjax.train_step(nets.loss, RULES[name](), momentum(), steps, outputs="all")
    params, opt_state, results = trained(step, net, step.init(net), inputs(), nets.labels())
    for _, aux in results:
        nets.assert_fires(aux.rates)
    return jax.tree.map(np.asarray, (params, opt_state, results))


def divided(x, axis):
    return jax.device_put(x, NamedSharding(DEVICES.mesh, PartitionSpec(*[None] * axis, AXIS)))


def assert_same(actual, expected):
    nets.assert_trees_close(jax.tree.map(np.asarray, actual), expected, rtol=1e-10)


def exchanges(lowered):
    """What the compiled program exchanges between devices: (what, whether in a loop, numbers) of each operation."""
    text = lowered.compile().as_text()
    loops, computation, found = set(re.findall(r"body=%?([\w.\-]+)", text)), "", []
    for line in text.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = start.group(1)
        if call := re.search(rf"= (.*?) ({EXCHANGES})(?:-start)?\(", line):
            shapes = re.findall(r"\w+\[([\d,]*)\]", call.group(1))
            numbers = sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)
            found.append((call.group(2), computation in loops, numbers))
    return found


@pytest.mark.parametrize("name", BROAD)
@pytest.mark.parametrize("kind", NETS)
def test_compiler_divides_the_training_step(kind, name):
    build, inputs, steps, axis = NETS[kind]
    step = safjax.train_step(nets.loss, RULES[name](), momentum(), steps, outputs="all")
    graphdef, params = nnx.split(build())
    net = nnx.merge(graphdef, DEVICES.replicate(params))
    opt_state = DEVICES.replicate(step.init(net))
    x, labels = divided(inputs(), axis), divided(nets.labels(), 0)
    params, opt_state, results = trained(step, net, opt_state, x, labels)
    assert results[-1][1].outputs.sharding.spec == PartitionSpec(None, AXIS)
    assert_same((params, opt_state, results), on_one(kind, name))


@pytest.mark.parametrize("name", BROAD)
@pytest.mark.parametrize("kind", NETS)
def test_each_device_runs_the_net(kind, name):
    build, inputs, steps, axis = NETS[kind]
    step = ParallelStep(nets.loss, RULES[name](), momentum(), steps, DEVICES)
    x, labels = divided(inputs(), axis), divided(nets.labels(), 0)
    assert_same(trained(step, *step.init(build()), x, labels), on_one(kind, name))


@pytest.mark.parametrize("name", BROAD)
def test_each_device_runs_sequences_of_its_own_lengths(name):
    """The devices have other numbers of steps: values, gradients and rates are those of all members together."""
    lengths = np.arange(nets.BATCH) // 4 + 1
    net, rule = nets.Dense(), RULES[name]()
    x, labels = spike_trains(), nets.labels()
    whole = safjax.train_step(nets.loss, rule, momentum(), outputs="all")
    net, opt_state, expected = whole(net, whole.init(net), x, labels, lengths=lengths)
    nets.assert_fires(expected[1].rates)
    step = ParallelStep(nets.loss, rule, momentum(), None, DEVICES)
    placed, state = step.init(nets.Dense())
    own = divided(lengths, 0)
    before = np.asarray(predict(placed, divided(x, 1), None, DEVICES, own))
    np.testing.assert_allclose(before, safjax.predict(nets.Dense(), x, lengths=lengths), rtol=1e-10, atol=1e-12)
    placed, state, got = step(placed, state, divided(x, 1), divided(labels, 0), lengths=own)
    actual, wanted = (
        (nnx.as_pure(nnx.state(n)), s, r) for n, s, r in ((placed, state, got), (net, opt_state, expected))
    )
    assert_same(actual, jax.tree.map(np.asarray, wanted))


@pytest.mark.parametrize("name", BROAD)
@pytest.mark.parametrize("kind", NETS)
def test_one_exchange_an_update(kind, name):
    build, inputs, steps, axis = NETS[kind]
    rule = RULES[name]()
    step = ParallelStep(nets.loss, rule, momentum(), steps, DEVICES)
    net, opt_state = step.init(build())
    learned = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net)))
    found = exchanges(step.lower(net, opt_state, divided(inputs(), axis), divided(nets.labels(), 0)))
    measured = 1 + 2  # the loss and two firing rates
    if rule.schedule.updates(STEPS) == 1:
        assert sum(numbers for *_, numbers in found) == learned + measured
        assert {(what, loop) for what, loop, _ in found} == {("all-reduce", False)}
    else:
        assert sorted(found) == [("all-reduce", False, measured), ("all-reduce", True, learned)]


@pytest.mark.parametrize("make", [optax.lbfgs, optax.polyak_sgd])
@pytest.mark.parametrize("name", ["saf_f", "ottt_o"])
def test_an_optimizer_that_asks_for_the_loss(name, make):
    """It is given that of the whole batch; were it that of a part, the devices' line searches would go apart."""
    x, labels = spike_trains(), nets.labels()
    one = safjax.train_step(nets.loss, RULES[name](), make(), None, outputs="all")
    params, _, results = trained(one, nets.Dense(), one.init(nets.Dense()), x, labels)
    step = ParallelStep(nets.loss, RULES[name](), make(), None, DEVICES)
    found, _, others = trained(step, *step.init(nets.Dense()), divided(x, 1), divided(labels, 0))
    nets.assert_trees_close((found, others), (params, results), rtol=1e-9)


@pytest.mark.parametrize("kind", NETS)
def test_predict(kind):
    build, inputs, steps, axis = NETS[kind]
    net = build()
    expected = np.asarray(safjax.predict(net, inputs(), steps))
    graphdef, params = nnx.split(net)
    placed = nnx.merge(graphdef, DEVICES.replicate(params))
    outputs = predict(placed, divided(inputs(), axis), steps, DEVICES)
    assert outputs.sharding.spec == PartitionSpec(None, AXIS)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10)
