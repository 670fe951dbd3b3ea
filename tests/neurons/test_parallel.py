"""Parallel spiking neurons: all steps at once equal one step after the other, and the random ones have their law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from safjax import neurons as parallel
from safjax.surrogate import Arctan
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

SURROGATE = Arctan()


def potential(x):
    """In the place of a surrogate: shows h itself."""
    return x


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def value_and_gradients(function, *arguments):
    """The value and its product with one fixed random cotangent, for each argument."""

    @jax.jit
    def both(*arguments):
        value, vjp = jax.vjp(function, *arguments)
        return value, vjp(normal(*value.shape, seed=9))

    return both(*arguments)


def assert_same_spikes_and_gradients(actual, expected):
    nets.assert_fires({"neuron": actual[0].mean()})
    np.testing.assert_array_equal(actual[0], expected[0])
    nets.assert_trees_close(actual[1], expected[1], rtol=1e-12)


def recurrence(x, decay):
    """y[t] = λ y[t−1] + x[t], in order."""

    def step(y, x):
        y = decay * y + x
        return y, y

    return lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def by_fft(sequences, n):
    """The causal convolution of sequences [T, N], by FFT of length n."""
    spectrum = functools.reduce(np.multiply, (np.fft.rfft(s, n, axis=0) for s in sequences))
    return np.fft.irfft(spectrum, n, axis=0)[: len(sequences[0])]


def powers(decay, steps):
    return np.asarray(decay) ** np.arange(steps)[:, None]


@pytest.mark.parametrize("decay", [0.9, (0.0, 0.6, 0.99, 1.0)], ids=str)
def test_filter_equals_recurrence_and_fft(decay):
    x, decay = normal(37, 4), jnp.asarray(decay)
    ours = value_and_gradients(parallel.leaky_filter, x, decay)
    expected = value_and_gradients(recurrence, x, decay)
    nets.assert_trees_close(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(ours[0], by_fft([x, powers(decay, 37)], 2 * 37), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha, beta", [(0.9, 0.95), (0.6, (0.2, 0.7, 0.99))], ids=str)
def test_membrane_equals_two_recurrences_and_a_fft_of_full_length(alpha, beta):
    x, beta = normal(50, 3), jnp.asarray(beta)
    ours = jax.jit(parallel.spsn_potential)(x, alpha, beta)
    np.testing.assert_allclose(ours, (1 - beta) * recurrence(recurrence(x, alpha), beta), rtol=1e-12, atol=1e-12)
    sequences = x, powers(alpha, 50), (1 - beta) * powers(beta, 50)
    np.testing.assert_allclose(ours, by_fft(sequences, 3 * 50), rtol=1e-12, atol=1e-12)
    # Three sequences convolved in length 2T wrap around: the bound above is not idle.
    assert np.abs(ours - by_fft(sequences, 2 * 50)).max() > 1e-5


def test_masked_weight_entry_by_entry():
    weight = normal(6, 6)
    for order, strength in [(1, 1.0), (3, 0.3), (6, 1.0), (9, 0.5), (2, 0.0)]:
        expected = [
            [w * (1.0 if i - order + 1 <= j <= i else 1 - strength) for j, w in enumerate(row)]
            for i, row in enumerate(np.asarray(weight))
        ]
        np.testing.assert_allclose(parallel.masked_weight(weight, order, strength), expected, rtol=1e-15)


def queued(x, rows, bias):
    """A PSN step by step: the queue of the last k currents, the oldest first, meets row t of rows[T, k]."""

    def step(queue, now):
        x, row, b = now
        queue = jnp.concatenate([queue[1:], x[None]])
        return queue, SURROGATE(jnp.tensordot(row, queue, 1) + b)

    return lax.scan(step, jnp.zeros((rows.shape[1], *x.shape[1:])), (x, rows, bias))[1]


@pytest.mark.parametrize("order", [1, 3, 12])
def test_masked_psn_equals_a_queue_step_by_step(order):
    steps = 10
    x, weight, bias = normal(steps, 4, 5), normal(steps, steps, seed=1), -1 + 0.3 * normal(steps, seed=2)

    def at_once(x, weight, bias):
        return parallel.psn(x, parallel.masked_weight(weight, order, 1.0), bias, SURROGATE)

    def step_by_step(x, weight, bias):
        # W[t, t − k + 1 ... t], with zeros left of the matrix.
        wide = jnp.pad(weight, [(0, 0), (order - 1, 0)])
        return queued(x, jnp.stack([wide[t, t : t + order] for t in range(steps)]), bias)

    assert_same_spikes_and_gradients(*(value_and_gradients(f, x, weight, bias) for f in (at_once, step_by_step)))


@pytest.mark.parametrize(
    "shape, order", [((10, 6), 1), ((37, 4, 3), 4), ((41, 2), 20), ((5, 7), 8), ((18, 2, 3, 2, 2), 5)]
)
def test_sliding_psn_equals_its_own_step(shape, order):
    x, weight, bias = normal(*shape), normal(order, seed=1) / order**0.5, jnp.asarray(-0.5)

    def at_once(x, weight, bias):
        return parallel.sliding_psn(x, weight, bias, SURROGATE)

    def step_by_step(x, weight, bias):
        def step(queue, x):
            return parallel.sliding_psn_step(queue, x, weight, bias, SURROGATE)

        return lax.scan(step, jnp.zeros((order - 1, *shape[1:])), x)[1]

    assert_same_spikes_and_gradients(*(value_and_gradients(f, x, weight, bias) for f in (at_once, step_by_step)))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(1, 45), st.integers(1, 24), st.sampled_from([(2,), (1, 3)]))
def test_sliding_psn_is_a_psn_with_a_toeplitz_matrix(steps, order, shape):
    def toeplitz(x, weight, bias):
        diagonals = np.stack([np.eye(steps, k=i - order + 1) for i in range(order)])
        return parallel.psn(x, jnp.tensordot(weight, diagonals, 1), jnp.full(steps, bias), potential)

    def sliding(x, weight, bias):
        return parallel.sliding_psn(x, weight, bias, potential)

    with jax.enable_x64(True):
        arguments = normal(steps, *shape), normal(order, seed=1), jnp.asarray(0.7)
        ours, expected = (value_and_gradients(f, *arguments) for f in (sliding, toeplitz))
        nets.assert_trees_close(ours, expected, rtol=1e-12)


def influence(neuron, steps):
    """d s[t] / d x[j], [T, T], of one neuron with the surrogate's slope."""
    return np.asarray(jax.jit(jax.jacobian(neuron))(normal(steps)))


def test_who_sees_the_future():
    """A masked or sliding neuron sees exactly its last k steps; the full one, and the half masked, see all."""
    steps, order = 20, 4
    weight, bias = normal(steps, steps, seed=1), jnp.full(steps, -1.0)
    band = np.tri(steps, dtype=bool) & ~np.tri(steps, k=-order, dtype=bool)
    seen = {
        strength: influence(
            lambda x, s=strength: parallel.psn(x, parallel.masked_weight(weight, order, s), bias, SURROGATE), steps
        )
        for strength in (0.0, 0.5, 1.0)
    }
    assert (seen[0.0] != 0).all() and (seen[0.5] != 0).all()
    np.testing.assert_array_equal(seen[1.0] != 0, band)
    sliding = influence(lambda x: parallel.sliding_psn(x, weight[0, :order], -1.0, SURROGATE), steps)
    np.testing.assert_array_equal(sliding != 0, band)


def test_spikes_of_an_spsn_are_independent_with_probability_sigmoid_of_v():
    count, x = 4_000, 4 * normal(5, 3) - 2
    p = np.asarray(jax.nn.sigmoid(parallel.spsn_potential(x, 0.5, 0.4))).ravel()
    spikes = jax.jit(jax.vmap(lambda key: parallel.spsn(key, x, 0.5, 0.4)))(jax.random.split(jax.random.key(0), count))
    assert set(np.unique(spikes)) == {0.0, 1.0}
    nets.assert_fires({"neuron": spikes.mean()})
    deviation = (np.asarray(spikes).reshape(count, -1) - p) / np.sqrt(p * (1 - p))
    assert np.abs(deviation.mean(0)).max() < 4 / count**0.5
    together = deviation.T @ deviation / count
    assert np.abs(together - np.diag(np.diag(together))).max() < 4 / count**0.5


@pytest.mark.parametrize("published", [False, True])
def test_gradient_of_an_spsn_in_closed_form(published):
    """With K[t, j] = ∂v[t]/∂x[j]: straight through Kᵀ (g p (1 − p)); as published Kᵀ (g p² (1 − p))."""
    steps, alpha, beta, key = 12, 0.7, 0.8, jax.random.key(1)
    x, g = 3 * normal(steps, 4) - 1, normal(steps, 4, seed=2)

    def neuron(x):
        return parallel.spsn(key, x, alpha, beta, published_gradient=published)

    lag = np.subtract.outer(np.arange(steps), np.arange(steps))
    synaptic, membrane = (np.where(lag >= 0, a ** np.maximum(lag, 0.0), 0) for a in (alpha, beta))
    kernel = (1 - beta) * membrane @ synaptic
    p = 1 / (1 + np.exp(-kernel @ x))
    slope = p * (1 - p) * (p if published else 1)
    spikes, gradient, forward = jax.jit(
        lambda x: (neuron(x), jax.vjp(neuron, x)[1](g)[0], jax.jvp(neuron, (x,), (g,))[1])
    )(x)
    nets.assert_fires({"neuron": spikes.mean()})
    np.testing.assert_array_equal(spikes, np.asarray(jax.random.bernoulli(key, p), float))
    np.testing.assert_allclose(gradient, kernel.T @ (g * slope), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(forward, slope * (kernel @ g), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 3, 2, 2)], ids=str)
def test_any_axes_behind_time(shape):
    """Each neuron is computed by itself: the axes behind time may be flattened away. Single precision stays single."""

    @jax.jit
    def all_of_them(x, decay):
        return (
            parallel.psn(x, normal(6, 6).astype(x.dtype), -jnp.ones(6, x.dtype), SURROGATE),
            parallel.sliding_psn(x, normal(4).astype(x.dtype), -1.0, SURROGATE),
            parallel.leaky_filter(x, decay),
            parallel.spsn_potential(x, 0.5, decay),
            parallel.spsn(jax.random.key(0), x, 0.5, 0.9),
        )

    x, decay = 2 * normal(*shape), jnp.linspace(0.2, 0.9, shape[-1])
    full = all_of_them(x, decay)
    alone = all_of_them(x.reshape(6, -1), jnp.broadcast_to(decay, shape[1:]).ravel())
    for a, b in zip(full, alone, strict=True):
        assert a.shape == shape and a.dtype == jnp.float64
        np.testing.assert_allclose(a.reshape(6, -1), b, rtol=1e-12)
    single = jax.eval_shape(all_of_them, *(jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in (x, decay)))
    assert {a.dtype for a in single} == {jnp.dtype(jnp.float32)}


X, W = np.zeros((5, 2, 3)), np.ones(3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: parallel.psn(X, np.ones((4, 5)), np.ones(5), SURROGATE), r"weight\[4, 5\].*weight\[5, 5\]"),
        (lambda: parallel.psn(X, np.ones((5, 5)), 1.0, SURROGATE), r"bias\[\].*bias\[5\]"),
        (lambda: parallel.masked_weight(np.ones((4, 5)), 2, 1.0), r"weight\[4, 5\].*square"),
        (lambda: parallel.masked_weight(np.ones((5, 5)), 0, 1.0), "order=0.*at least 1"),
        (lambda: parallel.masked_weight(np.ones((5, 5)), 2.5, 1.0), "order=2.5.*integer"),
        (lambda: parallel.masked_weight(np.ones((5, 5)), 2, 1.5), r"strength=1.5.*\[0, 1\]"),
        (lambda: parallel.sliding_psn(X, np.ones(0), -1.0, SURROGATE), r"sliding_psn\(weight\[0\]\).*k ≥ 1"),
        (lambda: parallel.sliding_psn(X, np.ones((2, 2)), -1.0, SURROGATE), r"weight\[2, 2\].*weight\[k\]"),
        (lambda: parallel.sliding_psn(X, W, np.ones(5), SURROGATE), r"bias\[5\].*one number"),
        (lambda: parallel.sliding_psn_step(X, X[0], W, -1.0, SURROGATE), r"queue\[5, 2, 3\].*k − 1 = 2.*\[2, 2, 3\]"),
        (lambda: parallel.leaky_filter(X, 1.5), r"decay=1.5.*\[0, 1\]"),
        (lambda: parallel.leaky_filter(X, np.full((5, 2, 3), 0.5)), r"decay\[5, 2, 3\].*\[2, 3\]"),
        (lambda: parallel.leaky_filter(X, np.full(2, 0.5)), r"decay\[2\].*\[2, 3\]"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
