"""What the tests of layers before the spiking part share: images, sequences, and how a net meets a rule."""

import jax
import jax.numpy as jnp
import numpy as np

import safjax
from safjax.nn import BatchNorm
from safjax.rules import Course
from tests import nets
from tests.tables import BROAD

RULES = {name: make() for name, make in BROAD.items()}
STILL = Course(decay=0.5, steps=nets.STEPS, batch=nets.BATCH, static=True)
FOLLOWING = [name for name, rule in RULES.items() if rule.propagation.follows(STILL)]
SUMMING = [name for name, rule in RULES.items() if rule.propagation.accumulates]


def vectors(seed=0):
    """One image."""
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1.2, (nets.BATCH, 7)))


def repeated(x):
    """The sequence that shows it at every step."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (nets.STEPS, *a.shape)), x)


def gradients(net, rule, x, steps=None, loss=nets.loss):
    (value, aux), grads = nets.value_and_grad(loss, rule, steps)(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    return value, grads


def bound(make, rule, x, steps=None):
    """As when it is called, but nothing is compiled."""
    return jax.eval_shape(lambda: safjax.value_and_grad(nets.loss, rule, steps)(make(), x, nets.labels()))


def normalisation(**options):
    norm = BatchNorm(7, over="step", param_dtype=nets.DTYPE, **options)
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(nets.DTYPE))
    return norm
