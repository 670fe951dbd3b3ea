"""snnTorch's convolutional net of tutorial 6: currents are pooled by their maximum before the neurons, `Leaky(beta=0.5,
spike_grad=fast_sigmoid(slope=25))`, whose slope is written here as a surrogate of one's own."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, Synapse
from safjax.ops import max_pool
from safjax.surrogate import Surrogate


class FastSigmoid(Surrogate):
    def slope(self, x):
        return 1 / (1 + 25 * jnp.abs(x)) ** 2


def leaky():
    return LIF(0.5, surrogate=FastSigmoid(), reset=1 / 0.5)


def convolution(inputs, outputs, deviation, rngs):
    kernel = nnx.initializers.normal(deviation)
    conv = nnx.Conv(inputs, outputs, (5, 5), padding="VALID", kernel_init=kernel, rngs=rngs)
    return Synapse(nnx.Sequential(conv, lambda x: max_pool(x, (2, 2))))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.conv2 = convolution(1, 6, 0.15, rngs), convolution(6, 8, 0.09, rngs)
        dense = nnx.Linear(2 * 2 * 8, 4, kernel_init=nnx.initializers.normal(0.6), rngs=rngs)
        self.fc = Synapse(nnx.Sequential(lambda x: x.reshape(len(x), -1), dense))
        self.lif1, self.lif2, self.lif3, self.spikes = leaky(), leaky(), leaky(), InstantReadout()

    def __call__(self, x):
        return self.spikes(self.lif3(self.fc(self.lif2(self.conv2(self.lif1(self.conv1(x)))))))


STEPS = 5
TRAINED_BY = ("bptt", "exodus", "slayer", "sltt", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(1), (3, 20, 20, 1))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
