"""E-prop: a recurrent layer whose errors come from the output by a fixed random matrix. Bellec et al., "A solution to
the learning dilemma for recurrent networks of spiking neurons", 2020. For LIF neurons the published gradient is that of
`ottt_a()`; with adaptive ones, or a leaky readout, `bptt(detach_reset=True)` with spikes that come back detached."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, Recurrent, Synapse, detach, fixed


class Net(nnx.Module):
    def __init__(self, rngs):
        strong, weak = nnx.initializers.normal(0.4), nnx.initializers.normal(0.2)
        self.enter = Synapse(nnx.Linear(10, 24, kernel_init=strong, rngs=rngs))
        self.layer = Recurrent(LIF(0.9), Synapse(nnx.Linear(24, 24, kernel_init=weak, rngs=rngs)))
        self.answer, self.readout = Synapse(nnx.Linear(24, 4, rngs=rngs)), InstantReadout()
        self.back = Synapse(fixed(nnx.Linear(24, 4, use_bias=False, rngs=rngs)))

    def __call__(self, x):
        spikes = self.layer(self.enter(x))
        return self.readout(self.answer(detach(spikes)) + self.back(spikes - detach(spikes)))


STEPS = None
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "sltt", "stllr", "spike_representation", "ide",
    "ostl", "otpe", "eprop",
)  # fmt: skip


def inputs():
    return jax.random.bernoulli(jax.random.key(8), 0.3, (12, 3, 10)).astype(float)


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
