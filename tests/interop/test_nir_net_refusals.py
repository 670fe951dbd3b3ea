"""What no graph can be made of is refused by the layer's path, with what to write instead."""

import sys
import warnings

import jax.numpy as jnp
import pytest
from flax import nnx

from safjax.nn import (
    ALIF,
    IF,
    LIF,
    PSN,
    AxonalDelay,
    BatchNorm,
    CurrentLIF,
    Delay,
    DelayedLinear,
    InstantReadout,
    LeakyReadout,
    Recurrent,
    Refractory,
    ResetTo,
    SequenceState,
    StepWeights,
    Synapse,
)

nir = pytest.importorskip("nir")
from safjax.nir import to_nir  # noqa: E402

DT = 1e-3


def dense(given=3, made=3, **options):
    return Synapse(nnx.Linear(given, made, rngs=nnx.Rngs(0), **options))


def chain(*layers):
    return nnx.Sequential(*layers, InstantReadout())


class Clock(nnx.Module):
    """Counts steps."""

    def __init__(self):
        self.count = SequenceState(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return x * self.count[...]


class Back(nnx.Module):
    """Feedback of two steps."""

    def __init__(self):
        self.first, self.back, self.lif = dense(), dense(use_bias=False), LIF(reset=ResetTo(0.0))
        self.one, self.two, self.readout = Delay(), Delay(), InstantReadout()

    def __call__(self, x):
        spikes = self.lif(self.first(x) + self.back(self.two.recall()))
        self.two.keep(self.one.recall())
        self.one.keep(spikes)
        return self.readout(spikes)


class Behind(nnx.Module):
    """Something behind the readout."""

    def __init__(self):
        self.first, self.readout = dense(), LeakyReadout(0.5)

    def __call__(self, x):
        return 2.0 * self.readout(self.first(x))


class Pair(nnx.Module):
    """Two outputs."""

    def __init__(self):
        self.first, self.readout = dense(), LeakyReadout(0.5)

    def __call__(self, x):
        spikes = self.readout(self.first(x))
        return spikes, spikes


ZERO = {"reset": ResetTo(0.0)}
FLAT, PICTURE = (3,), (4, 4, 3)
NETS = {
    "adaptation": (lambda: chain(ALIF()), FLAT, "'layers.0' has a threshold that rises"),
    "a refractory period": (lambda: chain(Refractory(LIF(), 2)), FLAT, "'layers.0' has a refractory period"),
    "all steps at once": (
        lambda: chain(PSN(4, rngs=nnx.Rngs(0))),
        FLAT,
        "'layers.0' is a PSN, which looks at all steps",
    ),
    "a floor": (lambda: chain(LIF(floor=-1.0)), FLAT, "'layers.0' keeps its membrane above -1.0.*floor=None"),
    "several spikes": (lambda: chain(LIF(max_spikes=None)), FLAT, "'layers.0' may fire several spikes"),
    "some leak": (
        lambda: chain(LIF(nnx.Variable(jnp.array([0.5, 1, 1])), **ZERO)),
        FLAT,
        "'layers.0' has neurons with a leak",
    ),
    "a filter without leak": (
        lambda: chain(CurrentLIF(1.0, 0.5, **ZERO)),
        FLAT,
        "'layers.0' has a filter or a membrane",
    ),
    "maximum pooling": (
        lambda: chain(Synapse(lambda x: nnx.max_pool(x, (2, 2), (2, 2)))),
        PICTURE,
        "'layers.0' contains max pooling",
    ),
    "a product": (lambda: chain(Synapse(lambda x: x * x)), FLAT, "'layers.0' contains a product of two values"),
    "a mirror image": (lambda: chain(Synapse(lambda x: x[:, ::-1])), PICTURE, r"'layers.0' makes \[4, 4, 3\] of"),
    "circular padding": (
        lambda: chain(Synapse(nnx.Conv(3, 2, (3, 3), padding="CIRCULAR", rngs=nnx.Rngs(0)))),
        PICTURE,
        "padding 'CIRCULAR'",
    ),
    "three axes": (
        lambda: chain(Synapse(nnx.Conv(3, 2, (3, 3, 3), rngs=nnx.Rngs(0)))),
        (4, 4, 4, 3),
        "'layers.0' holds a convolution over 3",
    ),
    "weights of steps": (lambda: chain(Synapse(StepWeights(4))), FLAT, "is a StepWeights, for which NIR has no node"),
    "delays of weights": (
        lambda: chain(DelayedLinear(3, 3, 2, rngs=nnx.Rngs(0))),
        FLAT,
        "'layers.0' is a DelayedLinear",
    ),
    "a lonely normalisation": (
        lambda: chain(Synapse(BatchNorm(3, over="step"))),
        FLAT,
        "'layers.0.layer' is no entry of an nnx.Sequential",
    ),
    "two steps of feedback": (Back, FLAT, "lies in a loop"),
    "a recurrent bias": (
        lambda: chain(
            Recurrent(LIF(**ZERO), Synapse(nnx.Linear(3, 3, bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0))))
        ),
        FLAT,
        "recurrent weights 'layers_0_synapse'.*use_bias=False",
    ),
    "behind the readout": (Behind, FLAT, "computes with what its readout returns"),
    "a count of steps": (lambda: chain(Synapse(Clock())), FLAT, "'layers.0.layer.count' changes from step to step"),
    "two outputs": (Pair, FLAT, "returned a tuple"),
}


@pytest.mark.parametrize("case", NETS)
def test_nets(case):
    make, shape, words = NETS[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError), match=words):
            to_nir(make(), jnp.ones((4, 2, *shape)), DT)


def test_arguments():
    net = chain(dense(), IF(**ZERO), AxonalDelay(1))
    for options, words in [
        ({"dt": 0}, "a time step above 0"),
        ({"dt": DT, "gain": "one"}, "'membrane', 'current' or None"),
    ]:
        with pytest.raises(ValueError, match=words):
            to_nir(net, jnp.ones((4, 2, 3)), **options)
    with pytest.raises(ValueError, match="An axis of time is missing"):
        to_nir(net, jnp.ones((4, 3)), DT)
    assert to_nir(net, jnp.ones((4, 3)), DT, steps=5).metadata == {"dt": DT, "writer": "safjax"}


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"pip install 'safjax\[nir\]'"):
        to_nir(chain(dense()), jnp.ones((4, 2, 3)), DT)
