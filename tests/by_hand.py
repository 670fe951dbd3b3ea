"""Online rules written out, step by step, without any propagation of safjax.

A net is a list of plain functions (net, [x, s_1, s_2, …]) ↦ I_l, made of its own stock layers: the currents of its
neurons in their order, and last that of its readout. With an error e at a current, its weights have the gradient of the
function at traces in place of the spikes, and the spikes Wᵀ e.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

DECAY, THRESHOLD, SLOPE = 0.5, 1.0, Sigmoid().slope
"""Of every neuron of the nets below."""


class TwoWays(nnx.Module):
    """Spikes that a membrane has and an instantaneous readout, too."""

    def __init__(self):
        rngs, sizes = nnx.Rngs(3), ((7, 9), (9, 8), (8, nets.CLASSES), (9, nets.CLASSES))
        self.first, self.second, self.last, self.skip = (Synapse(nets._dense(*size, rngs)) for size in sizes)
        self.lif1, self.lif2, self.readout = LIF(), LIF(), InstantReadout()

    def __call__(self, x):
        one = self.lif1(self.first(x))
        return self.readout(self.last(self.lif2(self.second(one))) + 0.5 * self.skip(one))


def block(block, one, two):
    return 0.7 * block.conv2.layer(two) + block.shortcut.layer(one)


CONV = [
    lambda net, x: net.first.layer(x[0]),
    lambda net, x: net.second.layer(x[1]),
    lambda net, x: net.last.layer(x[2]),
]
RESIDUAL = [
    lambda net, x: net.stem.layer(x[0]),
    lambda net, x: net.blocks[0].conv1.layer(x[1]),
    lambda net, x: block(net.blocks[0], x[1], x[2]),
    lambda net, x: net.blocks[1].conv1.layer(x[3]),
    lambda net, x: net.head.layer(block(net.blocks[1], x[3], x[4])),
]
TWO_WAYS = [
    lambda net, x: net.first.layer(x[0]),
    lambda net, x: net.second.layer(x[1]),
    lambda net, x: net.last.layer(x[2]) + 0.5 * net.skip.layer(x[1]),
]


def vectors(steps=nets.STEPS):
    return 0.6 + 1.2 * jax.random.normal(jax.random.key(4), (steps, nets.BATCH, 7), nets.DTYPE)


NETS = {
    "convolution": (nets.Conv, CONV, nets.video),
    "residual": (nets.Residual, RESIDUAL, nets.video),
    "spikes on two ways": (TwoWays, TWO_WAYS, vectors),
}
"""{name: (net, its currents, its input)}."""


class Currents(NamedTuple):
    """A net's currents with their derivatives, as functions of lists of inputs."""

    graphdef: nnx.GraphDef
    weights: nnx.State
    functions: list
    leaky: bool

    def __call__(self, place, inputs, weights=None):
        weights = self.weights if weights is None else weights
        return self.functions[place](nnx.merge(self.graphdef, weights), inputs)

    def learned(self, place, at, error):
        """The weights' gradient, taken at these inputs."""
        return jax.vjp(lambda weights: self(place, at, weights), self.weights)[1](error)[0]

    def passed(self, place, inputs, error):
        """The errors of the inputs."""
        return jax.vjp(lambda inputs: self(place, inputs), inputs)[1](error)[0]


def gradient(make, net, functions, xs, labels, first=0):
    """(1/T) Σ_{t ≥ first} of what a rule makes of the gradient of the loss of step t; make() is the rule."""
    graphdef, weights = nnx.split(net)
    leaky = isinstance(net.readout, LeakyReadout)

    @jax.jit
    def whole(weights):
        return _gradient(make(), Currents(graphdef, weights, functions, leaky), xs, labels, first)

    return nnx.filter_state(whole(weights), nnx.Param)


def _gradient(rule, currents, xs, labels, first):
    layers = range(len(currents.functions) - 1)
    total = jax.tree.map(jnp.zeros_like, currents.weights)
    membranes, mean, gain = [0.0 for _ in layers], 0.0, 0.0
    for t, x in enumerate(xs):
        inputs, slopes = [x], []
        for place in layers:
            potential = DECAY * membranes[place] + currents(place, inputs)
            inputs.append(jnp.where(potential >= THRESHOLD, 1.0, 0.0))
            slopes.append(SLOPE(potential - THRESHOLD))
            membranes[place] = potential - THRESHOLD * inputs[-1]
        output, gain = currents(-1, inputs), DECAY * gain + 1
        mean = mean + (output - mean) / gain
        share = gain if currents.leaky else 1.0
        error = jax.grad(nets.loss)(mean if currents.leaky else output, labels) / share
        rule.advance(inputs, slopes)
        if t >= first:
            total = jax.tree.map(lambda *parts: sum(parts), total, *rule.parts(currents, inputs, slopes, error))
        rule.end(slopes)
    return jax.tree.map(lambda g: g / len(xs), total)


class ApproxOTPE:
    """a, z of every input, Λ, and Λ σ̄ of every layer."""

    def __init__(self):
        self.a = self.z = self.slopes = None
        self.gain = 0.0

    def advance(self, inputs, slopes):
        zeros = [0.0] * len(inputs)
        self.a = [DECAY * a + x for a, x in zip(self.a or zeros, inputs, strict=True)]
        self.z = [DECAY * z + a for z, a in zip(self.z or zeros, self.a, strict=True)]
        self.slopes = [DECAY * sums + slope for sums, slope in zip(self.slopes or zeros[1:], slopes, strict=True)]
        self.gain = DECAY * self.gain + 1

    def parts(self, currents, inputs, slopes, error):
        parts, onward, read = [currents.learned(-1, self.a, error)], [0.0] * len(inputs), [0.0] * len(inputs)
        received = onward if currents.leaky else read
        received[:] = currents.passed(-1, inputs, error)
        for place in reversed(range(len(slopes))):
            later = self.slopes[place] / self.gain * onward[place + 1]
            now = slopes[place] * read[place + 1]
            parts += [currents.learned(place, self.z, later), currents.learned(place, self.a, now)]
            onward = [e + more for e, more in zip(onward, currents.passed(place, inputs, later + now), strict=True)]
        return parts

    def end(self, slopes):
        pass


class STLLR:
    """p of every input, q of every layer; factors are (λ₊, λ₋, α₊, α₋)."""

    def __init__(self, factors):
        self.pre_decay, self.post_decay, self.causal, self.noncausal = factors
        self.p = self.q = None

    def advance(self, inputs, slopes):
        self.p = [self.pre_decay * p + x for p, x in zip(self.p or [0.0] * len(inputs), inputs, strict=True)]
        self.q = self.q or [jnp.zeros_like(slope) for slope in slopes]

    def parts(self, currents, inputs, slopes, error):
        silent = [jnp.zeros_like(x) for x in inputs]

        def linear(place, at, error):
            """Without what a bias has of it."""
            return jax.tree.map(
                jnp.subtract, currents.learned(place, at, error), currents.learned(place, silent, error)
            )

        parts = [linear(-1, self.p if currents.leaky else inputs, error), currents.learned(-1, silent, error)]
        errors = currents.passed(-1, inputs, error)
        for place in reversed(range(len(slopes))):
            back, trace = slopes[place] * errors[place + 1], self.q[place] * errors[place + 1]
            parts += [linear(place, self.p, self.causal * back), linear(place, inputs, self.noncausal * trace)]
            parts += [currents.learned(place, silent, back)]
            errors = [e + more for e, more in zip(errors, currents.passed(place, inputs, back), strict=True)]
        return parts

    def end(self, slopes):
        self.q = [self.post_decay * q + slope for q, slope in zip(self.q, slopes, strict=True)]
