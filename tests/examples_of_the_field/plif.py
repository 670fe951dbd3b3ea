"""The net for MNIST of Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking
neural networks", ICCV 2021: each layer of neurons learns its decay, and ten neurons vote for each class."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.losses import SequenceLoss
from safjax.nn import PLIF, BatchNorm, Dropout, InstantReadout, ResetTo, Synapse
from safjax.ops import max_pool
from safjax.surrogate import Arctan


def plif():
    return PLIF(1 - 1 / 2.0, surrogate=Arctan(), reset=ResetTo(0.0), decay_input=True)


class Net(nnx.Module):
    def __init__(self, rngs):
        conv1, conv2 = (nnx.Conv(n, 6, (3, 3), use_bias=False, rngs=rngs) for n in (1, 6))
        norm1, norm2 = (BatchNorm(6, over="time", momentum=0.9, deviation=2.0) for _ in range(2))
        fc1, fc2 = (nnx.Linear(*n, kernel_init=nnx.initializers.normal(0.6), rngs=rngs) for n in ((24, 32), (32, 40)))
        pool = lambda x: max_pool(x, (2, 2))  # noqa: E731
        self.conv1, self.conv2 = (Synapse(nnx.Sequential(conv1, norm1)), Synapse(nnx.Sequential(pool, conv2, norm2)))
        self.flat, self.fc1, self.fc2 = Synapse(lambda x: pool(x).reshape(len(x), -1)), Synapse(fc1), Synapse(fc2)
        self.plif1, self.plif2, self.plif3, self.plif4 = plif(), plif(), plif(), plif()
        self.drop1, self.drop2 = Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs)
        self.vote, self.votes = Synapse(lambda x: x.reshape(len(x), 4, 10).mean(-1)), InstantReadout()

    def __call__(self, x):
        x = self.flat(self.plif2(self.conv2(self.plif1(self.conv1(x)))))
        x = self.plif3(self.fc1(self.drop1(x)))
        return self.votes(self.vote(self.plif4(self.fc2(self.drop2(x)))))


STEPS = 4
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.normal(jax.random.key(2), (3, 8, 8, 1))


loss = SequenceLoss(lambda outputs, labels: jnp.mean((outputs.mean(0) - jax.nn.one_hot(labels, 4)) ** 2))
