"""Errors of each block alone, by a fixed readout of square waves: Apolinario, Roy & Frenkel, "TESS: a scalable
temporally and spatially local learning rule for spiking neural networks", 2025. Its rule is `stllr(pre_decay=0.5)`, for
frames with `noncausal=1.0`, for events with `noncausal=0.0`."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import LIF, InstantReadout, Synapse, WSConv, detach, fixed, sinusoidal
from safjax.ops import avg_pool, global_avg_pool
from safjax.surrogate import Surrogate


class Dampened(Surrogate):
    def slope(self, x):
        return 0.3 * jnp.maximum(0, 1 - jnp.abs(x))


def standardised(*size, rngs, **options):
    conv = WSConv(*size, rngs=rngs, **options)
    conv.gain[...] = 3 * conv.gain[...]
    return conv


def pooled(size, x):
    return avg_pool(x, (size, size)) if size > 1 else x


def flattened(x):
    return x.reshape(len(x), -1)


class Net(nnx.Module):
    def __init__(self, rngs, classes=4, **options):
        self.convs, self.lifs, self.pools, self.local, self.readouts = (nnx.List() for _ in range(5))
        for n_in, n_out, side, pool, kept in ((2, 6, 6, 1, 3), (6, 7, 6, 2, 3), (7, 8, 3, 1, 1)):
            waves = nnx.Linear(n_out * kept**2, classes, use_bias=False, kernel_init=sinusoidal, rngs=rngs, **options)
            shrunk = functools.partial(pooled, side // kept)
            self.convs.append(Synapse(standardised(n_in, n_out, use_bias=False, rngs=rngs, **options)))
            self.lifs.append(LIF(0.5, 0.6, Dampened(), reset=1 / 0.6))  # a spike subtracts 1
            self.pools.append(Synapse(functools.partial(pooled, pool)))
            self.local.append(Synapse(nnx.Sequential(shrunk, flattened, fixed(waves))))
            self.readouts.append(InstantReadout())
        last = nnx.Linear(8, classes, rngs=rngs, **options)
        self.last, self.readout = Synapse(nnx.Sequential(global_avg_pool, last)), InstantReadout()

    def __call__(self, x):
        outputs = []
        for conv, lif, pool, local, readout in zip(
            self.convs, self.lifs, self.pools, self.local, self.readouts, strict=True
        ):
            spikes = lif(conv(detach(x)))
            outputs.append(readout(local(spikes)))
            x = pool(spikes)
        return (*outputs, self.readout(self.last(detach(x))))


STEPS = None
TRAINED_BY = (
    "saf_f", "saf_e", "ottt_a", "ottt_o", "approx_otpe", "bptt", "exodus", "slayer", "sltt", "stllr",
    "spike_representation", "ide", "rate_backprop", "bptt(layerwise=True)", "rate_backprop(layerwise=True)",
)  # fmt: skip


def inputs():
    return jax.random.bernoulli(jax.random.key(6), 0.4, (6, 3, 6, 6, 2)).astype(float)


def loss(outputs, labels):
    return -sum(jnp.mean(jax.nn.log_softmax(o)[jnp.arange(len(labels)), labels]) for o in outputs)
