"""Nets with variables that are not learned, and rules that draw, on all devices; run by `tests/test_sharding.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from experiments.distribution.devices import AXIS
from experiments.distribution.parallel import ParallelStep, predict
from experiments.storage.arrays import from_arrays, is_key, to_arrays, variables
from safjax.nn import LIF, BatchNorm, Dropout, LeakyReadout, Synapse
from safjax.rules import exodus, saf_f, sltt
from tests import nets
from tests.on_devices import DEVICES, STEPS, assert_same, divided, double, momentum, spike_trains  # noqa: F401

PARTS = DEVICES.mesh.size


class Net(nnx.Module):
    """Two hidden layers; the first synapse has batch normalisation, or the first spikes a dropout."""

    def __init__(self, normalised=False, axis_name=None, over="step"):
        rngs = nnx.Rngs(0)
        norm = BatchNorm(12, over=over, axis_name=axis_name, param_dtype=nets.DTYPE)
        dense = functools.partial(nnx.Linear, 7, 12, param_dtype=nets.DTYPE, rngs=rngs)
        self.first = Synapse(nnx.Sequential(dense(use_bias=False), norm) if normalised else dense())
        self.lif1, self.lif2 = LIF(), LIF(threshold=0.7)
        self.between = (lambda x: x) if normalised else Dropout(0.3, rngs=rngs)
        self.second, self.last = Synapse(nets._dense(12, 8, rngs)), Synapse(nets._dense(8, nets.CLASSES, rngs))
        self.readout = LeakyReadout()

    def __call__(self, x):
        x = self.between(self.lif1(self.first(x)))
        return self.readout(self.last(self.lif2(self.second(x))))


def batch():
    return divided(spike_trains(), 1), divided(nets.labels(), 0)


def step_of(rule):
    return ParallelStep(nets.loss, rule, momentum(), None, DEVICES)


def statistics(net):
    return nnx.as_pure(nnx.state(net, nnx.BatchStat))


def by_hand(net, rule):
    """What a first step should leave: every device by itself on its part, then the means."""
    gradient = safjax.value_and_grad(nets.loss, rule, outputs="all")

    def on(number, x, labels):
        one = nnx.clone(net)
        nnx.update(one, jax.tree.map(lambda v: jax.random.fold_in(v, number) if is_key(v) else v, variables(one)))
        (value, aux), grads = gradient(one, jnp.asarray(x), jnp.asarray(labels))
        return value, aux, grads, statistics(one)

    runs = map(on, range(PARTS), np.split(spike_trains(), PARTS, 1), np.split(nets.labels(), PARTS))
    values, auxes, grads, states = zip(*runs, strict=True)
    mean = functools.partial(jax.tree.map, lambda *leaves: sum(leaves) / PARTS)
    rates = mean(*(aux.rates for aux in auxes))
    nets.assert_fires(rates)
    output = np.concatenate([aux.output for aux in auxes])
    outputs = np.concatenate([aux.outputs for aux in auxes], 1)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, *map(nnx.as_pure, (nnx.state(net, nnx.Param), mean(*grads))))
    aux = auxes[0]._replace(output=output, outputs=outputs, rates=rates)
    return sum(values) / PARTS, aux, params, mean(*states)


@pytest.mark.parametrize("normalised", [False, True], ids=["dropout", "normalisation"])
def test_step_is_that_of_every_device_by_itself(normalised):
    rule = sltt() if normalised else saf_f()
    expected = by_hand(Net(normalised), rule)
    step, (x, labels) = step_of(rule), batch()
    net, _, (value, aux) = step(*step.init(Net(normalised)), x, labels)
    params = nnx.as_pure(nnx.state(net, nnx.Param))
    assert_same((value, aux, params, statistics(net)), jax.tree.map(np.asarray, expected))


def test_devices_drop_other_neurons_and_other_ones_each_time():
    def outputs():
        step = ParallelStep(nets.loss, saf_f(), optax.sgd(0.0), None, DEVICES)
        net, opt_state = step.init(Net())
        x, labels = divided(jnp.tile(spike_trains()[:, :1], (1, nets.BATCH, 1)), 1), divided(nets.labels(), 0)
        for _ in range(2):
            net, opt_state, (_, aux) = step(net, opt_state, x, labels)
            yield np.asarray(aux.outputs).reshape(STEPS, PARTS, -1)

    runs = [np.concatenate(list(outputs()), 1) for _ in range(2)]
    parts = runs[0].swapaxes(0, 1).reshape(2 * PARTS, -1)
    assert len(np.unique(parts, axis=0)) == 2 * PARTS
    np.testing.assert_array_equal(*runs)


def test_drawn_steps_are_those_of_one_device():
    rule, keys = sltt(sampled=2), jax.random.split(jax.random.key(0), 3)
    one, several, results = safjax.train_step(nets.loss, rule, momentum(), outputs="all"), step_of(rule), []
    for step, net, opt_state, x in (
        (one, nets.Dense(), one.init(nets.Dense()), (spike_trains(), nets.labels())),
        (several, *several.init(nets.Dense()), batch()),
    ):
        for key in keys:
            net, opt_state, result = step(net, opt_state, *x, key=key)
        nets.assert_fires(result[1].rates)
        results.append((nnx.as_pure(nnx.state(net)), opt_state, result))
    assert_same(results[1], jax.tree.map(np.asarray, results[0]))


@pytest.mark.parametrize(("over", "rule"), [("step", sltt()), ("step", exodus()), ("time", exodus())])
def test_normalisation_over_all_devices_is_that_of_one(over, rule):
    one, several = safjax.train_step(nets.loss, rule, momentum(), outputs="all"), step_of(rule)
    net = Net(normalised=True, over=over)
    net, opt_state, expected = one(net, one.init(net), spike_trains(), nets.labels())
    x, labels = batch()
    placed, placed_state, actual = several(*several.init(Net(True, AXIS, over)), x, labels)
    ours, theirs = (
        (variables(n), state, result)
        for n, state, result in ((placed, placed_state, actual), (net, opt_state, expected))
    )
    assert_same(ours, jax.tree.map(np.asarray, theirs))
    net.eval()
    placed.eval()
    np.testing.assert_allclose(predict(placed, x, None, DEVICES), safjax.predict(net, spike_trains()), rtol=1e-10)


def test_goes_on_from_a_checkpoint():
    step, (x, labels) = step_of(saf_f()), batch()
    net, opt_state, _ = step(*step.init(Net()), x, labels)
    stored = to_arrays(variables(net)), to_arrays(opt_state)
    expected, _, _ = step(net, opt_state, x, labels)
    fresh, opt_state = step.init(Net())
    nnx.update(fresh, from_arrays(variables(fresh), stored[0]))
    actual, _, _ = step(fresh, from_arrays(opt_state, stored[1]), x, labels)
    jax.tree.map(np.testing.assert_array_equal, *(to_arrays(variables(n)) for n in (actual, expected)))
