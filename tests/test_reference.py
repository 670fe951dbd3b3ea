"""Rules against a plain NumPy loop and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import safjax
from safjax import rules
from safjax.neurons import LIFCell, accumulation_step, gain_step
from tests import nets, reference

pytestmark = pytest.mark.usefixtures("x64")


def squared_error(output, targets):
    return jnp.mean(jnp.sum((output - targets) ** 2, -1))


def sequence(seed=0):
    return np.random.default_rng(seed).normal(0.3, 1.2, (nets.STEPS, nets.BATCH, 7))


def targets():
    return np.random.default_rng(9).normal(size=(nets.BATCH, nets.CLASSES))


def weights(tree):
    return [
        [np.asarray(tree[name]["layer"]["kernel"]), np.asarray(tree[name]["layer"]["bias"])]
        for name in ("first", "second", "last")
    ]


def compare(actual, expected, rtol):
    for layer, (ours, theirs) in enumerate(zip(weights(actual), expected, strict=True)):
        for kind, a, b in zip(("kernel", "bias"), ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol, rtol * np.abs(b).max(), err_msg=f"{kind} of layer {layer}")


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("decay, threshold", [(0.5, 1.0), (0.9, 0.7), (1.0, 1.3)])
def test_bptt(decay, threshold, detach_reset):
    net = nets.Dense(decay=decay, threshold=threshold)
    rule = rules.bptt(detach_reset=detach_reset)
    (value, aux), grads = safjax.value_and_grad(squared_error, rule, outputs="all")(
        net, jnp.asarray(sequence()), targets()
    )
    nets.assert_fires(aux.rates)
    arguments = weights(nnx.as_pure(nnx.state(net, nnx.Param))), sequence(), targets(), decay, threshold
    expected_value, expected = reference.bptt(*arguments, detach_reset)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(aux.outputs, reference.forward(*arguments[:2], decay, threshold)[-1], rtol=1e-11)
    compare(grads, expected, rtol=1e-11)


@pytest.mark.parametrize("name, traced", [("sltt", False), ("ottt_a", True), ("saf_e", True)])
def test_online_rules(name, traced):
    net = nets.Dense(decay=0.8)
    (_, aux), grads = safjax.value_and_grad(squared_error, rules.RULES[name](), outputs="all")(
        net, jnp.asarray(sequence()), targets()
    )
    nets.assert_fires(aux.rates)
    parameters = weights(nnx.as_pure(nnx.state(net, nnx.Param)))
    compare(grads, reference.online(parameters, sequence(), targets(), 0.8, 1.0, traced), rtol=1e-11)


@pytest.mark.parametrize("static", [True, False], ids=["static", "sequence"])
@pytest.mark.parametrize("options", [(False, True), (True, False), (False, False)], ids=["bias", "input", "both"])
def test_ottt_without_the_traces_of_biases_or_input(options, static):
    net, x = nets.Dense(decay=0.8), jnp.asarray(sequence())
    rule = rules.ottt_a(trace_bias=options[0], trace_input=options[1])
    x, steps = (x[0], nets.STEPS) if static else (x, None)
    (_, aux), grads = safjax.value_and_grad(squared_error, rule, steps, outputs="all")(net, x, targets())
    nets.assert_fires(aux.rates)
    parameters, xs = weights(nnx.as_pure(nnx.state(net, nnx.Param))), [x] * nets.STEPS if static else x
    compare(grads, reference.online(parameters, xs, targets(), 0.8, 1.0, True, *options), rtol=1e-11)


def test_bptt_against_finite_differences():
    """With a smooth spike function BPTT is the true gradient: central differences in random directions agree."""
    net = nets.Dense(surrogate=lambda x: jax.nn.sigmoid(3 * x))
    x, y = jnp.asarray(sequence()), targets()
    compute = safjax.value_and_grad(squared_error, rules.bptt(), outputs="all")
    graphdef, params = nnx.split(net)
    _, grads = compute(net, x, y)
    for seed in range(3):
        leaves, structure = jax.tree.flatten(grads)
        rng = np.random.default_rng(seed)
        direction = structure.unflatten([jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves])
        ends = []
        for h in (1e-5, -1e-5):
            moved = jax.tree.map(lambda p, d, h=h: p + h * d, nnx.as_pure(params), direction)
            ends.append(compute(nnx.merge(graphdef, moved), x, y)[0][0])
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.vdot(g, d), grads, direction)))
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, slope, rtol=1e-7)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    decay=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
    threshold=st.floats(0.3, 3.0),
    steps=st.integers(1, 12),
)
def test_accumulation_is_the_membrane_in_another_form(seed, decay, threshold, steps):
    """`accumulation_step` on accumulated currents fires exactly the spikes of `LIFCell` on the currents."""
    cell = LIFCell(decay, threshold, safjax.surrogate.Sigmoid())
    currents = np.random.default_rng(seed).normal(0.6, 1.0, (steps, 50))
    membrane = total = accumulated = jnp.zeros(50)
    gain = jnp.zeros(())
    for current in currents:
        membrane, spikes = cell.step(membrane, current)
        accumulated, gain = decay * accumulated + current, gain_step(gain, decay)
        total, others = accumulation_step(total, gain, accumulated / gain, cell)
        np.testing.assert_array_equal(spikes, others)
        assert np.all((total / gain >= 0) & (total / gain <= 1))
