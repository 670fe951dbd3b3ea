"""A spiking U-Net with a map for an answer: the encoder's spikes are put beside the decoder's."""

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, LeakyReadout, Synapse, WSConv, concatenate
from safjax.ops import avg_pool


class Net(nnx.Module):
    def __init__(self, rngs):
        self.enter, self.encoded = Synapse(WSConv(2, 6, rngs=rngs)), LIF()
        self.down = Synapse(nnx.Sequential(lambda x: 2.74 * avg_pool(x, (2, 2)), WSConv(6, 12, rngs=rngs)))
        self.inner, self.up = LIF(), Synapse(lambda x: x.repeat(2, 1).repeat(2, 2))
        self.merge, self.decoded = Synapse(nnx.Sequential(lambda x: 2.74 * x, WSConv(18, 6, rngs=rngs))), LIF()
        self.answer, self.readout = Synapse(nnx.Conv(6, 1, (1, 1), rngs=rngs)), LeakyReadout()

    def __call__(self, x):
        encoded = self.encoded(self.enter(x))
        inner = self.inner(self.down(encoded))
        return self.readout(self.answer(self.decoded(self.merge(concatenate(encoded, self.up(inner))))))


STEPS = 4
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "exodus", "slayer", "sltt", "stllr",
    "spike_representation", "ide", "rate_backprop", "bptt(layerwise=True)", "rate_backprop(layerwise=True)",
)  # fmt: skip


def inputs():
    return jax.random.normal(jax.random.key(2), (3, 8, 8, 2))


def loss(output, labels):
    return jnp.mean((output - 0.1 * labels[:, None, None, None]) ** 2)
