"""What is not a number in one neuron's current stays in that neuron and its later steps, and shows there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safjax import neurons
from safjax.surrogate import Arctan, Sigmoid

pytestmark = pytest.mark.usefixtures("x64")

STEPS, BATCH, UNITS = 10, 3, 4
NUMBERS = [np.nan, np.inf, -np.inf]


def spoilt(x, where, number):
    x = np.array(x)
    x[where] = number
    return jnp.asarray(x)


CONSTANTS = {"decay": 0.7, "threshold": 1.0, "surrogate": Sigmoid()}
CELLS = {
    "LIF": neurons.LIFCell(**CONSTANTS),
    "floor": neurons.LIFCell(**CONSTANTS, floor=-0.5),
    "several spikes": neurons.LIFCell(**CONSTANTS, max_spikes=2),
    "any number of spikes": neurons.LIFCell(**CONSTANTS, max_spikes=None),
    "a threshold of each": neurons.LIFCell(0.7, jnp.linspace(0.8, 1.2, UNITS), Sigmoid()),
    "set to a value": neurons.LIFCell(**CONSTANTS, reset=neurons.ResetTo(-0.1)),
    "CurrentLIF": neurons.CurrentCell(neurons.LIFCell(**CONSTANTS), 0.4),
    "ALIF": neurons.AdaptiveCell(**CONSTANTS, adaptation_decay=0.9, strength=0.1),
    "refractory, held": neurons.RefractoryCell(neurons.LIFCell(**CONSTANTS), 2),
    "refractory": neurons.RefractoryCell(neurons.LIFCell(**CONSTANTS), 2, held=False),
}
ORDER = 3
WINDOW = jnp.array([0.25, 0.5, 1.0])


def matrix():
    return jnp.asarray(np.random.default_rng(1).normal(0.2, 0.5, (STEPS, STEPS)))


def masked(x):
    return neurons.psn(x, neurons.masked_weight(matrix(), ORDER, 1.0), jnp.full(STEPS, -0.5), Arctan())


SEQUENCES = {
    **{name: lambda x, cell=cell: neurons.run_cell(cell, x)[1] for name, cell in CELLS.items()},
    **{
        f"{name}, closed form{', parallel' if parallel else ''}": functools.partial(
            lambda x, cell, parallel: neurons.lif_sequence(x, cell, parallel=parallel)[0],
            cell=CELLS[name],
            parallel=parallel,
        )
        for name in ("LIF", "floor", "several spikes", "set to a value")
        for parallel in (False, True)
    },
    "masked PSN": masked,
    "sliding PSN": lambda x: neurons.sliding_psn(x, WINDOW, -0.5, Arctan()),
    "filter": lambda x: neurons.leaky_filter(x, 0.7),
    "SPSN": lambda x: neurons.spsn(jax.random.key(0), x, 0.5, 0.6),
}
FORGETTING = ("masked PSN", "sliding PSN")


def silent(name, spikes, step):
    """For how many steps a neuron may not fire from here on; where its membrane is held, what comes then is lost."""
    if "refractory" not in name:
        return 0
    (last,) = np.flatnonzero(spikes[:step])[-1:] if spikes[:step].any() else (-9,)
    rest = max(0, 2 - (step - last - 1))
    return STEPS if rest and "held" in name else rest


@functools.cache
def sequence(name):
    """(x, g) ↦ the spikes of x and their gradient for g, compiled; x and g; and the result for them."""
    rng = np.random.default_rng(0)
    x, g = jnp.asarray(rng.normal(0.4, 1.0, (STEPS, BATCH, UNITS))), jnp.asarray(rng.normal(size=(STEPS, BATCH, UNITS)))

    @jax.jit
    def run(x):
        spikes, pull_back = jax.vjp(SEQUENCES[name], x)
        return spikes, pull_back(g)[0]

    return run, x, run(x)


@pytest.mark.parametrize("name", SEQUENCES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, STEPS - 1), st.integers(0, BATCH - 1), st.integers(0, UNITS - 1), st.sampled_from(NUMBERS))
def test_neurons(name, step, example, unit, number):
    """To the last bit: the other neurons, and before the step the same one. A NaN shows for as long as it is seen."""
    run, x, (spikes, gradient) = sequence(name)
    assert 0.05 < spikes.mean() < 2 and (gradient != 0).mean() > (0.3 if name == "refractory, held" else 0.8)
    after, gradient_after = run(spoilt(x, (step, example, unit), number))
    np.testing.assert_array_equal(after[:step], spikes[:step])
    others = np.ones((BATCH, UNITS), bool)
    others[example, unit] = False
    np.testing.assert_array_equal(after[:, others], spikes[:, others])
    np.testing.assert_array_equal(gradient_after[:, others], gradient[:, others])
    first = step + silent(name, spikes[:, example, unit], step)
    seen = slice(first, step + ORDER if name in FORGETTING else STEPS)
    assert not np.isnan(number) or np.isnan(after[seen, example, unit]).all()
    np.testing.assert_array_equal(after[:first], spikes[:first])
    np.testing.assert_array_equal(after[seen.stop :], spikes[seen.stop :])
    # A filter is linear: its gradient asks for no current.
    assert not np.isnan(number) or name == "filter" or np.isnan(gradient_after[step, example, unit])


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(1, 21), st.integers(1, 12), st.integers(0, 20), st.sampled_from(NUMBERS))
def test_a_sliding_psn_is_its_own_step_also_where_it_is_not_finite(steps, order, step, number):
    """Through blocks of all sizes, windows longer than the sequence among them; also an infinity as it is."""
    rng = np.random.default_rng(steps)
    x, weight = rng.normal(size=(steps, 2, 3)), jnp.asarray(rng.normal(size=order))
    x = spoilt(x, (step % steps, 0, 1), number)
    own = lambda queue, x: neurons.sliding_psn_step(queue, x, weight, 0.3, lambda h: h)  # noqa: E731
    expected = jax.lax.scan(own, jnp.zeros((order - 1, 2, 3)), x)[1]
    np.testing.assert_allclose(neurons.sliding_psn(x, weight, 0.3, lambda h: h), expected, rtol=1e-12, atol=1e-12)


def test_a_full_psn_keeps_it_in_its_neuron():
    x = jnp.asarray(np.random.default_rng(0).normal(0.4, 1.0, (STEPS, BATCH, UNITS)))
    run = jax.jit(lambda x: neurons.psn(x, matrix(), jnp.full(STEPS, -0.5), Arctan()))
    after = run(spoilt(x, (4, 0, 0), np.nan))
    assert np.isnan(after[:, 0, 0]).all()
    np.testing.assert_array_equal(after[:, :, 1:], run(x)[:, :, 1:])
    np.testing.assert_array_equal(after[:, 1:], run(x)[:, 1:])
