"""A net of two spike-element-wise residual blocks, the second by IAND: Fang et al., NeurIPS 2021."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.models import sew_add, sew_iand
from safjax.nn import IF, BatchNorm, LeakyReadout, Synapse


def convolution(inputs, outputs, rngs):
    conv = nnx.Conv(inputs, outputs, (3, 3), use_bias=False, rngs=rngs)
    return Synapse(nnx.Sequential(conv, BatchNorm(outputs, over="time")))


class Block(nnx.Module):
    def __init__(self, features, connect, rngs):
        self.conv1, self.conv2 = (convolution(features, features, rngs) for _ in range(2))
        self.if1, self.if2, self.connect = IF(), IF(), Synapse(connect)

    def __call__(self, spikes):
        return self.connect(self.if2(self.conv2(self.if1(self.conv1(spikes)))), spikes)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.stem, self.neurons = convolution(2, 8, rngs), IF()
        self.blocks = nnx.Sequential(Block(8, sew_add, rngs), Block(8, sew_iand, rngs))
        self.head = Synapse(nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(8, 4, rngs=rngs)))
        self.readout = LeakyReadout()

    def __call__(self, x):
        return self.readout(self.head(self.blocks(self.neurons(self.stem(x)))))


STEPS = 4
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(0), (3, 8, 8, 2))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
