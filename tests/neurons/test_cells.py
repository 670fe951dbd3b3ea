"""Single neurons against their equations: several spikes in a step, adaptation, and the tie at a floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax.neurons import AdaptiveCell, LIFCell, ResetTo, accumulation_step, fire, lif_sequence, run_cell
from safjax.nn import ALIF
from safjax.rules.accumulation import clamp_limit
from safjax.surrogate import Exponential, Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def test_the_pseudo_derivative_is_that_at_the_nearest_level():
    """ds/du = σ(u − kθ) and ds/dθ = −k σ(u − kθ), kθ being the nearest to u of the levels θ, 2θ, 3θ."""
    potential, threshold, surrogate = jnp.asarray([-2.0, 0.3, 0.9, 1.3, 1.7, 2.1, 9.0]), 0.8, Exponential(0.4)
    nearest = np.array([1, 1, 1, 2, 2, 3, 3])
    spikes, pull_back = jax.vjp(lambda u, θ: fire(u, θ, surrogate, 3), potential, jnp.full(7, threshold))
    to_potential, to_threshold = pull_back(jnp.ones(7))
    slope = surrogate.slope(potential - nearest * threshold)
    np.testing.assert_array_equal(spikes, [0, 0, 1, 1, 2, 2, 3])
    np.testing.assert_allclose(to_potential, slope, rtol=1e-12)
    np.testing.assert_allclose(to_threshold, -nearest * slope, rtol=1e-12)


def test_no_gradient_passes_where_the_floor_is_just_reached():
    """A neuron at rest lies on a floor of zero at every step: neither the gradient passes, nor a half of it."""
    cell = LIFCell(0.5, 1.0, Sigmoid(), floor=0.0)
    neurons = (
        lambda c: run_cell(cell, c)[1],
        lambda c: lif_sequence(c, cell)[0],
        lambda c: lif_sequence(c, cell, parallel=True)[0],
    )
    for neuron in neurons:
        gradient = jax.jit(jax.grad(lambda c: neuron(c).sum()))  # noqa: B023
        np.testing.assert_array_equal(gradient(jnp.zeros((3, 2))), 0.0)
        assert (gradient(jnp.full((3, 2), 1e-9)) > 0).all()


@pytest.mark.parametrize("detach", [False, True])
def test_adaptive_neurons_follow_their_equations(detach):
    """b[t] = κ b[t−1] + s[t−1] raises the threshold, but not what a spike subtracts; only the reset is detached."""
    rng = np.random.default_rng(0)
    currents, weights = jnp.asarray(rng.normal(0.5, 1.0, (7, 20))), rng.normal(size=(7, 20))
    constants = {"decay": 0.8, "threshold": 1.1, "adaptation_decay": 0.6, "strength": 0.7}

    def loop(currents, decay, threshold, adaptation_decay, strength):
        membrane, raised, spikes = 0.0, jnp.zeros(20), []
        for current in currents:
            potential = decay * membrane + current
            spikes.append(Sigmoid()(potential - threshold - strength * raised))
            reset = jax.lax.stop_gradient(spikes[-1]) if detach else spikes[-1]
            membrane = potential - threshold * reset
            raised = adaptation_decay * raised + spikes[-1]
        return jnp.stack(spikes)

    def ours(currents, **constants):
        return run_cell(AdaptiveCell(**constants, surrogate=Sigmoid()), currents, detach_reset=detach)[1]

    def gradient(neuron):
        return jax.jit(jax.grad(lambda c, k: jnp.vdot(weights, neuron(c, **k)), (0, 1)))(currents, constants)

    spikes = ours(currents, **constants)
    nets.assert_fires({"neuron": spikes.mean()})
    np.testing.assert_array_equal(spikes, jax.jit(loop)(currents, **constants))
    nets.assert_trees_close(gradient(ours), gradient(loop), rtol=1e-12)


@pytest.mark.parametrize("reset", [None, ResetTo(0.0)])
def test_a_raised_reset_subtracts_something(reset):
    with pytest.raises(ValueError, match=r"ALIF\(reset=.*, raised_reset=True\).*Write reset=1\.0"):
        ALIF(reset=reset, raised_reset=True)


@pytest.mark.parametrize(
    "reset, max_spikes, scaled", [(1.0, 1, False), (0.9, 3, False), (0.9, 3, True), (1.0, None, False)]
)
def test_the_clamp_is_the_limit_of_the_rate(reset, max_spikes, scaled):
    """Without leak a neuron driven by v fires clamp(v / ρθ, 0, n) times a step in the long run."""
    cell, steps = LIFCell(1.0, 1.3, Sigmoid(), reset, None, max_spikes, scaled), 400
    current = jnp.linspace(-1.0, 5.0, 25)
    rate = run_cell(cell, current, steps)[1].mean(0) * (cell.drop if scaled else 1)
    np.testing.assert_allclose(clamp_limit(current, cell), rate, atol=2 * cell.drop / steps)
    assert rate.mean() > 0 and (rate == 0).any()


def test_the_past_of_an_accumulation_is_a_constant():
    """SAF's state carries no gradient from step to step (arXiv 2310.02772, Sec. 4.1)."""
    cell = LIFCell(0.5, 1.0, Sigmoid())

    def total(accumulation, potential):
        return accumulation_step(accumulation, 1.5, potential, cell)[0]

    to_past, to_present = jax.grad(total, (0, 1))(0.4, 0.7)
    assert to_past == 0
    np.testing.assert_allclose(to_present, 1.5 * Sigmoid().slope(jnp.asarray(1.5 * 0.7 - 0.2 - 1)), rtol=1e-12)
