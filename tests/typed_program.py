"""A user's program with type hints: what a type checker knows of the names and results of safjax.

`mypy` reads it together with the library, and tests/test_typing.py as a user's `mypy --strict` does.
"""

from collections.abc import Callable
from typing import assert_type

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import safjax
from safjax.nn import LIF, LeakyReadout, Synapse


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = Synapse(nnx.Conv(1, 4, (3, 3), rngs=rngs))
        self.lif1 = LIF(decay=0.5)
        pooled = nnx.Sequential(lambda x: safjax.ops.avg_pool(x, (2, 2)), nnx.Conv(4, 4, (3, 3), rngs=rngs))
        self.conv2 = Synapse(pooled)
        self.lif2 = safjax.nn.LIF(decay=0.5, reset=safjax.nn.ResetTo(0.0))
        self.dense = Synapse(nnx.Sequential(safjax.ops.global_avg_pool, nnx.Linear(4, 10, rngs=rngs)))
        self.readout = LeakyReadout()

    def __call__(self, x: jax.Array) -> jax.Array:
        currents = self.conv2(self.lif1(self.conv(x)))
        output: jax.Array = self.readout(self.dense(self.lif2(currents)))
        return output


def loss(output: jax.Array, labels: jax.Array) -> jax.Array:
    value: jax.Array = optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()
    return value


def gradients(net: Net, images: jax.Array, labels: jax.Array) -> None:
    for rule in (safjax.rules.exodus(), safjax.rules.ottt_a(), safjax.rules.saf_f()):
        assert_type(rule, safjax.rules.Rule)
        (value, aux), grads = safjax.value_and_grad(loss, rule, steps=6, record=("spikes",))(net, images, labels)
        assert_type(value, jax.Array)
        assert_type(aux, safjax.Aux)
        assert_type(aux.rates, dict[str, jax.Array])
        assert_type(aux.records, dict[str, dict[str, jax.Array]])
        nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param).update(net, grads)


def training(net: Net, x: jax.Array, labels: jax.Array, done: jax.Array) -> Net:
    step = safjax.train_step(loss, safjax.rules.ottt_o(), optax.adam(1e-3), mean_over=1)
    assert_type(step, safjax.TrainStep)
    opt_state, state = step.init(net), step.start(net, x)
    net, opt_state, (value, aux) = step(net, opt_state, x, labels, state=state)
    assert_type(value, jax.Array)
    assert_type(safjax.reset(aux.state, done), safjax.State)
    return net


def inference(net: Net, x: jax.Array) -> None:
    run = safjax.simulate(net, x, steps=6, record=("spikes", "membrane"))
    assert_type(run, safjax.Simulation)
    assert_type(run.spikes, dict[str, jax.Array])
    stream = safjax.stream(net)
    state, _ = stream(stream.start(x), x)
    assert_type(state, safjax.State)


def layers(rngs: nnx.Rngs) -> None:
    assert_type(safjax.nn.fixed(nnx.Linear(4, 2, rngs=rngs)), nnx.Linear)
    assert_type(safjax.models.SpikingMLP, type[safjax.models.SpikingMLP])
    make: Callable[[], safjax.rules.Rule] = safjax.rules.RULES["bptt"]
    assert_type(make(), safjax.rules.Rule)
    neuron: safjax.nn.Neuron = safjax.nn.ALIF()
    assert_type(neuron.stepwise, bool)
    surrogate: safjax.surrogate.Surrogate = safjax.surrogate.Arctan()
    assert_type(surrogate(jnp.ones(3)), jax.Array)
