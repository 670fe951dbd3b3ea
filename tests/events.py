"""Synthetic sparse events, as an event camera gives them, and a deep net for them without normalisation."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.ops import avg_pool

CHANNELS = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")


def events(steps=6, batch=8, size=16, seed=0):
    """(x[T, B, size, size, 2], labels[B]): a spot that moves to the right or down, with noise; 2 % of pixels fire."""
    rng = np.random.default_rng(seed)
    labels, at = np.arange(batch) % 2, rng.uniform(0, size, (batch, 2))
    row, column = np.mgrid[:size, :size]
    x = np.zeros((steps, batch, size, size, 2), np.float32)
    for t in range(steps):
        for b in range(batch):
            centre = (at[b] + 1.5 * t * np.array([labels[b] == 1, labels[b] == 0])) % size
            away = [
                np.minimum(abs(axis - c), size - abs(axis - c)) for axis, c in zip((row, column), centre, strict=True)
            ]
            p = 0.5 * np.exp(-(away[0] ** 2 + away[1] ** 2) / 3) + 0.005
            x[t, b] = rng.random((size, size, 2)) < p[..., None]
    return jnp.asarray(x), jnp.asarray(labels)


def halved(x):
    return avg_pool(x, (2, 2))


def flat(x):
    return x.reshape(len(x), -1)


def vgg(width=1 / 16, decay=0.5, **options):
    """Eight 3×3 convolutions of stock weights, four poolings, for 16×16 pixels."""
    rngs, layers, features, before = nnx.Rngs(0), [], 2, []
    for channels in CHANNELS:
        if channels == "P":
            before = [halved]
            continue
        own = int(width * channels)
        convolution = nnx.Conv(features, own, (3, 3), rngs=rngs, **options)
        layers += [Synapse(nnx.Sequential(*before, convolution)), LIF(decay)]
        features, before = own, []
    layers += [Synapse(nnx.Sequential(halved, flat, nnx.Linear(features, 2, rngs=rngs))), LeakyReadout()]
    return nnx.Sequential(*layers)
