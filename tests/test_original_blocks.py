"""Blocks of published networks against the libraries that they come from, where those are installed.

Weights are copied there; in float64 spikes are equal in every layer, and gradients of a loss by back-propagation.
"""

import functools
import importlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax.losses import SequenceLoss
from safjax.models.sew_resnet import SEWBlock, sew_add, sew_and, sew_iand
from safjax.models.spikformer import Block
from safjax.models.stages import Layers
from safjax.nn import IF, LIF, BatchNorm, InstantReadout, ResetTo, Synapse
from safjax.surrogate import Arctan
from tests import originals
from tests.originals import Original, Pair, convolution, in_float64, jelly, norm, watched

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("x64")


class Read(nnx.Module):
    """A block between spikes and spikes, with what makes it a net."""

    def __init__(self, block):
        self.enter, self.block, self.readout = Synapse(lambda x: x), block, InstantReadout()

    def __call__(self, x):
        return self.readout(self.block(self.enter(x)))


def spikes_of(shape, seed):
    """Spikes as a block's input, and weights of its outputs in a loss."""
    return jax.random.bernoulli(jax.random.key(seed), 0.4, shape).astype(float)


def weighed(shape):
    """Σ w o, here and there."""
    weights = np.random.default_rng(1).normal(size=shape)
    there = torch.tensor(originals.channels_first(weights))
    return SequenceLoss(lambda outputs: jnp.vdot(weights, outputs)), lambda outputs: (there * outputs).sum()


@pytest.fixture
def basic_block(monkeypatch):
    """SpikingJelly's module, which imports what downloads weights from a library that may be missing or broken."""
    jelly()
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in ("torchvision", "torchvision.models", "torchvision.models.utils"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torchvision.models.utils"].load_state_dict_from_url = None
    return importlib.import_module("spikingjelly.activation_based.model.sew_resnet")


@pytest.mark.parametrize("changes", [False, True], ids=["same size", "halved"])
@pytest.mark.parametrize(("connect", "name"), [(sew_add, "ADD"), (sew_and, "AND"), (sew_iand, "IAND")])
def test_a_spike_element_wise_block(connect, name, changes, basic_block):
    (neuron, layer, surrogate, _), model = jelly(), basic_block
    features, strides = (6, 2) if changes else (4, 1)
    down = torch.nn.Sequential(model.conv1x1(4, 6, 2), layer.BatchNorm2d(6)) if changes else None
    options = {"v_reset": None, "surrogate_function": surrogate.ATan()}
    theirs = model.BasicBlock(4, features, strides, down, cnf=name, spiking_neuron=neuron.IFNode, **options)
    run = watched(theirs, neuron.IFNode)
    layers = Layers(None, None, jnp.float64, nnx.Rngs(0))
    block = SEWBlock(4, features, strides, connect, lambda: IF(surrogate=Arctan()), layers)
    net = in_float64(Read(block))
    parts = [(block.conv1.layer, theirs.conv1, theirs.bn1), (block.conv2.layer, theirs.conv2, theirs.bn2)]
    paths = ["block.neuron1", "block.neuron2"]
    if changes:
        parts.append((block.projection.layers[0].layer, *down))
        paths.append("block.projection.layers.1")
    pairs = [pair for ours, a, b in parts for pair in convolution(ours.layers[0], a) + norm(ours.layers[1], b)]
    size = 6 // strides
    losses = weighed((5, 3, size, size, features))
    originals.compare(net, Original(run, pairs), paths, spikes_of((5, 3, 6, 6, 4), 0), None, *losses, ())


def one_by_one(ours, theirs):
    """Dense layers of tokens, several here, are one convolution of length 1 there."""
    return Pair(tuple(o.kernel for o in ours), theirs.weight, lambda *ks: jnp.concatenate(ks, 1).T[..., None])


def joined(ours, theirs):
    """Normalisations, several here and one there, of half the deviation."""
    weight = Pair(tuple(o.scale for o in ours), theirs.weight, lambda *a: jnp.concatenate(a))
    return [weight, Pair(tuple(o.bias for o in ours), theirs.bias, lambda *a: 2 * jnp.concatenate(a))]


def test_a_block_of_spikformer():
    """Theirs take half of their current, ours a normalisation of half the deviation; what attention gives is not
    normalised, so that their neurons behind it have half the potential, half the threshold and a slope twice as steep.
    """
    neuron, _, surrogate, _ = jelly()
    model = importlib.import_module("spikingjelly.activation_based.model.spikformer")
    theirs = model.SpikformerBlock(16, 2, 2.0, surrogate_function=surrogate.ATan())
    theirs.attn.attn_lif.surrogate_function.alpha = 4.0
    watch = watched(theirs, neuron.LIFNode)

    def run(x):
        outputs, (qkv, attended, *spikes) = watch(x.unflatten(3, (4, 4)))
        return outputs.flatten(3), [*qkv.chunk(3, 2), attended.flatten(2, 3), *spikes]

    halving = functools.partial(BatchNorm, over="time", deviation=0.5)
    layers = Layers(halving, None, jnp.float64, nnx.Rngs(0))
    block = Block(16, 2, 2, lambda: LIF(0.5, surrogate=Arctan(), reset=ResetTo(0.0)), layers)
    one, two = block.perceptron.layers
    places = [
        ((block.queries, block.keys, block.values), theirs.attn.qkv_conv_bn),
        *(((block.projection,), theirs.attn.proj_conv_bn), ((one,), theirs.mlp.fc1), ((two,), theirs.mlp.fc2)),
    ]
    net, pairs = in_float64(Read(block)), []
    for ours, there in places:
        linears, norms = zip(*(o.layers[0].layer.layers for o in ours), strict=True)
        for linear, normalisation in zip(linears, norms, strict=True):
            # Without effect in front of a normalisation; theirs have none.
            linear.bias, linear.use_bias = nnx.data(None), False
            normalisation.scale[...] *= 3.0
            normalisation.bias[...] += 0.4
        pairs += [one_by_one(linears, there[0]), *joined(norms, there[1])]
    paths = [f"block.{name}" for name in ("queries.layers.1", "keys.layers.1", "values.layers.1", "attended")]
    paths += [f"block.{name}.layers.1" for name in ("projection", "perceptron.layers.0", "perceptron.layers.1")]
    shape = (4, 3, 16, 16)
    x, losses = spikes_of(shape, 1), weighed(shape)
    originals.compare(net, Original(run, pairs), paths, x, None, *losses, (), detach_reset=True)
