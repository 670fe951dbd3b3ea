"""Each weight has a delay that is learned: Hammouamri et al., "Learning delays in spiking neural networks using dilated
convolutions with learnable spacings", ICLR 2024. The softmax of the readout's membrane is summed over time."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.losses import SequenceLoss
from safjax.nn import LIF, BatchNorm, DelayedLinear, Dropout, LeakyReadout, ResetTo, Synapse


def delayed(inputs, outputs, rngs):
    kernel = nnx.initializers.normal()
    return DelayedLinear(inputs, outputs, max_delay=6, width=3.0, use_bias=False, kernel_init=kernel, rngs=rngs)


def neurons(features, rngs):
    norm, lif = BatchNorm(features, over="time", momentum=0.9), LIF(0.5, reset=ResetTo(0.0))
    return nnx.Sequential(Synapse(norm), lif, Dropout(0.2, rngs=rngs))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden1 = nnx.Sequential(delayed(12, 16, rngs), neurons(16, rngs))
        self.hidden2 = nnx.Sequential(delayed(16, 16, rngs), neurons(16, rngs))
        self.leave, self.readout = delayed(16, 4, rngs), LeakyReadout(0.9)

    def __call__(self, x):
        return self.readout(self.leave(self.hidden2(self.hidden1(x))))


STEPS = None
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.bernoulli(jax.random.key(5), 0.2, (10, 3, 12)).astype(float)


@SequenceLoss
def loss(outputs, labels):
    return -jnp.mean(jax.nn.log_softmax(jax.nn.softmax(outputs).sum(0))[jnp.arange(3), labels])
