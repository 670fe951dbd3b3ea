"""Sums, differences and multiples of messages have the values and gradients that plain spikes would have."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


class Streams(nnx.Module):
    """Two streams of currents and two of spikes, combined in every way that messages allow."""

    def __init__(self):
        rngs = nnx.Rngs(7)
        self.a, self.b = (Synapse(nets._dense(7, 9, rngs)) for _ in range(2))
        self.one, self.two, self.three = LIF(), LIF(), LIF()
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        a, b = self.a(x), self.b(x)
        one, two = self.one((3 * a - b / 4 + -b) * 0.7), self.two(b - a / 2)
        three = self.three(2 * one - 0.5 * two + a)
        return self.readout(self.last(one + two / 2 - three))


@pytest.mark.parametrize("names", [("saf_e", "ottt_o"), ("exodus", "bptt")], ids=" is ".join)
def test_arithmetic_between_layers(names):
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.STEPS, nets.BATCH, 7)))
    plain, grads = safjax.predict(Streams(), x), []
    for name in names:
        (_, aux), gradient = safjax.value_and_grad(nets.loss, rules.RULES[name](), outputs="all")(
            Streams(), x, nets.labels()
        )
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(aux.outputs, plain, rtol=1e-11, atol=1e-12)
        grads.append(gradient)
    nets.assert_trees_close(*grads, rtol=1e-12)


class Differences(nnx.Module):
    """y[t] = y[t−1] − x[t] and z[t] = x[t] − z[t−1]: what comes back stands on either side of a difference."""

    def __init__(self):
        self.y, self.z, self.readout = Delay(), Delay(), LeakyReadout(0.0)
        self.other = LeakyReadout(0.0)

    def __call__(self, x):
        y, z = self.y.recall() - self.y.message(x), self.z.message(x) - self.z.recall()
        self.y.keep(y)
        self.z.keep(z)
        return self.readout(y), self.other(z)


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_e"])
def test_differences_with_what_comes_back(name):
    x, z = np.arange(1.0, 9.0).reshape(4, 2, 1) ** 2, [np.zeros((2, 1))]
    for now in x:
        z.append(now - z[-1])
    loss = lambda output: jnp.sum(output[0])  # noqa: E731
    (_, aux), _ = safjax.value_and_grad(loss, rules.RULES[name](), outputs="all")(Differences(), jnp.asarray(x))
    np.testing.assert_array_equal(aux.outputs[0], -np.cumsum(x, 0))
    np.testing.assert_array_equal(aux.outputs[1], z[1:])
