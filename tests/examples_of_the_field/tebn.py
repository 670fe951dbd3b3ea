"""Convolutions normalised over time, each step with a learned factor of its own (TEBN): Duan et al., "Temporal
effective batch normalization in spiking neural networks", NeurIPS 2022."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, BatchNorm, InstantReadout, StepWeights, Synapse
from safjax.ops import avg_pool

STEPS = 4


def convolution(inputs, outputs, rngs):
    conv = nnx.Conv(inputs, outputs, (3, 3), use_bias=False, rngs=rngs)
    norm = BatchNorm(outputs, over="time", momentum=0.9)
    return nnx.Sequential(Synapse(nnx.Sequential(conv, norm)), Synapse(StepWeights(STEPS)))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.conv2, self.lif1, self.lif2 = convolution(2, 6, rngs), convolution(6, 8, rngs), LIF(), LIF()
        self.pool = Synapse(lambda x: avg_pool(x, (2, 2)))
        self.fc = Synapse(nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(4 * 4 * 8, 4, rngs=rngs)))
        self.readout = InstantReadout()

    def __call__(self, x):
        return self.readout(self.fc(self.lif2(self.conv2(self.pool(self.lif1(self.conv1(x)))))))


TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(0), (3, 8, 8, 2))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
