"""A recurrent net of plain and of adaptive neurons: Bellec et al., "Long short-term memory and learning-to-learn in
networks of spiking neurons", NeurIPS 2018."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import ALIF, LIF, Delay, LeakyReadout, Synapse, concatenate


class Net(nnx.Module):
    def __init__(self, rngs):
        strong = nnx.initializers.normal(0.5)
        self.enter = Synapse(nnx.Linear(10, 24, kernel_init=strong, rngs=rngs))
        self.back = Synapse(nnx.Linear(24, 24, kernel_init=strong, rngs=rngs))
        self.plain, self.adaptive, self.delay = LIF(0.9), ALIF(0.9), Delay()
        self.first, self.others = Synapse(lambda x: x[:, :12]), Synapse(lambda x: x[:, 12:])
        self.answer, self.readout = Synapse(nnx.Linear(24, 4, rngs=rngs)), LeakyReadout(0.9)

    def __call__(self, x):
        currents = self.enter(x) + self.back(self.delay.recall())
        spikes = concatenate(self.plain(self.first(currents)), self.adaptive(self.others(currents)))
        self.delay.keep(spikes)
        return self.readout(self.answer(spikes))


STEPS = None
TRAINED_BY = ("bptt", "sltt", "stllr")


def inputs():
    return jax.random.bernoulli(jax.random.key(3), 0.3, (20, 3, 10)).astype(float)


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
