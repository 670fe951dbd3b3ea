"""Parallel neurons as layers: windows agree with one another, rules agree without a reset, randomness is fresh."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import PSN, LeakyReadout, SlidingPSN, Synapse
from tests import nets
from tests.neuron_kinds import LAYERWISE, MEANS, NEURONS, RULES, STEPS, Net, inputs

pytestmark = pytest.mark.usefixtures("x64")


def test_a_masked_psn_is_the_step_by_step_neuron():
    """The band of a masked PSN with equal rows, layer by layer, is the sliding PSN, step by step: same spikes and
    gradients of everything before and after; and the full PSN sees the future."""
    weight = jnp.asarray([0.3, -0.4, 0.6, 0.9])

    def build(neuron):
        return nnx.Sequential(
            Synapse(nets._dense(7, 9, nnx.Rngs(0))),
            neuron,
            Synapse(nets._dense(9, nets.CLASSES, nnx.Rngs(1))),
            LeakyReadout(0.5),
        )

    masked, sliding = NEURONS["masked PSN"](), NEURONS["SlidingPSN"]()
    toeplitz = sum(jnp.eye(STEPS, k=-lag) * w for lag, w in enumerate(weight[::-1]))
    masked.weight[...], sliding.weight[...] = toeplitz, weight
    masked.bias[...] = jnp.full(STEPS, sliding.bias[...])
    future = jnp.triu(jnp.ones((STEPS, STEPS)), 1)
    masked.weight[...] += 5 * future  # outside the band: without effect
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.exodus(), outputs="all")(
        build(masked), inputs(), nets.labels()
    )
    nets.assert_fires(aux.rates)
    (_, expected_aux), expected = safjax.value_and_grad(nets.loss, rules.bptt(), outputs="all")(
        build(sliding), inputs(), nets.labels()
    )
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-12)
    for layer in (0, 2):
        nets.assert_trees_close(grads["layers"][layer], expected["layers"][layer], rtol=1e-11)
    gathered = jnp.stack([jnp.trace(grads["layers"][1]["weight"], offset=-lag) for lag in range(3, -1, -1)])
    np.testing.assert_allclose(gathered, expected["layers"][1]["weight"], rtol=1e-11)
    assert float(jnp.abs(grads["layers"][1]["weight"] * future).max()) == 0
    masked.strength.set_value(jnp.zeros(()))
    (_, free), _ = safjax.value_and_grad(nets.loss, rules.exodus(), outputs="all")(
        build(masked), inputs(), nets.labels()
    )
    assert np.abs(free.outputs - aux.outputs).max() > 0.1


def test_parallel_neurons_agree_under_all_layer_by_layer_rules():
    """Without a reset EXODUS, SLAYER and BPTT are one gradient."""
    grads = []
    for name in LAYERWISE:
        if name in MEANS:
            continue
        net = Net(["PSN", "SlidingPSN", "SPSN"], "feed-forward")
        (_, aux), gradient = safjax.value_and_grad(nets.loss, RULES[name], outputs="all")(net, inputs(), nets.labels())
        # A stochastic neuron at rest fires half of the time.
        nets.assert_fires(aux.rates, high=0.7)
        grads.append(gradient)
    for other in grads[1:]:
        nets.assert_trees_close(other, grads[0], rtol=1e-12)


def test_spsn_draws_anew_for_every_sequence():
    net = Net(["SPSN"], "feed-forward")
    compute = safjax.value_and_grad(nets.loss, rules.exodus(), outputs="all")
    first, second = (compute(net, inputs(), nets.labels())[0][1].outputs for _ in range(2))
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(safjax.predict(net, inputs()), safjax.predict(net, inputs()))


def test_another_length_than_a_psn_was_made_for():
    with pytest.raises(ValueError, match=r"PSN at '.*' is made for sequences of 12 steps, .* T = 5\."):
        safjax.predict(Net(["PSN"], "feed-forward"), inputs()[:5])


def test_weights_at_the_start():
    """The full PSN's as of a dense layer over T inputs; the sliding one's fall by half with every step back."""
    full, sliding = PSN(16, rngs=nnx.Rngs(0)), SlidingPSN(4)
    assert 0.2 < float(jnp.abs(full.weight[...]).max()) <= 0.25
    np.testing.assert_array_equal(full.bias[...], -1.0)
    np.testing.assert_array_equal(sliding.weight[...], [0.125, 0.25, 0.5, 1.0])
    assert float(sliding.bias[...]) == -1.0
