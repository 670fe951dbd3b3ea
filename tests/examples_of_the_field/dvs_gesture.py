"""The net of Fang et al., ICCV 2021, for the gestures of DVS128, in miniature: `safjax.models.DVSGestureNet`."""

import jax
import jax.numpy as jnp

from safjax.losses import SequenceLoss
from safjax.models import DVSGestureNet
from safjax.nn import PLIF, ResetTo
from safjax.surrogate import Arctan


def plif():
    return PLIF(0.5, 0.3, Arctan(), reset=ResetTo(0.0), decay_input=True)


def Net(rngs):
    return DVSGestureNet(4, channels=4, size=32, neuron=plif, rngs=rngs)


STEPS = None
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def inputs():
    return jax.random.bernoulli(jax.random.key(3), 0.1, (4, 3, 32, 32, 2)).astype(float)


loss = SequenceLoss(lambda outputs, labels: jnp.mean((outputs.mean(0) - jax.nn.one_hot(labels, 4)) ** 2))
