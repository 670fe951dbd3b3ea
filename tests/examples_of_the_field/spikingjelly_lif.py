"""SpikingJelly's net for Fashion-MNIST (`examples/conv_fashion_mnist.py`), of `LIFNode(tau=2.0)`: decayed input, reset
to zero, batch normalisation over time; trained by the squared error of the mean rate."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.losses import SequenceLoss
from safjax.nn import LIF, BatchNorm, InstantReadout, ResetTo, Synapse
from safjax.ops import max_pool
from safjax.surrogate import Arctan


def lif():
    return LIF(1 - 1 / 2.0, surrogate=Arctan(), reset=ResetTo(0.0), decay_input=True)


def dense(inputs, outputs, rngs):
    kernel = nnx.initializers.normal(4 / inputs**0.5)
    return nnx.Linear(inputs, outputs, use_bias=False, kernel_init=kernel, rngs=rngs)


class Net(nnx.Module):
    def __init__(self, rngs):
        conv1, conv2 = (nnx.Conv(n, 6, (3, 3), use_bias=False, rngs=rngs) for n in (1, 6))
        norm1, norm2 = (BatchNorm(6, over="time", momentum=0.9, deviation=2.0) for _ in range(2))
        self.conv1 = Synapse(nnx.Sequential(conv1, norm1))
        self.conv2 = Synapse(nnx.Sequential(lambda x: max_pool(x, (2, 2)), conv2, norm2))
        flat = lambda x: max_pool(x, (2, 2)).reshape(len(x), -1)  # noqa: E731
        self.fc1, self.fc2 = Synapse(nnx.Sequential(flat, dense(24, 16, rngs))), Synapse(dense(16, 4, rngs))
        self.lif1, self.lif2, self.lif3, self.lif4, self.spikes = lif(), lif(), lif(), lif(), InstantReadout()

    def __call__(self, x):
        x = self.lif2(self.conv2(self.lif1(self.conv1(x))))
        return self.spikes(self.lif4(self.fc2(self.lif3(self.fc1(x)))))


STEPS = 4
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(2), (3, 8, 8, 1))


loss = SequenceLoss(lambda outputs, labels: jnp.mean((outputs.mean(0) - jax.nn.one_hot(labels, 4)) ** 2))
