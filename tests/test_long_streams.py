"""A stream of a million steps in float32 stays right: spikes and outputs against a float64 reference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.gains import Gain
from safjax.nn import IF, LIF, LeakyReadout, Synapse
from safjax.state import is_gain

KINDS = {"spikes": rules.sltt(), "traces": rules.ottt_a(), "rates": rules.saf_e()}
BATCH, FEATURES, OUTPUTS = 2, 4, 3
LENGTHS = [pytest.param(40_000, id="fast"), pytest.param(1_000_000, id="million", marks=pytest.mark.slow)]


def net_of(decay):
    last = nnx.Linear(FEATURES, OUTPUTS, rngs=nnx.Rngs(0))
    neurons = LIF(decay) if decay < 1 else IF()
    return nnx.Sequential(neurons, Synapse(last), LeakyReadout())


def currents(key, steps, decay):
    """Random ones that make neurons fire in a part of the steps, as many with leak as without."""
    low, high = (0.0, 0.6) if decay < 1 else (0.0, 0.8)
    return jax.random.uniform(key, (steps, BATCH, FEATURES), jnp.float32, low, high)


@functools.partial(jax.jit, static_argnums=3)
def reference(carry, x, weights, decay):
    """The equations of the net, with the readout as a plain weighted sum over a plain weighted count."""
    kernel, bias = weights

    def body(carry, x):
        membrane, total, gain = carry
        potential = decay * membrane + x
        spikes = (potential >= 1).astype(x.dtype)
        total, gain = decay * total + spikes @ kernel + bias, decay * gain + 1
        return (potential - spikes, total, gain), (spikes, total / gain)

    return jax.lax.scan(body, carry, x)


def ran(decay, rule, steps, chunk=20_000):
    """Of each chunk: firing rate and last outputs of the stream, and of the reference; and how many spikes differ."""
    net = net_of(decay)
    layer = net.layers[1].layer
    state, results = safjax.start(net, jnp.zeros((1, BATCH, FEATURES)), rule), []
    with jax.enable_x64(True):
        weights = tuple(jnp.asarray(np.asarray(w[...]), jnp.float64) for w in (layer.kernel, layer.bias))
        carry = jnp.zeros((BATCH, FEATURES)), jnp.zeros((BATCH, OUTPUTS)), jnp.zeros(())
    for number in range(steps // chunk):
        x = currents(jax.random.key(number), chunk, decay)
        run = safjax.simulate(net, x, state=state)
        state, spikes = run.state, np.asarray(run.spikes["layers.0"])
        with jax.enable_x64(True):
            carry, (exact, outputs) = reference(carry, jnp.asarray(np.asarray(x), jnp.float64), weights, decay)
        differ = float(np.mean(spikes != np.asarray(exact)))
        results.append((spikes.mean((0, 1)), np.asarray(exact).mean((0, 1)), run.outputs[-1], outputs[-1], differ))
    return [np.stack([np.asarray(part) for part in parts]) for parts in zip(*results, strict=True)]


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize(
    "decay, kind", [(0.9, "spikes"), (0.9, "traces"), (0.9, "rates"), (1.0, "spikes"), (1.0, "traces")]
)
def test_a_long_stream_is_what_the_equations_say(decay, kind, steps):
    """At its end as at its beginning. A spike at the threshold itself may come a step early or late."""
    rates, expected, outputs, expected_outputs, differ = ran(decay, KINDS[kind], steps)
    assert expected.min() > 0.1 and expected.max() < 0.6
    np.testing.assert_allclose(rates, expected, rtol=3e-4)
    np.testing.assert_allclose(outputs[-1], expected_outputs[-1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-6, atol=1e-6)
    assert differ.max() < 3e-3
    drift = abs(rates.sum(0) - expected.sum(0)).max() * steps / len(rates)
    assert drift < 3, "of all spikes of a neuron, hardly one too many or too few"


def aged(state, steps):
    """A state of members that have all run for so many steps already."""

    def older(part):
        if not is_gain(part):
            return part
        return Gain(jnp.full_like(part.value, steps), part.apart)

    return dataclasses.replace(state, variables=jax.tree.map(older, state.variables, is_leaf=is_gain))


@pytest.mark.parametrize("kind, longest", [("rates", 174_762), ("traces", 2**23)])
def test_sums_without_leak_are_refused_before_they_are_wrong(kind, longest):
    """By words where a value can be looked at: by training, inference and streams."""
    net, rule, x = net_of(1.0), KINDS[kind], jnp.full((2, BATCH, FEATURES), 0.3)
    step = safjax.train_step(lambda output: output.mean(), rule, optax.sgd(1e-3))
    state = aged(safjax.start(net, x, rule), longest - 2)
    words = rf"is ({longest - 1}|{longest}) steps long.*decay 1.*float32 is exact up to {longest} steps.*safjax.reset"
    last = safjax.predict(net, x, state=state)
    assert jnp.isfinite(last).all(), "up to there it is right"
    late = aged(state, longest - 1)
    for call in (
        lambda: safjax.predict(net, x, state=late),
        lambda: step(net, step.init(net), x, state=late),
        lambda: safjax.stream(net)(aged(state, longest), x[0]),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("kind, longest", [("rates", 174_762), ("traces", 2**23)])
def test_inside_a_compiled_loop_they_are_not_a_number(kind, longest):
    """Those of members that have run for too long; of one that has begun anew in time they are right."""
    net, rule, x = net_of(1.0), KINDS[kind], currents(jax.random.key(0), 6, 1.0)
    compute = safjax.value_and_grad(lambda output: jnp.mean(output**2), rule, mean_over=1, outputs="all")
    state = safjax.reset(aged(safjax.start(net, x, rule), longest - 3), jnp.zeros(BATCH, bool))
    state = safjax.reset(state, jnp.arange(BATCH) == 1)

    def body(state, x):
        (_, aux), grads = compute(net, x[None], state=state)
        return aux.state, (aux.outputs[0], grads)

    _, (outputs, grads) = jax.jit(lambda *a: jax.lax.scan(body, *a))(state, x)
    kernel = grads["layers"][1]["layer"]["kernel"][...]
    assert jnp.isfinite(kernel[:3]).all() and jnp.isnan(kernel[3:]).any((1, 2)).all()
    np.testing.assert_allclose(outputs[:, 1], safjax.predict(net, x[:, 1:])[:, 0], rtol=1e-5)
