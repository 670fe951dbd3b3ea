"""The closed-form gradient of LIF neurons against autodiff, a triangular solve, finite differences and its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safjax.neurons import LIFCell, ResetTo, fire, lif_sequence, run_cell
from safjax.surrogate import Exponential, Sigmoid, Triangle

pytestmark = pytest.mark.usefixtures("x64")

T, B, N = 10, 3, 5
GAIN = 5.0
"""What makes up for 1 − λ."""


def draws(seed=0):
    """Currents, initial membranes, decays, thresholds and reset, of shapes that broadcast in different ways."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.normal(0.35, 1.0, (T, B, N)),
        rng.normal(size=(B, N)),
        rng.uniform(0.7, 1.0, (N,)),
        rng.uniform(0.6, 1.2, (1, N)),
        rng.uniform(0.8, 1.2),
    )
    return tuple(jnp.asarray(a) for a in arrays)


def loop(
    currents, membrane, decay, threshold, reset, surrogate, floor=None, max_spikes=1, detach=False, to_value=False,
    decay_input=False,
):  # fmt: skip
    """The neuron as a plain Python loop: (s[T], u[T], m[T])."""
    spikes, potentials = [], []
    for current in currents:
        u = decay * membrane + ((1 - decay) * GAIN * current if decay_input else current)
        if floor is not None:
            u = jnp.where(u > floor, u, floor)
        s = fire(u, threshold, surrogate, max_spikes)
        z = jax.lax.stop_gradient(s) if detach else s
        membrane = (1 - z) * u + z * (reset - 1) if to_value else u - reset * threshold * z
        spikes.append(s)
        potentials.append(u)
    return jnp.stack(spikes), jnp.stack(potentials), membrane


def closed(
    currents, membrane, decay, threshold, reset, surrogate, floor=None, max_spikes=1, detach=False, to_value=False,
    decay_input=False, **options,
):  # fmt: skip
    reset = ResetTo(reset - 1) if to_value else reset
    cell = LIFCell(decay, threshold, surrogate, reset, floor, max_spikes, decay_input=decay_input)
    return lif_sequence(
        GAIN * currents if decay_input else currents, cell, membrane, through_reset=not detach, **options
    )


def two_layers(neuron, weights, arguments, **options):
    """A loss of spikes, potentials and last membranes of two layers of the neuron."""
    currents, *others = arguments
    spikes, *_ = neuron(currents, *others, **options)
    outputs = neuron(spikes @ weights, *others, **options)
    rng = np.random.default_rng(1)
    return sum(jnp.vdot(rng.normal(size=o.shape), o) for o in outputs), (spikes, *outputs)


def compare(actual, expected, rtol=1e-12):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert float(jnp.abs(e).max()) > 0
        np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol * float(jnp.abs(e).max()))


CASES = {
    "plain": {},
    "clamp": {"floor": -0.2},
    "clamp at rest": {"floor": 0.0},
    "several spikes": {"max_spikes": 3},
    "any number of spikes, clamp": {"max_spikes": None, "floor": -0.3},
    "set to a value": {"to_value": True},
    "set to a value, clamp, decayed input": {"to_value": True, "floor": -0.2, "decay_input": True},
}


@pytest.mark.parametrize("detach", [False, True], ids=["exodus", "slayer"])
@pytest.mark.parametrize(
    "case, surrogate, parallel",
    [
        *((case, Exponential(width=0.7), False) for case in CASES),
        ("several spikes", Sigmoid(alpha=3.0), False),
        ("plain", Exponential(width=0.7), True),
        ("any number of spikes, clamp", Sigmoid(alpha=3.0), True),
        ("set to a value, clamp, decayed input", Sigmoid(alpha=3.0), True),
    ],
    ids=[*CASES, "sigmoid", "associative scan", "associative scan, sigmoid, clamp", "associative scan, set to a value"],
)
def test_gradients_equal_autodiff_through_the_loop(case, surrogate, detach, parallel):
    """Two layers; of currents, weights, initial membranes, decays, thresholds and resets; all three outputs count."""
    weights = jnp.asarray(np.random.default_rng(2).normal(0, 0.9, (N, N)))
    options = {**CASES[case], "surrogate": surrogate, "detach": detach}
    expected, grads, (first, second) = evaluate(loop, weights, **options)
    value, ours, (one, two) = evaluate(closed, weights, parallel=parallel, **options)
    np.testing.assert_array_equal(one, first)
    np.testing.assert_array_equal(two, second)
    assert 0.05 < first.mean() < 0.9 and 0.05 < second.mean() < 0.9
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    compare(ours, grads)


def evaluate(neuron, weights, **options):
    def objective(weights, arguments):
        return two_layers(neuron, weights, arguments, **options)

    (value, (first, second, *_)), grads = jax.value_and_grad(objective, (0, 1), has_aux=True)(weights, draws())
    return value, grads, (first, second)


def test_a_clamp_that_holds_at_the_first_step_only():
    """The gradient of the decay there once went wrong in a public code: clipped at t = 1, free at t = 2."""

    def objective(neuron, decay):
        currents = jnp.asarray([-2.0, 0.9, 0.8])[:, None]
        spikes, potentials, _ = neuron(currents, jnp.ones(1), decay, 1.0, 1.0, Exponential(), floor=-0.5)
        return jnp.sum(spikes * potentials)

    expected = jax.grad(lambda d: objective(loop, d))(0.8)
    for parallel in (False, True):
        actual = jax.grad(lambda d: objective(lambda *a, **k: closed(*a, parallel=parallel, **k), d))(0.8)  # noqa: B023
        np.testing.assert_allclose(actual, expected, rtol=1e-13)


@pytest.mark.parametrize("parallel", [False, True])
def test_one_current_for_all_steps(parallel):
    currents, membrane, decay, threshold, reset = draws()

    def objective(current, spread):
        cell = LIFCell(decay, threshold, Sigmoid(), reset)
        given = jnp.broadcast_to(current, (T, B, N)) if spread else current
        s, u, m = lif_sequence(given, cell, membrane, steps=None if spread else T, parallel=parallel)
        return jnp.sum(s * jnp.arange(T)[:, None, None]) + jnp.sum(u**2) + jnp.sum(m)

    x = currents[0] + 0.5
    compare(jax.grad(objective)(x, False), jax.grad(objective)(x, True), rtol=1e-13)


def test_chunks_equal_one_sequence():
    """State in, state out: gradients flow from one chunk into the one before."""
    weights = jnp.asarray(np.random.default_rng(3).normal(size=(T, B, N)))

    def objective(arguments, cuts):
        currents, membrane, *others = arguments
        spikes = []
        for chunk in jnp.split(currents, cuts):
            s, _, membrane = closed(chunk, membrane, *others, Exponential(), floor=-0.4)
            spikes.append(s)
        return jnp.vdot(weights, jnp.concatenate(spikes)) + membrane.sum()

    value, grads = jax.value_and_grad(objective)(draws(), [])
    in_chunks, chunked = jax.value_and_grad(objective)(draws(), [1, 6])
    np.testing.assert_allclose(in_chunks, value, rtol=1e-13)
    compare(chunked, grads)


def test_the_two_gradients_and_the_spatial_one_differ():
    """EXODUS, SLAYER and SLTT, as gradients of the first of two layers, point in different directions."""
    weights = jnp.asarray(np.random.default_rng(2).normal(0, 0.9, (N, N)))
    currents, membrane, decay, threshold, reset = draws()

    def objective(currents, neuron, **options):
        s = neuron(currents, membrane, decay, threshold, reset, Exponential(), **options)[0]
        return jnp.sum(
            jnp.arange(1.0, N + 1) * neuron(s @ weights, membrane, decay, threshold, reset, Exponential(), **options)[0]
        )

    def spatial(currents, membrane, *others):
        def body(m, current):
            s, _, m = loop(current[None], jax.lax.stop_gradient(m), *others)
            return m, s[0]

        return [jax.lax.scan(body, membrane, currents)[1]]

    gradients = [
        jax.grad(objective)(currents, closed),
        jax.grad(lambda c: objective(c, closed, detach=True))(currents),
        jax.grad(objective)(currents, spatial),
    ]
    for i, a in enumerate(gradients):
        for b in gradients[i + 1 :]:
            assert jnp.vdot(a, b) / jnp.sqrt(jnp.vdot(a, a) * jnp.vdot(b, b)) < 0.95


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_a_triangular_solve_gives_the_same(decay):
    """The implicit function theorem on z = H(p − R z) in the paper's form: (I + S Rᵀ) λ = S g, then the filter's
    adjoint. p is the filtered input, R the refractory kernel of past spikes."""
    rng = np.random.default_rng(4)
    current, to_spikes = rng.normal(0.4, 1.0, 30), rng.normal(size=30)
    surrogate, reset = Exponential(), 1.1
    cell = LIFCell(decay, 1.0, surrogate, reset)
    spikes, potentials, _ = lif_sequence(jnp.asarray(current)[:, None], cell)
    assert 3 < spikes.sum() < 20
    lag = np.subtract.outer(np.arange(30), np.arange(30))
    kernel = np.where(lag >= 0, decay ** np.maximum(lag, 0), 0.0)
    refractory = np.where(lag > 0, reset * decay ** np.maximum(lag, 0), 0.0)
    np.testing.assert_allclose(kernel @ current - refractory @ spikes[:, 0], potentials[:, 0], atol=1e-13)
    slope = np.diag(surrogate.slope(potentials[:, 0] - 1))
    error = kernel.T @ np.linalg.solve(np.eye(30) + slope @ refractory.T, slope @ to_spikes)
    actual = jax.grad(lambda c: jnp.vdot(to_spikes, lif_sequence(c[:, None], cell)[0][:, 0]))(jnp.asarray(current))
    np.testing.assert_allclose(actual, error, rtol=1e-11, atol=1e-13)


def test_without_leak_exodus_telescopes_and_slayer_does_not():
    """Without leak and with slopes in [0, 1/θ] the influence of one input on all later spikes is at most 1/θ:
    θ Σ_{j≥i} ds[j]/dI[i] = 1 − Π (1 − θσ[k]) ≤ 1. SLAYER's sum grows with T."""
    threshold, currents = 1.3, jnp.asarray(np.random.default_rng(5).normal(0.3, 0.6, (120, 40)))

    def influence(through_reset):
        cell = LIFCell(1.0, threshold, Triangle(width=threshold))
        total = lambda c: lif_sequence(c, cell, through_reset=through_reset)[0].sum()  # noqa: E731
        return threshold * jax.grad(total)(currents)

    spikes, potentials, _ = lif_sequence(currents, LIFCell(1.0, threshold, Triangle(width=threshold)))
    assert 0.05 < spikes.mean() < 0.6
    kept = 1 - threshold * Triangle(width=threshold).slope(potentials - threshold)
    product = jnp.flip(jnp.cumprod(jnp.flip(kept, 0), 0), 0)
    np.testing.assert_allclose(influence(True), 1 - product, atol=1e-12)
    assert influence(True).max() <= 1 + 1e-12
    assert influence(False).max() > 10


def test_against_finite_differences():
    """With a smooth spike function the gradient is the true one."""

    def objective(arguments):
        s, u, m = closed(*arguments, lambda x: jax.nn.sigmoid(3 * x))
        return jnp.sum(s**2) + jnp.sum(jnp.sin(u)) + jnp.sum(m)

    arguments = draws()
    grads = jax.grad(objective)(arguments)
    for index, (value, slope) in enumerate(zip(arguments, grads, strict=True)):
        direction = jnp.asarray(np.random.default_rng(index).normal(size=value.shape))
        ends = [objective((*arguments[:index], value + h * direction, *arguments[index + 1 :])) for h in (1e-6, -1e-6)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, jnp.vdot(slope, direction), rtol=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    decay=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    threshold=st.floats(0.3, 2.0),
    reset=st.floats(0.3, 2.0),
    max_spikes=st.sampled_from([1, 2, None]),
    floor=st.sampled_from([None, 0.0, -0.7]),
    detach=st.booleans(),
)
def test_any_neuron_equals_autodiff(seed, decay, threshold, reset, max_spikes, floor, detach):
    currents = jnp.asarray(np.random.default_rng(seed).normal(0.5, 1.0, (8, 6)))
    if max_spikes == 1 and seed % 2:
        reset = ResetTo(threshold - reset)
    cell = LIFCell(decay, threshold, Exponential(), reset, floor, max_spikes)
    weights = jnp.asarray(np.random.default_rng(seed + 1).normal(size=(8, 6)))
    ours = jax.grad(lambda c: jnp.vdot(weights, lif_sequence(c, cell, through_reset=not detach)[0]))(currents)
    expected = jax.grad(lambda c: jnp.vdot(weights, run_cell(cell, c, None, detach)[1]))(currents)
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11 * (1 + float(jnp.abs(expected).max())))


def test_memory_is_that_of_the_potentials():
    """The backward pass stores u[T], not σ and J beside it: at most one sequence more than autodiff stores."""
    cell, currents = LIFCell(0.9, 1.0, Exponential()), jnp.zeros((200, 1000), jnp.float32)

    def temporary(spikes):
        gradient = jax.jit(jax.grad(lambda c: jnp.vdot(spikes(c), c)))
        return gradient.lower(currents).compile().memory_analysis().temp_size_in_bytes / currents.nbytes

    assert temporary(lambda c: lif_sequence(c, cell)[0]) <= temporary(lambda c: run_cell(cell, c)[1]) + 0.05
