"""Tokens through a Spikformer's attention and perceptron: Zhou et al., ICLR 2023."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, BatchNorm, InstantReadout, Synapse


def neurons(inputs, outputs, rngs):
    norm = BatchNorm(outputs, over="step")
    return nnx.Sequential(Synapse(nnx.Sequential(nnx.Linear(inputs, outputs, rngs=rngs), norm)), LIF())


class Net(nnx.Module):
    def __init__(self, rngs):
        self.embed = neurons(6, 8, rngs)
        self.q, self.k, self.v, self.project = (neurons(8, 8, rngs) for _ in range(4))
        self.attend, self.attended = Synapse(lambda q, k, v: 0.4 * (q @ k.mT) @ v), LIF()
        self.perceptron = nnx.Sequential(neurons(8, 32, rngs), neurons(32, 8, rngs))
        self.head = Synapse(nnx.Sequential(lambda x: x.mean(1), nnx.Linear(8, 4, rngs=rngs)))
        self.readout = InstantReadout()

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.project(self.attended(self.attend(self.q(x), self.k(x), self.v(x))))
        return self.readout(self.head(x + self.perceptron(x)))


STEPS = None
TRAINED_BY = ("bptt", "exodus", "slayer", "sltt", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(1), (5, 3, 16, 6))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
