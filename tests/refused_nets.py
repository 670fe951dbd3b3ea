"""Nets, each with something of its own that some rules refuse, and the inputs that they are given."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import (
    ALIF,
    IF,
    LIF,
    PLIF,
    PSN,
    BatchNorm,
    CurrentLIF,
    Delay,
    LeakyReadout,
    Recurrent,
    Synapse,
)

STEPS, BATCH, UNITS = 4, 2, 3


def dense(*behind, **options):
    return Synapse(nnx.Sequential(nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(0), **options), *behind))


def chain(*layers, readout=None):
    return nnx.Sequential(*layers, LeakyReadout() if readout is None else readout)


class Width(nnx.Module):
    """A surrogate that learns."""

    def __init__(self):
        self.width = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return jax.nn.sigmoid(x / self.width[...])


class Count(nnx.Module):
    def __init__(self, value):
        self.count = value

    def __call__(self, x):
        if isinstance(self.count, nnx.Variable):
            self.count[...] += 1
            return x + self.count[...]
        self.count = self.count + 1
        return x


class Calls(nnx.Module):
    """A net of layers by their names, called as a function says."""

    def __init__(self, call, **layers):
        self.call = call
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.call(self, x)


def stacked():
    """Neurons and a synapse that some rules refuse, in a loop over layers."""
    one = lambda rngs: nnx.Sequential(  # noqa: E731
        LIF(floor=0.0), Synapse(nnx.Sequential(nnx.Linear(UNITS, UNITS, rngs=rngs), jnp.tanh))
    )
    make = nnx.vmap(one, in_axes=(0,), out_axes=0)
    return Calls(looped, first=dense(), blocks=nnx.split_rngs(splits=2)(make)(nnx.Rngs(0)), readout=LeakyReadout())


def looped(net, x):
    through = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    return net.readout(through(net.blocks, net.first(x)))


def forgotten(net, x):
    return net.readout(net.lif(net.first(x) + net.delay.recall()))


def twice(net, x):
    return net.readout(net.lif(net.first(net.lif(net.first(x)))))


def gated(net, x):
    a, b = net.one(net.first(x)), net.two(net.second(x))
    return net.readout(a * b)


def layers(**more):
    return {"first": dense(), "lif": LIF(), "readout": LeakyReadout(), **more}


def psn():
    return PSN(STEPS, rngs=nnx.Rngs(0))


IMAGE, SEQUENCE = (BATCH, UNITS), (STEPS, BATCH, UNITS)
NETS = {
    "good": (lambda: chain(dense(), LIF(), dense()), IMAGE),
    "ReLU": (lambda: chain(dense(nnx.relu), LIF(), dense()), IMAGE),
    "decays": (lambda: chain(dense(), LIF(0.5), dense(), LIF(0.9), readout=LeakyReadout(0.5)), IMAGE),
    "no decay of the readout": (lambda: chain(dense(), LIF(0.5), dense(), PLIF()), SEQUENCE),
    "neurons": (lambda: chain(dense(), LIF(floor=0.0), dense(), ALIF(), dense(), CurrentLIF()), SEQUENCE),
    "all steps at once": (lambda: chain(dense(), psn(), dense(), LIF()), SEQUENCE),
    "another length": (lambda: chain(PSN(STEPS + 1, rngs=nnx.Rngs(0)), dense()), SEQUENCE),
    "all steps at once, recurrent": (lambda: chain(Recurrent(psn(), dense()), dense(), LIF()), SEQUENCE),
    "recurrent": (lambda: chain(Recurrent(LIF(), dense()), dense(), LIF()), SEQUENCE),
    "statistics of all steps": (lambda: chain(dense(), LIF(), dense(BatchNorm(UNITS, over="time")), LIF()), SEQUENCE),
    "statistics of each": (lambda: chain(dense(BatchNorm(UNITS, over="step")), LIF()), SEQUENCE),
    "statistics of Flax": (lambda: chain(dense(nnx.BatchNorm(UNITS, rngs=nnx.Rngs(0))), LIF()), SEQUENCE),
    "dropout of Flax": (lambda: chain(dense(nnx.Dropout(0.5, rngs=nnx.Rngs(0))), LIF()), SEQUENCE),
    "statistics of all steps, learned before": (
        lambda: chain(
            nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(0)), BatchNorm(UNITS, over="time"), dense(), LIF(), dense()
        ),
        IMAGE,
    ),
    "learned before": (lambda: chain(nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(0)), nnx.relu, LIF()), SEQUENCE),
    "rounding": (lambda: chain(dense(dtype=jnp.bfloat16, use_bias=False), IF(), dense()), (300, BATCH, UNITS)),
    "learned surrogate": (lambda: chain(dense(), LIF(surrogate=Width())), IMAGE),
    "count": (lambda: chain(Synapse(Count(nnx.Variable(jnp.zeros(())))), LIF()), SEQUENCE),
    "count in Python": (lambda: chain(dense(Count(0)), LIF()), SEQUENCE),
    "no readout": (lambda: nnx.Sequential(dense(), LIF()), SEQUENCE),
    "neurons in a synapse": (lambda: chain(dense(LIF()), LIF()), SEQUENCE),
    "nothing kept": (lambda: Calls(forgotten, **layers(delay=Delay())), SEQUENCE),
    "called twice": (lambda: Calls(twice, **layers()), SEQUENCE),
    "gated": (lambda: Calls(gated, **layers(second=dense(), one=LIF(), two=LIF())), SEQUENCE),
    "in a loop over layers": (stacked, SEQUENCE),
    "a loop of its own": (
        lambda: chain(dense(lambda x: jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x)), LIF()),
        IMAGE,
    ),
}


def given(shape):
    return jnp.ones(shape), (STEPS if shape == IMAGE else None)
