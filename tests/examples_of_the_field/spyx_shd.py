"""Spyx's net for spoken digits: dense layers, `LIF` with a decay learned by each neuron, from which a spike subtracts
after it has decayed, the last but one recurrent (`RLIF`), and a leaky integrator."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, AfterDecay, LeakyReadout, Recurrent, Synapse


def dense(inputs, outputs, rngs):
    kernel = nnx.initializers.normal(1.6 / inputs**0.5)
    return Synapse(nnx.Linear(inputs, outputs, use_bias=False, kernel_init=kernel, rngs=rngs))


def lif(features):
    return LIF(nnx.Param(jnp.full(features, 0.8)), reset=AfterDecay())


class Net(nnx.Module):
    def __init__(self, rngs):
        self.enter, self.lif = dense(20, 16, rngs), lif(16)
        self.between, self.rlif = dense(16, 12, rngs), Recurrent(lif(12), dense(12, 12, rngs))
        self.leave, self.readout = dense(12, 4, rngs), LeakyReadout(0.8)

    def __call__(self, x):
        return self.readout(self.leave(self.rlif(self.between(self.lif(self.enter(x))))))


STEPS = None
TRAINED_BY = ("bptt", "ostl")


def inputs():
    return jax.random.bernoulli(jax.random.key(4), 0.2, (8, 3, 20)).astype(float)


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
