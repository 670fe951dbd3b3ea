"""EventProp: the gradient of spike times, compared with that of a time-continuous simulation with exact spike times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import SequenceLoss, WithRecords
from safjax.nn import CurrentLIF, InstantReadout, ResetTo, Synapse
from tests import event_driven, nets

pytestmark = pytest.mark.usefixtures("x64")
END, INPUTS, HIDDEN, OUTPUTS = 16.0, 4, 3, 2


def problem(seed):
    """Input spikes, on tenths of the unit of time, and the weights of two layers."""
    rng = np.random.default_rng(seed)
    times = [0.1 * rng.choice(np.arange(1, 120), 3, replace=False) for _ in range(INPUTS)]
    events = sorted((float(t), i) for i in range(INPUTS) for t in times[i])
    return events, rng.normal(1.6, 0.8, (INPUTS, HIDDEN)), rng.normal(2.2, 0.8, (HIDDEN, OUTPUTS))


def exact(seed, reset=0.0):
    """Gradients by differences of exact spike times, and how many spikes there are."""
    events, first, second = problem(seed)

    def value(first, second):
        hidden = event_driven.layer(events, first, END, reset)
        outputs = event_driven.layer(hidden, second, END, reset)
        worth = sum(np.sin(0.3 * t + j) for t, j in outputs) + 0.5 * sum(np.cos(0.2 * t + j) for t, j in hidden)
        return worth, (len(hidden), len(outputs))

    of_first = event_driven.slopes(lambda w: value(w, second), first)
    return (of_first, event_driven.slopes(lambda w: value(first, w), second)), value(first, second)[1]


def made(seed, step, reset=1.0):
    """The same as a net with so short a step of time, its input and the loss."""
    events, *weights = problem(seed)
    layers = []
    for kernel in weights:
        dense = nnx.Linear(*kernel.shape, use_bias=False, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
        dense.kernel[...] = jnp.asarray(kernel)
        decays = np.exp(-step / event_driven.SYNAPSE), np.exp(-step / event_driven.MEMBRANE)
        lif = CurrentLIF(*map(float, decays), event_driven.THRESHOLD, reset=reset, decay_input=True)
        layers += [Synapse(dense), lif]
    x = np.zeros((round(END / step) + 1, 1, INPUTS))
    for time, source in events:
        x[round(time / step), 0, source] = 1
    times = step * jnp.arange(len(x))[:, None, None]

    def worth(outputs, records):
        hidden = 0.5 * jnp.cos(0.2 * times + jnp.arange(HIDDEN)) * records["spikes"]["layers.1"]
        return jnp.sum(jnp.sin(0.3 * times + jnp.arange(OUTPUTS)) * outputs) + jnp.sum(hidden)

    net = nnx.Sequential(*layers, Synapse(lambda x: 1.0 * x), InstantReadout())
    return net, jnp.asarray(x), WithRecords(SequenceLoss(worth), record=("spikes",))


def gradients(seed, step, reset=1.0):
    """Of both kernels, and the number of spikes of both layers."""
    net, x, loss = made(seed, step, reset)
    (_, aux), grads = safjax.value_and_grad(loss, rules.eventprop(), outputs="last")(net, x)
    grads = nnx.as_pure(grads)["layers"]
    counts = tuple(round(float(aux.rates[f"layers.{i}"]) * len(x) * n) for i, n in ((1, HIDDEN), (3, OUTPUTS)))
    return (np.asarray(grads[0]["layer"]["kernel"]), np.asarray(grads[2]["layer"]["kernel"])), counts


def errors(actual, expected):
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(actual, expected, strict=True)]


def test_shorter_steps_come_nearer_to_the_gradient_of_exact_spike_times():
    """In proportion to the step, in both layers, with as many spikes."""
    expected, count = exact(0)
    found = {step: gradients(0, step) for step in (0.01, 0.001)}
    assert min(count) > 10 and all(counts == count for _, counts in found.values())
    coarse, fine = (errors(grads, expected) for grads, _ in found.values())
    assert max(coarse) < 0.01 and max(fine) < 0.0011
    assert all(6 < a / b < 14 for a, b in zip(coarse, fine, strict=True))


@pytest.mark.slow
def test_it_is_the_gradient_of_exact_spike_times():
    expected, count = exact(0)
    grads, counts = gradients(0, 5e-6)
    assert counts == count and max(errors(grads, expected)) < 1e-5


@pytest.mark.parametrize("reset", [0.7, ResetTo(0.3)], ids=["subtracted", "a value"])
def test_other_resets(reset):
    expected, count = exact(7, 0.3)
    grads, counts = gradients(7, 0.001, reset)
    assert counts == count and max(errors(grads, expected)) < 0.003


def times_loss(outputs):
    """The sum of all spike times, by how it changes."""
    return jnp.sum(outputs * jnp.arange(1.0, len(outputs) + 1)[:, None, None]) / len(outputs)


def small(first=CurrentLIF, second=CurrentLIF, scale=1.0, between=lambda: (), **options):
    options = {"synaptic_decay": 0.9, "decay": 0.95, "threshold": 1.0, **options}
    rngs = nnx.Rngs(1)
    layers = [nnx.Linear(a, b, param_dtype=nets.DTYPE, rngs=rngs) for a, b in ((7, 9), (9, 5))]
    for layer, size in zip(layers, (0.1, 0.4), strict=True):
        layer.kernel[...], layer.bias[...] = scale * size * layer.kernel[...], scale * jnp.full(layer.bias.shape, 0.02)
    kinds = [kind(**options) if kind is CurrentLIF else kind() for kind in (first, second)]
    synapses = [Synapse(nnx.Sequential(*between(), layer)) for layer in layers]
    net = nnx.Sequential(synapses[0], kinds[0], synapses[1], kinds[1], Synapse(lambda x: 1.0 * x), InstantReadout())
    return net


def sequence(steps=40):
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (steps, nets.BATCH, 7)))


LOSS = SequenceLoss(times_loss)


def computed(net, x=None, steps=None, rule=None, **kept):
    x = sequence() if x is None else x
    (value, aux), grads = safjax.value_and_grad(LOSS, rule or rules.eventprop(), steps, **kept)(net, x)
    nets.assert_fires(aux.rates, low=0.02)
    return value, aux, nnx.as_pure(grads)


def test_the_spikes_are_those_of_the_net():
    _, aux, _ = computed(small(), outputs="all", record=("spikes", "potential", "synaptic_current"))
    run = safjax.simulate(small(), sequence(), record=("spikes", "potential", "synaptic_current"))
    np.testing.assert_array_equal(aux.outputs, run.outputs)
    for kept, simulated in zip(jax.tree.leaves(aux.records), jax.tree.leaves(run.records), strict=True):
        np.testing.assert_allclose(kept, simulated, rtol=1e-11, atol=1e-12)


def test_currents_in_other_units():
    """What a decayed input multiplies by 1 − λ the weights can do as well."""
    share = 1 - 0.95
    expected = computed(small(scale=1 / share, decay_input=True))[2]
    grads = computed(small())[2]
    nets.assert_trees_close(jax.tree.map(lambda g: share * g, grads), expected, 1e-9)


def test_a_constant_input_is_one_at_every_step():
    x = 0.3 * sequence()[0] + 0.2
    repeated = computed(small(), jnp.broadcast_to(x, (40, *x.shape)))[2]
    nets.assert_trees_close(computed(small(), x, 40)[2], repeated, 1e-11)


def test_slow_membranes_are_taken_for_faster_ones():
    """A spike that almost did not happen: without a least slope its gradient grows without bound."""
    dense = nnx.Linear(1, 1, use_bias=False, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    dense.kernel[...] = jnp.full((1, 1), 1.0 + 1e-6)
    lif = CurrentLIF(1.0, 0.95, decay_input=True)
    net = nnx.Sequential(Synapse(dense), lif, Synapse(lambda x: 1.0 * x), InstantReadout())
    # A current that stays, a millionth above what holds the membrane at its threshold.
    x, sizes = jnp.zeros((400, 1, 1)).at[0].set(1.0), []
    for slowest in (1e-9, 0.01, 0.1):
        (_, aux), grads = safjax.value_and_grad(LOSS, rules.eventprop(slowest=slowest))(net, x)
        assert round(400 * float(aux.rates["layers.1"])) == 1
        sizes.append(abs(float(grads["layers"][0]["layer"]["kernel"][0, 0])))
    np.testing.assert_allclose(sizes[1] / sizes[2], 10, rtol=1e-6)
    np.testing.assert_allclose(sizes[0] / sizes[1], 0.01 / 1e-6, rtol=1e-3)
