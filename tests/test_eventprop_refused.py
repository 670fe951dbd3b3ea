"""What has no gradient of spike times is refused by the layer's name, with what to write instead."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import SequenceLoss, WithRecords
from safjax.nn import (
    ALIF,
    LIF,
    AcrossTime,
    BatchNorm,
    CurrentLIF,
    InstantReadout,
    OnlineBatchNorm,
    ResetTo,
    StepWeights,
    Synapse,
)
from safjax.nn.check import verdicts_of
from safjax.nn.graphs import split_net
from safjax.surrogate import Sigmoid
from tests import nets
from tests.test_eventprop import LOSS, sequence, small

pytestmark = pytest.mark.usefixtures("x64")


class Learned(nnx.Module):
    """A spike function with a slope of its own."""

    def __init__(self):
        self.slope = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return Sigmoid()(self.slope[...] * x)


def param(value):
    return nnx.Param(jnp.asarray(value))


NEURONS = {
    "LIF": (LIF, "needs membranes that rise .*Use CurrentLIF"),
    "ALIF": (ALIF, "needs membranes that rise"),
    "learned decay": (lambda: CurrentLIF(0.9, param(0.9)), "the weights of synapses only"),
    "many filters": (lambda: CurrentLIF(nnx.Variable(jnp.full(9, 0.9)), 0.9), "an array as 'synaptic_decay'"),
    "learned threshold": (lambda: CurrentLIF(0.9, 0.9, param(1.0)), "the weights of synapses only"),
    "many resets": (lambda: CurrentLIF(0.9, 0.9, reset=ResetTo(nnx.Variable(jnp.zeros(9)))), "an array as 'reset'"),
    "learned surrogate": (lambda: CurrentLIF(0.9, 0.9, surrogate=Learned()), "uses no surrogate"),
    "no leak": (lambda: CurrentLIF(0.9, 1.0), "a leaky membrane .* the decays are 1.0 and 0.9"),
    "no filter": (lambda: CurrentLIF(0.0, 0.9), "a leaky membrane .* the decays are 0.9 and 0.0"),
    "no reset": (lambda: CurrentLIF(0.9, 0.9, reset=None), r"needs a reset.*reset=1\.0"),
    "floor": (lambda: CurrentLIF(0.9, 0.9, floor=-1.0), "floor=None"),
    "several": (lambda: CurrentLIF(0.9, 0.9, max_spikes=2), "max_spikes=1"),
    "height": (lambda: CurrentLIF(0.9, 0.9, scaled=True), "scaled=False"),
}


def tried(net, loss=LOSS, rule=None, x=None, **more):
    gradient = safjax.value_and_grad(loss, rule or rules.eventprop())
    return jax.eval_shape(lambda: gradient(nnx.clone(net), sequence(6) if x is None else x, **more)[1])


@pytest.mark.parametrize("kind", NEURONS)
def test_neurons(kind):
    make, says = NEURONS[kind]
    with pytest.raises(ValueError, match=rf"at 'layers.1'.* the rule 'eventprop' .*{says}"):
        tried(small(first=make))


BETWEEN = {
    "batch norm": (lambda: [BatchNorm(9, over="time")], r"BatchNorm at 'layers.2.layer.layers.0' is in training.*eval"),
    "all-time norm": (lambda: [OnlineBatchNorm(9)], r"OnlineBatchNorm at 'layers.2.layer.layers.0' is in training"),
    "ReLU": (lambda: [nnx.relu], "differentiates the times of spikes behind the Synapse at 'layers.2', so it must be"),
    "weights of steps": (lambda: [StepWeights(6, 9)], "Synapse at 'layers.2' holds what is another map at each step"),
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_synapses(kind):
    between, says = BETWEEN[kind]
    net = small()
    net.layers[2] = Synapse(nnx.Sequential(*between(), nnx.Linear(9, 5, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match=says):
        tried(net)
    net.eval()
    if "norm" in kind:
        tried(net)


def test_other_layers():
    mixed = nnx.Sequential(CurrentLIF(0.9, 0.9), AcrossTime(lambda x: x - x.mean(0)), InstantReadout())
    with pytest.raises(ValueError, match="AcrossTime at 'layers.1' tells time steps apart.*times of spikes"):
        tried(mixed)


def test_sequences_and_losses():
    with pytest.raises(ValueError, match="at 'layers.1': the rule 'eventprop' .*whole sequences of one length"):
        tried(small(), lambda output: output.mean(), lengths=jnp.array([3, 6, 2]))
    state = safjax.start(small(), sequence(6), rules.exodus())
    with pytest.raises(ValueError, match="at 'layers.1': the rule 'eventprop' .*without state"):
        tried(small(), state=state)
    with pytest.raises(ValueError, match="a sequence of one step has none"):
        tried(small(), x=sequence(1))
    potentials = WithRecords(SequenceLoss(lambda o, r: r["potential"]["layers.1"].sum()), record=("potential",))
    with pytest.raises(ValueError, match="'eventprop' differentiates the times of spikes and not the potentials"):
        tried(small(), potentials)
    gradient = safjax.value_and_grad(LOSS, rules.eventprop())
    with pytest.raises(TypeError, match="'eventprop' returned was differentiated .* times of spikes, for constants"):
        jax.grad(lambda x: gradient(small(), x)[0][0])(sequence(6))
    for slowest in (0.0, True, float("nan")):
        with pytest.raises(ValueError, match=r"eventprop\(slowest=.*expected a positive number"):
            rules.eventprop(slowest=slowest)


def test_check_advises_it_for_such_nets_alone():
    assert "eventprop" in safjax.check(small(), sequence(6)).trained_by
    graph, *arrays = split_net(nets.Dense())
    (refused,) = verdicts_of(graph, arrays, sequence(6), None, {"eventprop": rules.eventprop()})
    assert not refused.trains and "Use CurrentLIF" in refused.reasons[0].sentence
