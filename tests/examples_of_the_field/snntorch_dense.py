"""snnTorch's dense net of tutorial 5, `Leaky(beta=0.95)` twice, by the cross-entropy of each step's spikes
(`ce_rate_loss`). There what a spike subtracts leaves a step later, undecayed: reset=1 / β."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, Synapse
from safjax.surrogate import Arctan


class Net(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = Synapse(nnx.Linear(12, 20, kernel_init=nnx.initializers.normal(0.25), rngs=rngs))
        self.lif1 = LIF(0.95, surrogate=Arctan(), reset=1 / 0.95)
        self.fc2 = Synapse(nnx.Linear(20, 4, kernel_init=nnx.initializers.normal(0.3), rngs=rngs))
        self.lif2 = LIF(0.95, surrogate=Arctan(), reset=1 / 0.95)
        self.spikes = InstantReadout()

    def __call__(self, x):
        return self.spikes(self.lif2(self.fc2(self.lif1(self.fc1(x)))))


STEPS = 8
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "exodus", "slayer", "sltt", "stllr",
    "spike_representation", "ide", "rate_backprop", "ostl", "otpe", "bptt(layerwise=True)",
    "rate_backprop(layerwise=True)",
)  # fmt: skip


def inputs():
    return jax.random.uniform(jax.random.key(0), (3, 12))


def loss(output, labels):
    return -jnp.mean(jax.nn.log_softmax(output)[jnp.arange(3), labels])
