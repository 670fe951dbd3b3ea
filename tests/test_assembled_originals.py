"""Programs of the field beside the same programs of other libraries' layers, where those are installed.

Weights are copied there; in float64 spikes are equal in every layer, and gradients of a loss by back-propagation.

Neurons, convolutions and attention are SpikingJelly's own; `unet` and `spike_driven_attention` have no ready net there,
so its layers are joined here. Three programs have no original in the libraries of the extra `peers`: `lsnn`, whose
adaptive neurons subtract the threshold at rest (Spyx's do not, and sinabs's do not differentiate it); `delays`, since
none has weights with learned delays; and `two_inputs`, which is of this project.
"""

import functools
import importlib
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax.losses import SequenceLoss
from safjax.nn import LIF, BatchNorm, InstantReadout, ResetTo, Synapse
from safjax.surrogate import Arctan
from tests import originals
from tests.examples_of_the_field import spike_driven_attention, spikformer_block, unet
from tests.originals import Original, Pair, convolution, in_float64, jelly, norm, same, watched

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("x64")

LABELS = jnp.arange(3)


def lif():
    """`LIF()` there."""
    neuron, _, surrogate, _ = jelly()
    options = {"decay_input": False, "v_reset": None, "surrogate_function": surrogate.Sigmoid(alpha=4.0)}
    return neuron.LIFNode(2.0, **options)


def leaky_mean(currents, decay=0.5):
    """`LeakyReadout` of [T, ...]."""
    v, gain, outputs = 0.0, 0.0, []
    for current in currents:
        v, gain = decay * v + current, decay * gain + 1
        outputs.append(v / gain)
    return torch.stack(outputs)


def cross_entropy(outputs, labels):
    return sum(torch.nn.functional.cross_entropy(o, labels) for o in outputs) / len(outputs)


def tokenwise(ours, theirs):
    """A dense layer of the last axis is a convolution of length 1 there."""
    bias = [] if ours.bias is None else [same(ours.bias, theirs.bias)]
    return [Pair((ours.kernel,), theirs.weight, lambda k: k.T[..., None]), *bias]


class StepNorm(torch.nn.BatchNorm1d):
    """Of each step by itself."""

    def forward(self, x):
        return torch.stack([super(StepNorm, self).forward(step) for step in x])


def standardised(ours, theirs):
    return [*convolution(ours, theirs), Pair((ours.gain,), theirs.gain, lambda g: g[:, None, None, None])]


class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer = jelly()[1]
        conv = functools.partial(layer.WSConv2d, kernel_size=3, padding=1)
        self.enter, self.down, self.merge = conv(2, 6), conv(6, 12), conv(18, 6)
        self.encoded, self.inner, self.decoded = lif(), lif(), lif()
        self.pool, self.answer = layer.AvgPool2d(2, 2), layer.Conv2d(6, 1, 1)

    def forward(self, x):
        encoded = self.encoded(self.enter(x))
        inner = self.inner(self.down(2.74 * self.pool(encoded)))
        up = inner.repeat_interleave(2, 3).repeat_interleave(2, 4)
        joined = torch.cat([encoded, up], 2)
        return leaky_mean(self.answer(self.decoded(self.merge(2.74 * joined))))


def test_a_u_net():
    theirs, net = UNet(), in_float64(unet.Net(nnx.Rngs(0)))
    run = watched(theirs, jelly()[0].LIFNode)
    parts = [(net.enter.layer, theirs.enter), (net.down.layer.layers[1], theirs.down)]
    parts.append((net.merge.layer.layers[1], theirs.merge))
    pairs = [pair for ours, there in parts for pair in standardised(ours, there)]
    pairs += convolution(net.answer.layer, theirs.answer)

    def loss(outputs, labels):
        return ((outputs - 0.1 * labels.double()[:, None, None, None]) ** 2).mean()

    x, paths = unet.inputs().astype(float), ["encoded", "inner", "decoded"]
    originals.compare(net, Original(run, pairs), paths, x, unet.STEPS, unet.loss, loss, (LABELS,))


class Attending(torch.nn.Module):
    """Dense layers with neurons behind, of tokens [T, B, C, N]."""

    def __init__(self, sizes, norms):
        super().__init__()
        layer = jelly()[1]
        self.dense = torch.nn.ModuleDict({name: layer.Conv1d(*size, 1) for name, size in sizes.items()})
        self.norms = torch.nn.ModuleDict({name: StepNorm(size[1]) for name, size in sizes.items() if norms})
        self.neurons = torch.nn.ModuleDict({name: lif() for name in sizes})
        self.between, self.head = lif(), torch.nn.Linear(8, 4)

    def fired(self, name, x):
        x = self.dense[name](x)
        return self.neurons[name](self.norms[name](x) if name in self.norms else x)

    def answer(self, x):
        return self.head(x.mean(-1))


class Spikformer(Attending):
    def forward(self, x):
        x = self.fired("embed", x)
        q, k, v = (self.fired(name, x) for name in "qkv")
        attended = self.between((0.4 * (q.mT @ k) @ v.mT).mT)
        x = x + self.fired("project", attended)
        return self.answer(x + self.fired("second", self.fired("first", x)))


class SpikeDriven(Attending):
    def forward(self, x):
        x = self.fired("embed", x)
        q, k, v = (self.fired(name, x) for name in "qkv")
        masked = q * self.between((k * v).sum(-1, keepdim=True))
        return leaky_mean(self.answer(x + masked))


def compared(program, theirs, places, paths):
    """places: name there ↦ where it is here."""
    net = in_float64(program.Net(nnx.Rngs(0)))
    run, pairs = watched(theirs, jelly()[0].LIFNode), []
    for name, path in places.items():
        layer = path(net).layers[0].layer
        dense, *norms = layer.layers if theirs.norms else [layer]
        if norms:
            # Without effect in front of a normalisation.
            dense.bias, dense.use_bias = nnx.data(None), False
        pairs += tokenwise(dense, theirs.dense[name])
        pairs += [pair for ours in norms for pair in norm(ours, theirs.norms[name])]
    head = net.head.layer.layers[1]
    pairs += [Pair((head.kernel,), theirs.head.weight, lambda k: k.T), same(head.bias, theirs.head.bias)]
    x = program.inputs().astype(float)
    originals.compare(net, Original(run, pairs), paths, x, None, program.loss, cross_entropy, (LABELS,))


def test_the_attention_and_the_perceptron_of_a_spikformer():
    square = dict.fromkeys(("q", "k", "v", "project"), (8, 8))
    theirs = Spikformer({"embed": (6, 8), **square, "first": (8, 32), "second": (32, 8)}, norms=True)
    places = {name: operator.attrgetter(name) for name in ("embed", *square)}
    places |= {"first": lambda net: net.perceptron.layers[0], "second": lambda net: net.perceptron.layers[1]}
    paths = [f"{name}.layers.1" for name in ("embed", "q", "k", "v", "project")]
    paths = [*paths[:4], "attended", paths[4], "perceptron.layers.0.layers.1", "perceptron.layers.1.layers.1"]
    compared(spikformer_block, theirs, places, paths)


def test_attention_of_masks_and_additions():
    sizes = dict.fromkeys(("embed", "q", "k", "v"), (8, 8))
    paths = [*(f"{name}.layers.1" for name in sizes), "channels"]
    compared(
        spike_driven_attention,
        SpikeDriven(sizes, norms=False),
        {name: operator.attrgetter(name) for name in sizes},
        paths,
    )


class SpikeDrivenBlock(nnx.Module):
    """Attention as published, with normalisation and a shortcut of membranes, of tokens."""

    def __init__(self, features, rngs):
        def dense():
            # A bias, which the last one has there, is without effect in front of a normalisation.
            linear = nnx.Linear(features, features, use_bias=False, rngs=rngs)
            return Synapse(nnx.Sequential(linear, BatchNorm(features, over="time")))

        def neurons(threshold=1.0):
            return LIF(0.5, threshold, Arctan(), reset=ResetTo(0.0), decay_input=True)

        self.enter, self.shortcut, self.same = Synapse(lambda x: x), neurons(), Synapse(lambda x: x)
        self.q, self.k, self.v = (nnx.Sequential(dense(), neurons()) for _ in range(3))
        self.mask, self.channels = Synapse(lambda k, v: (k * v).sum(1, keepdims=True)), neurons(0.5)
        self.masked, self.project, self.readout = Synapse(lambda q, c: q * c), dense(), InstantReadout()

    def __call__(self, tokens):
        x = self.shortcut(self.enter(tokens))
        channels = self.channels(self.mask(self.k(x), self.v(x)))
        masked = self.masked(self.q(x), channels)
        return self.readout(self.project(masked) + self.same(tokens))


def test_the_spike_driven_self_attention_of_spikingjelly():
    neuron, _, surrogate, _ = jelly()
    attention = importlib.import_module("spikingjelly.activation_based.layer.attention")
    theirs = attention.SpikeDrivenSelfAttention(8, 2, surrogate_function=surrogate.ATan())
    watch = watched(theirs, neuron.LIFNode)

    def run(x):
        outputs, (*spikes, mask) = watch(x.unflatten(3, (4, 4)))
        # Those of images there; channels of each head come one head after the other.
        return outputs.flatten(3), [*(s.flatten(3) for s in spikes), mask.flatten(2)[..., None]]

    net, pairs = in_float64(SpikeDrivenBlock(8, nnx.Rngs(0))), []
    for name in ("q", "k", "v", "project"):
        linear, normalisation = (
            getattr(net, name).layer.layers if name == "project" else getattr(net, name).layers[0].layer.layers
        )
        there = "proj" if name == "project" else name
        normalisation.scale[...] *= 3.0
        normalisation.bias[...] += 0.4
        conv = getattr(theirs, f"{there}_conv")
        pairs.append(Pair((linear.kernel,), conv.weight, lambda k: k.T[..., None, None]))
        pairs += norm(normalisation, getattr(theirs, f"{there}_bn"))
    shape = (4, 3, 16, 8)
    x = 1.5 + jax.random.normal(jax.random.key(1), shape)
    weights = np.random.default_rng(1).normal(size=shape)
    there = torch.tensor(originals.channels_first(weights))
    losses = SequenceLoss(lambda outputs: jnp.vdot(weights, outputs)), lambda outputs: (there * outputs).sum()
    paths = ["shortcut", "q.layers.1", "k.layers.1", "v.layers.1", "channels"]
    originals.compare(net, Original(run, pairs), paths, x, None, *losses, (), detach_reset=True)
