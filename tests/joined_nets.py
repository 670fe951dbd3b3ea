"""Nets in which streams meet: residual blocks of spikes, attention, a U-Net, two inputs, feedback."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax import ops
from safjax.nn import LIF, BatchNorm, Delay, InstantReadout, LeakyReadout, SequenceState, Synapse, concatenate
from tests import nets

DECAY = 0.6


def dense(n_in, n_out, rngs):
    layer = nets._dense(n_in, n_out, rngs)
    layer.bias[...] += 0.3
    return layer


class Tokens(nnx.Module):
    """x[B, n] ↦ tokens[B, 5, c]."""

    def __init__(self, n_in, channels, rngs):
        self.dense, self.channels = dense(n_in, 5 * channels, rngs), channels

    def __call__(self, x):
        return self.dense(x).reshape(len(x), 5, self.channels)


def both(function):
    return lambda: Synapse(function)


CONNECT = {
    "ADD": both(lambda residual, shortcut: residual + shortcut),
    "AND": both(lambda residual, shortcut: residual * shortcut),
    "IAND": both(lambda residual, shortcut: (1 - residual) * shortcut),
    "concatenated": lambda: concatenate,
}
PLAIN = {
    "ADD": lambda: lambda residual, shortcut: residual + shortcut,
    "AND": lambda: lambda residual, shortcut: residual * shortcut,
    "IAND": lambda: lambda residual, shortcut: shortcut - residual * shortcut,
    "concatenated": lambda: lambda *parts: jnp.concatenate(parts, -1),
}
"""The same of plain arrays: under rules that hand over plain arrays only."""


class SEWBlock(nnx.Module):
    """Spike-element-wise residual block (Fang et al. 2021): spikes in, spikes out."""

    def __init__(self, n_in, connect, rngs):
        self.one, self.two = Synapse(dense(n_in, 12, rngs)), Synapse(dense(12, n_in, rngs))
        self.lif1, self.lif2, self.connect = LIF(DECAY), LIF(DECAY), connect

    def __call__(self, spikes):
        return self.connect(self.lif2(self.two(self.lif1(self.one(spikes)))), spikes)


class SEW(nnx.Module):
    """One block of each kind, one after the other; a concatenation doubles the width."""

    def __init__(self, connect=CONNECT):
        rngs, width, blocks = nnx.Rngs(1), 12, []
        self.first, self.lif = Synapse(dense(7, width, rngs)), LIF(DECAY)
        for kind, make in connect.items():
            blocks.append(SEWBlock(width, make(), rngs))
            width *= 1 + (kind == "concatenated")
        self.blocks = nnx.List(blocks)
        self.last, self.readout = Synapse(dense(width, nets.CLASSES, rngs)), LeakyReadout(DECAY)

    def __call__(self, x):
        x = self.lif(self.first(x))
        for block in self.blocks:
            x = block(x)
        return self.readout(self.last(x))


def dot_product(q, k, v):
    return 0.3 * (q @ k.mT) @ v


class Attention(nnx.Module):
    """A Spikformer's attention without softmax and a spike-driven one, on tokens [B, 5, 8]; `plain` as of `PLAIN`."""

    def __init__(self, plain=False):
        rngs, wrapped = nnx.Rngs(2), (lambda function: function) if plain else Synapse
        self.embed, self.lif = Synapse(Tokens(7, 8, rngs)), LIF(DECAY)
        self.maps = nnx.List([Synapse(dense(8, 8, rngs)) for _ in range(6)])
        self.lifs = nnx.List([LIF(DECAY) for _ in range(6)])
        self.attend, self.attended = wrapped(dot_product), LIF(DECAY, 0.7)
        self.masked = wrapped(lambda k, v: 2 * (k * v).sum(1, keepdims=True))
        self.gate, self.gated = LIF(DECAY, 0.6), wrapped(lambda q, gate: q * gate)
        self.last = Synapse(nnx.Sequential(lambda x: x.mean(1), dense(8, nets.CLASSES, rngs)))
        self.readout = LeakyReadout(DECAY)

    def __call__(self, x):
        x = self.lif(self.embed(x))
        q, k, v, *others = (lif(synapse(x)) for lif, synapse in zip(self.lifs, self.maps, strict=True))
        x = x + self.attended(self.attend(q, k, v))
        q, k, v = others
        return self.readout(self.last(x + self.gated(q, self.gate(self.masked(k, v)))))


def affine(first, second):
    """A function of two arrays that is affine in both together, and a sum of two maps."""
    return 0.8 * first - jnp.flip(second, -1) + 0.2


class Joining(nnx.Module):
    """f(a, b) = W₁ a + W₂ b + c."""

    def __init__(self, n_first, n_second, n_out, rngs):
        self.one, self.two = dense(n_first, n_out, rngs), dense(n_second, n_out, rngs)

    def __call__(self, first, second):
        return self.one(first) + 0.7 * self.two(second)


class TwoInputs(nnx.Module):
    """Numbers {"a": [B, 7], "b": [B, 5]} and spikes meet by affine functions and a concatenation.

    `single`: the same with a synapse for each addend.
    """

    def __init__(self, single=False, readout=LeakyReadout, decay=DECAY):
        rngs, self.single = nnx.Rngs(3), single
        self.enter, self.meet = Joining(7, 5, 10, rngs), Joining(10, 7, 9, rngs)
        if single:
            self.parts = nnx.List([Synapse(one) for one in (self.enter.one, self.enter.two)])
            self.meets = nnx.List([Synapse(one) for one in (self.meet.one, self.meet.two)])
        else:
            self.parts, self.meets = Synapse(self.enter), Synapse(self.meet)
        self.lif1, self.lif2, self.lif3 = LIF(decay), LIF(decay), LIF(decay)
        self.mixed = Synapse(affine)
        self.second = Synapse(dense(9, 9, rngs))
        self.last, self.readout = Synapse(dense(27, nets.CLASSES, rngs)), readout()

    def __call__(self, x):
        a, b = x["a"], x["b"]
        one = self.lif1(self.sum(self.parts, a, b))
        two = self.lif2(self.sum(self.meets, one, a))
        three = self.lif3(self.second(two))
        beside = concatenate(two, three, self.mixed(three, two))
        return self.readout(self.last(beside))

    def sum(self, synapses, first, second):
        return synapses[0](first) + 0.7 * synapses[1](second) if self.single else synapses(first, second)


def two_inputs(steps=nets.STEPS, seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(0.3, 1.2, (steps, nets.BATCH, n))) for name, n in (("a", 7), ("b", 5))}


def two_images():
    return {name: values[0] for name, values in two_inputs().items()}


def vectors(steps=nets.STEPS):
    return two_inputs(steps)["a"]


class UNet(nnx.Module):
    """Encoder, decoder and a skip between them; a readout of the inner map and one of the outer, as a dict."""

    def __init__(self, concatenate=concatenate):
        rngs = nnx.Rngs(4)
        self.first, self.lif1 = Synapse(nets._conv(2, 4, rngs)), LIF(DECAY)
        self.down = Synapse(nnx.Sequential(lambda x: 2 * ops.avg_pool(x, (2, 2)), nets._conv(4, 6, rngs)))
        self.lif2, self.lif3 = LIF(DECAY), LIF(DECAY)
        self.up = Synapse(lambda x: x.repeat(2, 1).repeat(2, 2))
        self.merge, self.concatenate = Synapse(nets._conv(10, 4, rngs)), concatenate
        self.inner = Synapse(nnx.Sequential(ops.global_avg_pool, dense(6, nets.CLASSES, rngs)))
        self.outer, self.aside, self.readout = Synapse(nets._conv(4, 1, rngs)), InstantReadout(), LeakyReadout(DECAY)

    def __call__(self, x):
        encoded = self.lif1(self.first(x))
        inner = self.lif2(self.down(encoded))
        decoded = self.lif3(self.merge(self.concatenate(encoded, self.up(inner), axis=3)))
        return {"map": self.readout(self.outer(decoded)), "classes": (self.aside(self.inner(inner)),)}


def unet_loss(output, labels):
    return jnp.mean((output["map"] - 0.3) ** 2) + 0.4 * nets.loss(output["classes"][0], labels)


class Loop(nnx.Module):
    """Neurons whose current is one function of input and of their own spikes of the step before."""

    def __init__(self, shape=(9,), single=False):
        rngs, self.single = nnx.Rngs(5), single
        self.join = Joining(7, 9, 9, rngs)
        self.one, self.two = (Synapse(self.join.one), Synapse(self.join.two)) if single else (Synapse(self.join), None)
        self.lif, self.delay = LIF(DECAY), Delay() if single else Delay(shape=shape)
        self.last, self.readout = Synapse(dense(9, nets.CLASSES, rngs)), LeakyReadout(DECAY)

    def __call__(self, x):
        back = self.delay.recall()
        current = self.one(x) + 0.7 * self.two(back) if self.single else self.one(x, back)
        spikes = self.lif(current)
        self.delay.keep(spikes)
        return self.readout(self.last(spikes))


class Vector(nnx.Module):
    """`TwoInputs` of one array."""

    def __init__(self):
        self.net = TwoInputs()

    def __call__(self, x):
        return self.net({"a": x, "b": 1.5 * x[:, :5]})


class Within(nnx.Module):
    """What comes back meets spikes, by a concatenation, and currents, by a synapse, and need not be given a shape."""

    def __init__(self, plain=False):
        rngs = nnx.Rngs(6)
        self.first, self.second = Synapse(dense(7, 9, rngs)), Synapse(dense(18, 9, rngs))
        self.lif1, self.lif2, self.delay = LIF(DECAY), LIF(DECAY), Delay()
        self.join = (lambda a, b: a - 0.5 * b) if plain else Synapse(lambda a, b: a - 0.5 * b)
        self.last, self.readout = Synapse(dense(9, nets.CLASSES, rngs)), LeakyReadout(DECAY)
        pads = [Synapse(lambda a, n=n: jnp.pad(a, ((0, 0), (n, 9 - n)))) for n in (0, 9)]
        self.pads, self.plain = nnx.List(pads), plain

    def __call__(self, x):
        current, back = self.first(x), self.delay.recall()
        spikes = self.lif1(current + self.join(current, back))
        self.delay.keep(spikes)
        beside = self.pads[0](spikes) + self.pads[1](back) if self.plain else concatenate(spikes, back)
        return self.readout(self.last(self.lif2(self.second(beside))))


class Front(nnx.Module):
    """One image as a stock layer sees it, and one that changes with a count of steps."""

    def __init__(self, single=False):
        rngs, self.single = nnx.Rngs(8), single
        self.stock, self.count, self.join = dense(7, 7, rngs), SequenceState(jnp.zeros(())), Joining(7, 7, 9, rngs)
        parts = (self.join.one, self.join.two) if single else (self.join,)
        self.parts = nnx.List([Synapse(part) for part in parts])
        self.lif, self.last, self.readout = LIF(DECAY), Synapse(dense(9, nets.CLASSES, rngs)), LeakyReadout(DECAY)

    def __call__(self, x):
        self.count[...] += 1
        seen, changing = jnp.tanh(self.stock(x)), x / self.count[...]
        one, *two = self.parts
        current = one(seen) + 0.7 * two[0](changing) if self.single else one(seen, changing)
        return self.readout(self.last(self.lif(current)))


class Normed(nnx.Module):
    """Batch statistics of each step inside a function of spikes and of a plain array."""

    def __init__(self):
        rngs = nnx.Rngs(9)
        self.first, self.lif1, self.lif2 = Synapse(nets._dense(5, 10, rngs)), LIF(DECAY), LIF(DECAY)
        mixed = nnx.Linear(17, 9, use_bias=False, param_dtype=nets.DTYPE, rngs=rngs)
        norm = BatchNorm(9, over="step", deviation=0.8, param_dtype=nets.DTYPE)
        norm.bias[...] += 0.3
        self.join = Synapse(nnx.Sequential(lambda *parts: jnp.concatenate(parts, -1), mixed, norm))
        self.last, self.readout = Synapse(dense(9, nets.CLASSES, rngs)), LeakyReadout(DECAY)

    def __call__(self, x):
        spikes = self.lif1(self.first(x["b"]))
        return self.readout(self.last(self.lif2(self.join(spikes, x["a"]))))
