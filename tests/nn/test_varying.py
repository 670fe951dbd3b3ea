"""What a net makes anew at every step enters its spiking part as a sequence, also where its own input is one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


class Swelling(nnx.Module):
    """Counts the steps, and shows its image brighter or darker accordingly."""

    def __init__(self):
        self.count, self.net = nnx.Variable(jnp.zeros((), nets.DTYPE)), nets.Dense()

    def __call__(self, x):
        self.count[...] += 1
        return self.net((1.5 + jnp.cos(self.count[...])) * x)


class Coded(nnx.Module):
    """Codes its image into random spikes."""

    def __init__(self):
        self.rngs, self.net = nnx.Rngs(0), nets.Dense()

    def __call__(self, x):
        return self.net(jax.random.bernoulli(self.rngs.spikes(), x).astype(x.dtype))


def image():
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (nets.BATCH, 7)))


@pytest.mark.parametrize("name", ["ottt_a", "saf_e"])
def test_it_is_the_sequence_made_outside(name):
    rule, brightness = rules.RULES[name](), 1.5 + jnp.cos(jnp.arange(1.0, nets.STEPS + 1))
    compute = safjax.value_and_grad(nets.loss, rule, nets.STEPS)
    (value, aux), grads = compute(Swelling(), image(), nets.labels())
    nets.assert_fires(aux.rates)
    outside = safjax.value_and_grad(nets.loss, rule)
    (expected, _), others = outside(nets.Dense(), brightness[:, None, None] * image(), nets.labels())
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    nets.assert_trees_close(grads["net"], others, rtol=1e-12)


def test_random_spikes_have_traces():
    """Theorem 1 holds for them: were they taken for an image, each rule would be wrong in a way of its own."""
    grads = []
    for rule in (rules.saf_e(), rules.ottt_o()):
        (_, aux), gradient = safjax.value_and_grad(nets.loss, rule, nets.STEPS)(Coded(), image(), nets.labels())
        nets.assert_fires(aux.rates)
        grads.append(gradient)
    nets.assert_trees_close(*grads, rtol=1e-12)


def bound(net, rule, x, steps):
    return jax.eval_shape(lambda: safjax.value_and_grad(nets.loss, rule, steps)(net(), x, nets.labels()))


@pytest.mark.parametrize("rule", [rules.exodus(), rules.bptt(layerwise=True)], ids=lambda rule: rule.name)
def test_layer_by_layer_it_is_refused(rule):
    for net in (Swelling, Coded):
        with pytest.raises(ValueError, match=r"Synapse at 'net.first' is made anew.*x\[T, B, ...\] without steps"):
            bound(net, rule, image(), nets.STEPS)
    sequence = jnp.stack([image()] * nets.STEPS)
    with pytest.raises(ValueError, match="made anew"):
        bound(Swelling, rule, sequence, None)
    bound(Coded, rule, sequence, None)  # Every step draws its own.
