"""Thresholds: learned ones, spikes of their height (DSR), several spikes a step; and constants out of range."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.neurons import AdaptiveCell, CurrentCell, LIFCell
from safjax.nn import ALIF, IF, LIF, PLIF, PSN, SPSN, CurrentLIF, LeakyReadout, SlidingPSN, Synapse
from safjax.surrogate import Sigmoid, Triangle
from tests import nets
from tests.neuron_kinds import param

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("decay", [0.7, 1.0])
def test_dsr(decay):
    """Spike representation with trained thresholds, spikes of height V and firing at α V: the gradient of the net
    r_out = clamp(f(r_in), 0, V) at the simulation's own rates, dr/df = 1[0 < f < V], dr/dV = 1[f ≥ V]."""
    alpha, heights = 0.5, (1.1, np.linspace(0.4, 0.9, 8))

    class DSR(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(2)
            self.first, self.second = Synapse(nets._dense(7, 9, rngs)), Synapse(nets._dense(9, 8, rngs))
            self.lif1, self.lif2 = (
                LIF(decay, param(alpha * h), reset=1 / alpha, scaled=True) for h in (jnp.asarray(h) for h in heights)
            )
            self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout()

        def __call__(self, x):
            return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))

    net, x, steps = DSR(), jnp.asarray(np.random.default_rng(4).normal(0.1, 0.6, (nets.BATCH, 7))), 8
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.spike_representation(), steps)(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    spikes = safjax.simulate(net, x, steps).spikes
    powers = decay ** jnp.arange(steps - 1, -1, -1)
    graphdef, params = nnx.split(net)

    def objective(params):
        net = nnx.merge(graphdef, params)

        def layer(v, lif, path):
            height = lif.threshold[...] / alpha
            value = jax.lax.stop_gradient(height * jnp.tensordot(powers, spikes[path], 1) / powers.sum())
            clamp = jnp.where(v > 0, jnp.where(v < height, v, height), 0)
            return value + clamp - jax.lax.stop_gradient(clamp)

        one = layer(net.first.layer(x), net.lif1, "lif1")
        two = layer(net.second.layer(one), net.lif2, "lif2")
        return nets.loss(net.last.layer(two), nets.labels())

    nets.assert_trees_close(grads, nnx.as_pure(jax.grad(objective)(params)), rtol=1e-12)
    saturated = [(v >= h).mean() for v, h in [(net.first.layer(x), heights[0])]]
    assert 0 < saturated[0] < 0.9


def test_a_learned_threshold_has_a_smallest_value():
    """Driven below zero it acts as 0.001, so that a layer cannot fire at rest by a negative threshold."""
    net = nnx.Sequential(LIF(0.5, param(1.0)), LeakyReadout())
    net.layers[0].threshold[...] = jnp.asarray(-3.0)
    assert float(net.layers[0].cell().threshold) == 1e-3
    assert safjax.simulate(net, jnp.zeros((2, 3)), 4).spikes["layers.0"].sum() == 0


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: PLIF(1.0), r"PLIF\(decay=1.0\).*between 0 and 1"),
        (lambda: LIF(reset=0), r"LIF\(reset=0\).*positive"),
        (lambda: LIF(floor=0.5), r"LIF\(floor=0.5\).*≤ 0"),
        (lambda: LIF(max_spikes=0), r"LIF\(max_spikes=0\).*≥ 1"),
        (lambda: CurrentLIF(1.5), r"CurrentLIF\(synaptic_decay=1.5\).*\[0, 1\]"),
        (lambda: ALIF(strength=-1), r"ALIF\(strength=-1\).*positive"),
        (lambda: PSN(0, rngs=nnx.Rngs(0)), r"PSN\(steps=0\).*≥ 1"),
        (lambda: SlidingPSN(0), r"SlidingPSN\(order=0\).*≥ 1"),
        (lambda: SPSN(2.0, rngs=nnx.Rngs(0)), r"SPSN\(synaptic_decay=2.0\)"),
    ],
)
def test_bad_constants(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_modules_hand_their_constants_on():
    lif = {"reset": 0.9, "floor": -0.5, "max_spikes": 2, "scaled": True}
    expected = LIFCell(1.0, 1.2, Triangle(), **lif)
    assert IF(1.2, Triangle(), **lif).cell() == expected
    assert LIF(1.0, 1.2, Triangle(), **lif).cell() == expected
    assert CurrentLIF(0.4, 1.0, 1.2, Triangle(), **lif).cell() == CurrentCell(expected, 0.4)
    plif = PLIF(0.75, 1.2, Triangle(), param_dtype=jnp.float64, **lif).cell()
    np.testing.assert_allclose(plif.decay, 0.75, rtol=1e-12)
    assert dataclasses.replace(plif, decay=1.0) == expected


def test_constants_by_default():
    assert LIF().cell() == LIFCell(0.5, 1.0, Sigmoid(4.0))
    assert float(PLIF().cell().decay) == 0.5
    assert IF().cell() == LIFCell(1.0, 1.0, Sigmoid(4.0))
    assert CurrentLIF().cell() == CurrentCell(LIF().cell(), 0.5)
    assert ALIF().cell() == AdaptiveCell(0.5, 1.0, 0.9, 0.1, Sigmoid(4.0))
