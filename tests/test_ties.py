"""Potentials that meet the threshold exactly: every rule fires the spikes of a loop in float64, in float32 too.

Events straight into a neuron, pooled spikes and weights that are sums of powers of two do this all the time. Of generic
inputs a potential may lie within rounding of the threshold; such flips are counted.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LIF, InstantReadout, LeakyReadout, Synapse
from tests.nets import assert_fires
from tests.tables import BROAD, families, some_slow

STEPS, BATCH, UNITS = 200, 4, 48
DECAYS = (0.5, 0.75, 0.9, 0.97, 1.0)
ALL = {**{name: make() for name, make in BROAD.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}


def fired(currents, decay, dtype=np.float64):
    """The spikes of LIF neurons of threshold 1 on I[T, ...], a plain loop."""
    membrane, spikes, decay = np.zeros(currents.shape[1:], dtype), [], dtype(decay)
    for current in np.asarray(currents, dtype):
        potential = decay * membrane + current
        spikes.append((potential >= 1).astype(dtype))
        membrane = potential - spikes[-1]
    return np.stack(spikes)


def pooled(x):
    return x.reshape(*x.shape[:-1], -1, 2).mean(-1)


def matrix(parts, units=UNITS, seed=0):
    """Weights that are whole numbers of so many parts."""
    return np.random.default_rng(seed).integers(-parts // 2, parts // 2 + 1, (units, units)) / parts


def generic():
    return np.random.default_rng(1).normal(0, 0.3, (UNITS, UNITS)).astype(np.float32).astype(np.float64)


def dense(weight, dtype):
    linear = nnx.Linear(*weight.shape, use_bias=False, dtype=dtype, rngs=nnx.Rngs(0))
    linear.kernel[...] = jnp.asarray(weight, jnp.float32)
    return linear


class Watched(nnx.Module):
    """Neurons behind a synapse, then neurons behind pooling; the outputs are both their spikes."""

    def __init__(self, decay, weight, dtype=None):
        self.synapse = None if weight is None else Synapse(dense(weight, dtype))
        self.one, self.pool, self.two = LIF(decay), Synapse(pooled), LIF(decay)
        self.readouts = nnx.List([InstantReadout(), InstantReadout()])

    def __call__(self, x):
        one = self.one(x if self.synapse is None else self.synapse(x))
        two = self.two(self.pool(one))
        return self.readouts[0](one), self.readouts[1](two)


def spikes_under(rule, net, x, steps=None):
    """The spikes of both layers under a rule, from the rates of what its readouts read."""
    loss = lambda output: sum(jnp.mean(o) for o in output)  # noqa: E731
    (_, aux), _ = safjax.value_and_grad(loss, rule, steps, outputs="all")(net, x)
    assert_fires(aux.rates, 0.04, 0.9)
    return [np.asarray(o, np.float64) for o in aux.outputs]


def events():
    return np.random.default_rng(0).integers(0, 2, (STEPS, BATCH, UNITS))


WEIGHTS = {"events": None, "quarters": matrix(4), "generic": generic()}


def check(layers, currents, decay, margin):
    """Few spikes are wrong: twice as many as those of the same loop in float32, and a margin."""
    for layer in layers:
        expected = fired(currents, decay)
        flips = np.sum(expected != fired(currents, decay, np.float32))
        wrong = np.sum(np.abs(layer - expected) > 0.1)
        assert wrong <= 2 * flips + margin, f"{wrong} of {expected.size} spikes, {flips} in float32"
        currents = pooled(expected)


ONE_OF_EACH_KIND = ["bptt", "ottt_a", "saf_e", "exodus"]
QUICK = families(ALL)
"""Spikes hang on how they travel: rules of one propagation fire the same. Of each family one is tried every time."""


@pytest.mark.parametrize(
    "name, decay",
    some_slow(
        [(name, decay) for name in ALL for decay in DECAYS],
        lambda name, decay: name in ONE_OF_EACH_KIND or (name in QUICK and decay == 0.9),
    ),
)
def test_on_events_no_spike_is_missed(name, decay):
    check(spikes_under(ALL[name], Watched(decay, None), jnp.asarray(events())), events(), decay, 0)


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_spikes_are_those_of_a_loop_in_float64(name, decay):
    for weight in (matrix(4), generic()):
        layers = spikes_under(ALL[name], Watched(decay, weight), jnp.asarray(events()))
        check(layers, events() @ weight, decay, 8)


@pytest.mark.parametrize("decay", [0.75, 0.97])
@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_spikes_on_a_static_image(name, decay):
    """Odd sixteenths: of a pixel of 1 − λ the potential comes to the threshold as close as one likes, not to it."""
    image = np.random.default_rng(2).integers(0, 9, (BATCH, UNITS)) / 8 + 1 / 16
    layers = spikes_under(ALL[name], Watched(decay, None), jnp.asarray(image, jnp.float32), STEPS)
    check(layers, np.stack([image] * STEPS), decay, 8)


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_on_events_no_spike_is_missed_behind_bfloat16(name, decay):
    """Where sums over time are rounded too coarsely, they are refused."""
    net, x = Watched(decay, np.eye(UNITS), jnp.bfloat16), jnp.asarray(events())
    if name == "saf_e" and decay == 1:
        with pytest.raises(ValueError, match=r"LIF at 'one': the rule 'saf_e' .*bfloat16.*0.78 thresholds; let the"):
            spikes_under(ALL[name], net, x)
        return
    check(spikes_under(ALL[name], net, x), events(), decay, 0)


def test_the_margin_scales_with_the_threshold():
    """Events of 1/64 against a threshold of 1/64."""
    net = nnx.Sequential(LIF(0.9, threshold=1 / 64), LeakyReadout())
    x = 1 / 64 * jnp.asarray(events(), jnp.float32)
    rates = [
        safjax.value_and_grad(lambda o: jnp.mean(o), rule, outputs="all")(net, x)[0][1].rates["layers.0"]
        for rule in (rules.saf_f(), rules.bptt())
    ]
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)


def test_sums_that_outgrow_float32_are_refused():
    net = nnx.Sequential(IF(), LeakyReadout())
    with pytest.raises(ValueError, match=r"IF at 'layers.0'.*300000 steps.*float32.*thresholds; take a smaller decay"):
        jax.eval_shape(
            lambda x: safjax.value_and_grad(jnp.mean, rules.saf_f(), 300_000, outputs="all")(net, x)[0],
            jnp.ones((1, 1)),
        )
