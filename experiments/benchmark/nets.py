"""safjax's networks of the benchmark that are no published models."""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.benchmark.work import HEADS, RECURRENT_WEIGHT, Work
from safjax.models import SpikingRNN
from safjax.models.spikformer import Block, tokens
from safjax.models.stages import Layers
from safjax.nn import LIF, BatchNorm, InstantReadout, LeakyReadout, Synapse
from safjax.ops import avg_pool, global_avg_pool, max_pool

# Twice the weights of unit gain, since spikes have a quarter of a normal current's power or less.
GAIN = nnx.initializers.variance_scaling(4.0, "fan_in", "normal")


class ConvNet(nnx.Module):
    """Plain 3×3 convolutions a-b-pool-c-pool, then a dense layer on the mean over space."""

    def __init__(self, sizes: tuple[int, ...], classes: int, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), kernel_init=GAIN)
        image, one, two, three = sizes
        self.features = nnx.Sequential(
            Synapse(conv(image, one, rngs=rngs)),
            LIF(),
            Synapse(conv(one, two, rngs=rngs)),
            LIF(),
            Synapse(nnx.Sequential(_halve, conv(two, three, rngs=rngs))),
            LIF(),
        )
        self.classifier = Synapse(nnx.Sequential(_halve, global_avg_pool, nnx.Linear(three, classes, rngs=rngs)))
        self.readout = LeakyReadout()

    def __call__(self, x: jax.Array) -> jax.Array:
        """One step: x[B, H, W, C] ↦ logits[B, classes]."""
        return self.readout(self.classifier(self.features(x)))


def pooled(work: Work, rngs: nnx.Rngs) -> nnx.Module:
    """5×5 convolutions with max pooling in front of their neurons, then a dense layer."""
    layers: list[nnx.Module] = []
    for inputs, features in itertools.pairwise(work.sizes):
        conv = nnx.Conv(inputs, features, (5, 5), padding="VALID", rngs=rngs)
        layers += [Synapse(nnx.Sequential(conv, _largest)), LIF(work.decay)]
    dense = nnx.Sequential(_flat, nnx.Linear(work.flat, work.classes, rngs=rngs))
    return nnx.Sequential(*layers, Synapse(dense), InstantReadout())


def gesture(work: Work, over: str, rngs: nnx.Rngs) -> nnx.Module:
    """3×3 convolutions, normalised over the batch, with max pooling behind their neurons, then a dense layer."""
    layers: list[nnx.Module] = []
    for place, (inputs, features) in enumerate(itertools.pairwise(work.sizes)):
        conv = nnx.Conv(inputs, features, (3, 3), use_bias=False, rngs=rngs)
        parts = [conv, BatchNorm(features, over=over)]
        layers += [Synapse(nnx.Sequential(*([_largest] if place else []), *parts)), LIF(work.decay)]
    dense = nnx.Sequential(_largest, _flat, nnx.Linear(work.flat, work.classes, rngs=rngs))
    return nnx.Sequential(*layers, Synapse(dense), InstantReadout())


def recurrent(work: Work, rngs: nnx.Rngs) -> nnx.Module:
    """A layer of LIF neurons that also receive their own spikes of the step before, then a dense layer."""
    scale = RECURRENT_WEIGHT * work.sizes[0] ** 0.5  # of weights of this standard deviation

    def neuron(n: int) -> LIF:
        return LIF(work.decay)

    return SpikingRNN(work.sizes, neuron=neuron, scale=scale, readout=InstantReadout(), rngs=rngs)


def spikformer(work: Work, over: str, rngs: nnx.Rngs) -> nnx.Module:
    """One block of `safjax.models.Spikformer`, then a dense layer on the mean over tokens."""
    [features] = work.sizes
    layers = Layers(functools.partial(BatchNorm, over=over), None, jnp.float32, rngs)
    block = Block(features, HEADS, 4, functools.partial(LIF, work.decay), layers)
    dense = nnx.Sequential(_mean_of_tokens, nnx.Linear(features, work.classes, rngs=rngs))
    return nnx.Sequential(Synapse(tokens), block, Synapse(dense), InstantReadout())


def _halve(x: jax.Array) -> jax.Array:
    return avg_pool(x, (2, 2))


def _largest(x: jax.Array) -> jax.Array:
    return max_pool(x, (2, 2))


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def _mean_of_tokens(x: jax.Array) -> jax.Array:
    return x.mean(1)
