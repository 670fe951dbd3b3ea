"""Attention of masks and additions, Q ⊙ N(Σ K ⊙ V): Yao et al., "Spike-driven transformer", NeurIPS 2023."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, LeakyReadout, Synapse


def neurons(inputs, outputs, rngs):
    dense = nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.normal(2 / inputs**0.5), rngs=rngs)
    return nnx.Sequential(Synapse(dense), LIF())


class Net(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.q, self.k, self.v = (neurons(8, 8, rngs) for _ in range(4))
        self.mask, self.channels = Synapse(lambda k, v: (k * v).sum(1, keepdims=True)), LIF()
        self.masked = Synapse(lambda q, channels: q * channels)
        self.head = Synapse(nnx.Sequential(lambda x: x.mean(1), nnx.Linear(8, 4, rngs=rngs)))
        self.readout = LeakyReadout()

    def __call__(self, tokens):
        x = self.embed(tokens)
        channels = self.channels(self.mask(self.k(x), self.v(x)))
        return self.readout(self.head(x + self.masked(self.q(x), channels)))


STEPS = None
TRAINED_BY = ("bptt", "exodus", "slayer", "sltt", "stllr", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(1), (5, 3, 16, 8))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
