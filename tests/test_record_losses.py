"""Losses of what the neurons do: under each rule the gradient that the rule defines, or a refusal by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import SequenceLoss, WithRecords
from safjax.nn import CurrentLIF
from safjax.surrogate import Sigmoid
from tests import nets, neuron_kinds

pytestmark = pytest.mark.usefixtures("x64")

STEPS, DECAY = 6, 0.5
SURROGATE = Sigmoid()
LAYERS = ("lif1", "lif2")


def inputs(steps=STEPS):
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (steps, nets.BATCH, 7)))


def regularised(output, records, labels):
    """Cross-entropy, a wished-for rate of each member, bounded potentials and membranes, each layer by another weight.

    The mean over the batch of a loss of each member.
    """
    total = nets.loss(output, labels)
    for weight, path in zip((0.7, 1.3), LAYERS, strict=True):
        total += weight * jnp.mean((records["spikes"][path].mean(-1) - 0.3) ** 2)
        total += weight * jnp.mean(0.2 * records["potential"][path] ** 2)
        total += weight * jnp.mean(0.1 * jnp.sin(records["membrane"][path]))
    return total


LOSS = WithRecords(regularised, ("spikes", "potential", "membrane"))


def with_currents(output, records, labels):
    return regularised(output, records, labels) + sum(jnp.mean(c**3) for c in records["current"].values())


CURRENTS = WithRecords(with_currents, (*LOSS.record, "current"))


@functools.cache
def result(rule, loss=LOSS, record=()):
    (value, aux), grads = safjax.value_and_grad(loss, rule, record=record)(nets.Dense(), inputs(), nets.labels())
    nets.assert_fires(aux.rates)
    return value, aux, nnx.to_pure_dict(grads)


def weights():
    params = nnx.to_pure_dict(nnx.state(nets.Dense(), nnx.Param))
    return [params[name]["layer"] for name in ("first", "second", "last")]


def named(gradients):
    return {name: {"layer": g} for name, g in zip(("first", "second", "last"), gradients, strict=True)}


def one_step(weights, state, x, shifts=(0.0, 0.0, 0.0), detach_reset=False):
    """One step of `nets.Dense` by hand: state, output, records. `shifts` are added to the currents."""
    membranes, mean, gain = state
    records, after = {name: {} for name in CURRENTS.record}, []
    for layer, path, membrane, shift in zip(weights, LAYERS, membranes, shifts, strict=False):
        current = x @ layer["kernel"] + layer["bias"] + shift
        potential = DECAY * membrane + current
        x = SURROGATE(potential - 1)
        after.append(potential - (jax.lax.stop_gradient(x) if detach_reset else x))
        for name, value in zip(CURRENTS.record, (x, potential, after[-1], current), strict=True):
            records[name][path] = value
    gain = DECAY * gain + 1
    mean = mean + (x @ weights[2]["kernel"] + weights[2]["bias"] + shifts[2] - mean) / gain
    return (after, mean, gain), mean, records


def at_rest():
    return [jnp.zeros((nets.BATCH, n)) for n in (9, 8)], jnp.zeros((nets.BATCH, nets.CLASSES)), 0.0


def by_hand(loss, detach_reset=False, detach_state=False):
    """The mean of the steps' losses, and its gradient by autodiff through a Python loop."""

    def total(weights):
        state, value = at_rest(), 0.0
        for x in inputs():
            state = jax.lax.stop_gradient(state) if detach_state else state
            state, output, records = one_step(weights, state, x, detach_reset=detach_reset)
            value += loss(output, records, nets.labels()) / STEPS
        return value

    value, gradients = jax.jit(jax.value_and_grad(total))(weights())
    return value, named(gradients)


def assert_result(actual, expected, rtol):
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-12)
    nets.assert_trees_close(actual[-1], expected[-1], rtol=rtol)


@pytest.mark.parametrize(
    ("rule", "detached"),
    [
        (rules.bptt(), {}),
        (rules.bptt(remat=True), {}),
        (rules.bptt(layerwise=True), {}),
        (rules.exodus(), {}),
        (rules.exodus(parallel=True), {}),
        (rules.slayer(), {"detach_reset": True}),
        (rules.bptt(detach_reset=True), {"detach_reset": True}),
        (rules.bptt(layerwise=True, detach_reset=True), {"detach_reset": True}),
        (rules.sltt(), {"detach_state": True}),
    ],
    ids=["bptt", "remat", "layerwise", "exodus", "parallel", "slayer", "detached", "layerwise, detached", "sltt"],
)
def test_rules_of_spikes_are_autodiff_of_a_loop(rule, detached):
    assert_result(result(rule, CURRENTS), by_hand(with_currents, **detached), 1e-11)


def test_the_closed_form_of_other_neurons():
    """Of a synaptic filter before the membrane, whose own records are part of the loss too."""
    names = ("spikes", "current", "synaptic_current", "potential", "membrane")

    def grads(rule):
        net = nets.Dense()
        net.lif2 = CurrentLIF(0.4, DECAY)
        (value, aux), grads = safjax.value_and_grad(WithRecords(of_leaves, names), rule)(net, inputs(), nets.labels())
        nets.assert_fires(aux.rates)
        return value, grads

    assert_result(grads(rules.exodus()), grads(rules.bptt()), 1e-11)


def of_leaves(output, records, labels):
    return nets.loss(output, labels) + sum(0.3 * jnp.mean((x - 0.1) ** 2) for x in jax.tree.leaves(records))


@pytest.mark.parametrize(
    ("one", "other", "kind", "topology", "rtol"),
    [
        ("saf_e", "ottt_o", "LIF, several spikes of learned height", "feed-forward", 1e-11),
        ("saf_e", "ottt_o", "LIF, learned threshold", "recurrent with feedback", 1e-11),
        ("exodus", "bptt", "LIF, several spikes of learned height", "feed-forward", 1e-11),
        ("bptt, layerwise", "bptt", "SlidingPSN", "feed-forward", 1e-11),
    ],
)
def test_rules_that_agree_do_so_on_losses_of_records(one, other, kind, topology, rtol):
    """With what neurons learn, several spikes a step, loops."""
    names = ("spikes", "potential") if kind == "SlidingPSN" else LOSS.record
    x, loss = neuron_kinds.inputs(), WithRecords(of_leaves, names)

    def grads(name):
        gradient = safjax.value_and_grad(loss, neuron_kinds.RULES[name])
        (value, aux), grads = gradient(neuron_kinds.Net([kind], topology), x, nets.labels())
        nets.assert_fires(aux.rates, high=0.9)
        return value, grads

    assert_result(grads(one), grads(other), rtol)


@functools.cache
def errors():
    """δ[t] of each step by spatial back-propagation alone, the input and spikes of each layer, and the values."""

    def step(shifts, state, x):
        state, output, records = one_step(weights(), state, x, shifts)
        return regularised(output, records, nets.labels()), (state, records["spikes"])

    gradient = jax.jit(jax.value_and_grad(step, has_aux=True))
    zeros = tuple(jnp.zeros((nets.BATCH, n)) for n in (9, 8, nets.CLASSES))
    state, values, deltas, travelling = at_rest(), [], [], []
    for x in inputs():
        (value, (state, spikes)), delta = gradient(zeros, state, x)
        values.append(value)
        # The readout is a membrane too: its error at the mean current 1 / Λ is already part of δ.
        deltas.append(delta)
        travelling.append((x, spikes["lif1"], spikes["lif2"]))
    return values, deltas, travelling


def traced(steps, share):
    """Σ δ[t] ⊗ a[t] and Σ Λ[t] δ[t] over these steps, times `share`."""
    _, deltas, travelling = errors()
    gradients = []
    for layer in range(3):
        trace, gain, kernel, bias = 0.0, 0.0, 0.0, 0.0
        for t in range(STEPS):
            trace, gain = DECAY * trace + travelling[t][layer], DECAY * gain + 1
            if t in steps:
                kernel += share * trace.T @ deltas[t][layer]
                bias += share * gain * deltas[t][layer].sum(0)
        gradients.append({"bias": bias, "kernel": kernel})
    return named(gradients)


@pytest.mark.parametrize("make", [rules.ottt_a, rules.ottt_o, rules.saf_e], ids=lambda make: make.__name__)
def test_rules_with_traces_are_the_explicit_sum(make):
    expected = np.mean(errors()[0]), traced(range(STEPS), 1 / STEPS)
    assert_result(result(make()), expected, 1e-11)


def test_theorem_1_holds_for_losses_of_records():
    assert_result(result(rules.saf_e()), result(rules.ottt_o()), 1e-12)


def test_saf_f_takes_the_records_of_the_last_step():
    assert_result(result(rules.saf_f()), (errors()[0][-1], traced([STEPS - 1], 1)), 1e-11)


def test_an_update_at_every_step():
    """So small that the weights stay as they are: the change is the gradient."""
    for make in (rules.ottt_o, rules.saf_e):
        step, net = safjax.train_step(LOSS, make(), optax.sgd(1e-7), record=("spikes",)), nets.Dense()
        after, _, (_, aux) = step(net, step.init(net), inputs(), nets.labels())
        assert aux.records["spikes"]["lif1"].shape == (STEPS, nets.BATCH, 9)
        moved = jax.tree.map(lambda a, b: 1e7 * (a - b), *(nnx.as_pure(nnx.state(n, nnx.Param)) for n in (net, after)))
        nets.assert_trees_close(moved, nnx.State(result(make())[-1]), rtol=1e-5)


def test_records_of_the_whole_sequence():
    def loss(outputs, records, labels):
        return jnp.mean(jax.vmap(with_currents, (0, 0, None))(outputs, records, labels))

    whole = WithRecords(SequenceLoss(loss), CURRENTS.record)
    for rule in (rules.bptt(), rules.exodus()):
        assert_result(result(rule, whole), by_hand(with_currents), 1e-11)
    with pytest.raises(ValueError, match="looks at the whole output sequence, but the rule 'sltt'"):
        safjax.value_and_grad(whole, rules.sltt())
    with pytest.raises(ValueError, match="The loss is a SequenceLoss"):
        lengths = jnp.full(nets.BATCH, STEPS)
        safjax.value_and_grad(whole, rules.bptt())(nets.Dense(), inputs(), nets.labels(), lengths=lengths)


@pytest.mark.parametrize("name", ["bptt", "exodus", "ottt_a", "saf_f"])
def test_lengths(name):
    """A padded batch is the mean of its members, each alone and as long as it is."""
    lengths, rule = [6, 3, 6], neuron_kinds.RULES[name]
    gradient = safjax.value_and_grad(LOSS, rule)
    alone = [gradient(nets.Dense(), inputs()[:n, b : b + 1], nets.labels()[b : b + 1]) for b, n in enumerate(lengths)]
    value, grads = (sum(x) / 3 for x in ([v for (v, _), _ in alone], [0.0]))
    grads = jax.tree.map(lambda *g: sum(g) / 3, *(nnx.as_pure(g) for _, g in alone))
    spoilt = jnp.where((jnp.arange(STEPS)[:, None] < jnp.array(lengths))[..., None], inputs(), jnp.nan)
    (padded, _), actual = gradient(nets.Dense(), spoilt, nets.labels(), lengths=jnp.array(lengths))
    assert_result((padded, nnx.as_pure(actual)), (value, grads), 1e-11)


def test_the_loss_and_the_user_may_ask_for_different_records():
    value, aux, grads = result(rules.sltt(), record=("potential", "current"))
    assert set(aux.records) == {"potential", "current"}
    assert_result((value, grads), result(rules.sltt()), 1e-14)
