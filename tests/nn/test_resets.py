"""Resets to a value, decayed input and refractory periods in nets: under every rule the gradient of plain loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.neurons import CurrentCell, LIFCell, RefractoryCell, lif_sequence, run_cell
from safjax.nn import ALIF, IF, LIF, PLIF, AfterDecay, CurrentLIF, LeakyReadout, Neuron, Refractory, ResetTo, Synapse
from safjax.surrogate import Sigmoid
from tests import nets
from tests.neuron_kinds import param

pytestmark = pytest.mark.usefixtures("x64")

STEPS, UNITS = 8, 9


class Net(nnx.Module):
    """Two layers that learn a decay, a threshold and a value of reset for each neuron, with decayed input."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.synapses = nnx.List([Synapse(nets._dense(n, UNITS, rngs)) for n in (7, UNITS)])
        self.last, self.readout = Synapse(nets._dense(UNITS, nets.CLASSES, rngs)), LeakyReadout(0.6)
        numbers = {"reset": ResetTo(param(np.linspace(-0.3, 0.1, UNITS))), "decay_input": True}
        decays = param(np.linspace(0.5, 0.8, UNITS))
        self.one = LIF(decays, param(np.linspace(0.2, 0.4, UNITS)), floor=-0.4, **numbers)
        self.two = CurrentLIF(param(0.4), param(0.6), 0.3, reset=ResetTo(param(-0.1)), decay_input=True)

    def __call__(self, x):
        for synapse, neuron in zip(self.synapses, (self.one, self.two), strict=True):
            x = neuron(synapse(x))
        return self.readout(self.last(x))


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.2, 1.0, (STEPS, nets.BATCH, 7)))


def compute(rule, net=None, **options):
    net = Net() if net is None else net
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, **options)(net, inputs(), nets.labels())
    return value, aux, grads


def by_loops(detach):
    """The gradient of `Net` by autodiff of its equations, without the library's neurons and readouts."""
    graph, params = nnx.split(Net())

    def objective(params):
        net = nnx.merge(graph, params)
        states, total, gain, value = [0.0, 0.0, 0.0], 0.0, 0.0, 0.0
        for x in inputs():
            one, two = net.one, net.two
            current, decay, θ = net.synapses[0].layer(x), one.decay[...], one.threshold[...]
            u = decay * states[0] + (1 - decay) * current
            u = jnp.where(u > -0.4, u, -0.4)
            s = Sigmoid()(u - θ)
            z = jax.lax.stop_gradient(s) if detach else s
            states[0] = (1 - z) * u + z * one.reset.value[...]
            states[1] = two.synaptic_decay[...] * states[1] + net.synapses[1].layer(s)
            u = two.decay[...] * states[2] + (1 - two.decay[...]) * states[1]
            s = Sigmoid()(u - 0.3)
            z = jax.lax.stop_gradient(s) if detach else s
            states[2] = (1 - z) * u + z * two.reset.value[...]
            gain, total = 0.6 * gain + 1, 0.6 * total + net.last.layer(s)
            value += nets.loss(total / gain, nets.labels()) / STEPS
        return value

    value, grads = jax.jit(jax.value_and_grad(objective))(params)
    return value, nnx.as_pure(grads)


THROUGH = [
    rules.bptt(remat=True),
    rules.bptt(layerwise=True),
    rules.exodus(),
    rules.exodus(parallel=True),
]
DETACHED = [rules.bptt(detach_reset=True), rules.slayer(), rules.slayer(parallel=True)]


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_of_a_reset_to_a_value_with_decayed_input(detach):
    """Of weights, decays also as 1 − λ, thresholds and values; and the same records under each of these rules."""
    value, expected = by_loops(detach)
    record = ("spikes", "potential", "membrane", "current")
    told = None
    for rule in DETACHED if detach else THROUGH:
        ours, aux, grads = compute(rule, record=record)
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(grads, expected, rtol=1e-10)
        told = aux.records if told is None else told
        nets.assert_trees_close(aux.records, told, rtol=1e-11)


class Scaled(nnx.Module):
    """Decayed input, or currents multiplied by 1 − λ before the neuron: the same where λ is a number."""

    def __init__(self, decay_input):
        rngs = nnx.Rngs(0)
        self.synapses = nnx.List([Synapse(nets._dense(n, UNITS, rngs)) for n in (7, UNITS)])
        self.last, self.readout = Synapse(nets._dense(UNITS, nets.CLASSES, rngs)), LeakyReadout()
        self.factor = 1.0 if decay_input else 0.3
        options = {"max_spikes": 2, "reset": 0.9, "decay_input": decay_input}
        self.neurons = nnx.List([LIF(0.7, param(0.25), **options, scaled=scaled) for scaled in (False, True)])

    def __call__(self, x):
        for synapse, neuron in zip(self.synapses, self.neurons, strict=True):
            x = neuron(self.factor * synapse(x))
        return self.readout(self.last(x))


@pytest.mark.parametrize("name", ["bptt", "exodus", "sltt", "ottt_a", "saf_e", "saf_f", "spike_representation"])
def test_decayed_input_is_a_scaled_current_under_every_rule(name):
    (value, aux, grads), (expected, _, expected_grads) = (
        compute(rules.RULES[name](), Scaled(d)) for d in (True, False)
    )
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    nets.assert_trees_close(grads, expected_grads, rtol=1e-10)


def test_a_decayed_input_is_rounded_once_wherever_it_is_computed():
    """Currents of bfloat16 are multiplied by 1 − λ in float32, step by step and all at once."""
    cell = LIFCell(0.7, 0.8, Sigmoid(), ResetTo(0.0), decay_input=True)
    currents = jnp.asarray(np.random.default_rng(0).normal(1.5, 3.0, (20, 50)), jnp.bfloat16)
    membrane, spikes = run_cell(cell, currents)
    nets.assert_fires({"neuron": spikes.mean()})
    all_at_once = lif_sequence(currents, cell)
    np.testing.assert_array_equal(all_at_once[0], spikes)
    # bfloat16 keeps 8 bits.
    np.testing.assert_allclose(all_at_once[2], membrane, rtol=0, atol=1e-5)
    assert membrane.dtype == jnp.float32


@pytest.mark.parametrize("cell", [LIFCell(0.7, 0.8, Sigmoid()), CurrentCell(LIFCell(0.7, 1.2, Sigmoid()), 0.4)])
@pytest.mark.parametrize("held", [True, False])
def test_a_refractory_period_and_its_gradient(cell, held):
    """n steps without a spike; the membrane held or integrating; the filter goes on; against a loop over neurons."""
    rng = np.random.default_rng(0)
    currents, weights = jnp.asarray(rng.normal(0.8, 1.0, (12, 20))), rng.normal(size=(12, 20))
    lif = cell if isinstance(cell, LIFCell) else cell.lif
    synaptic = 0.0 if cell is lif else cell.synaptic_decay

    def loop(currents, resting):
        m, i, spikes = jnp.zeros(20), jnp.zeros(20), []
        for t, current in enumerate(currents):
            i = synaptic * i + current
            u = lif.decay * m + i
            silent = resting[t]
            u = jnp.where(silent & held, m, u)
            spikes.append(jnp.where(silent, 0, Sigmoid()(u - lif.threshold)))
            m = u - lif.threshold * spikes[-1]
        return jnp.stack(spikes)

    refractory = RefractoryCell(cell, 3, held)
    spikes = run_cell(refractory, currents)[1]
    resting = np.stack([np.asarray(spikes[max(0, t - 3) : t]).any(0) for t in range(12)])
    nets.assert_fires({"neuron": spikes.mean()})
    np.testing.assert_array_equal(spikes, loop(currents, resting))
    assert not (np.asarray(spikes) * resting).any() and resting.mean() > 0.3
    ours, expected = (
        jax.jit(jax.grad(lambda c: jnp.vdot(weights, f(c))))(currents)  # noqa: B023
        for f in (lambda c: run_cell(refractory, c)[1], lambda c: loop(c, resting))
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)


def test_spikes_of_a_synaptic_filters_neurons_have_their_height_under_every_rule():
    """Those of `CurrentLIF` and `Refractory` too, not only where the closed form looks at the membrane alone."""
    outputs = []
    for neuron in (
        CurrentLIF(0.0, 0.7, 0.8, reset=0.5, scaled=True),
        LIF(0.7, 0.8, reset=0.5, scaled=True),
        Refractory(LIF(0.7, 0.8, reset=0.5, scaled=True), 1),
    ):
        outputs.append(safjax.predict(nnx.Sequential(neuron, LeakyReadout(0.7)), 2 * inputs()))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert set(np.unique(outputs[2][0])) == {0.0, 0.4}


def test_a_surrogate_that_mixes_neurons_is_refused_behind_a_filter_too():
    for make in (CurrentLIF, lambda **o: Refractory(LIF(**o), 2)):
        net = nnx.Sequential(make(surrogate=lambda x: jnp.max(x, -1, keepdims=True)), LeakyReadout(0.5))
        with pytest.raises(TypeError, match=r"at 'layers.0': its surrogate returned the shape \[3, 1\]"):
            safjax.predict(net, inputs())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LIF(0.7, reset=ResetTo(param(0.0))), "learns 'reset'.*it would never change"),
        (lambda: ALIF(0.7, adaptation_decay=param(0.9)), "learns 'adaptation_decay'.*it would never change"),
        (lambda: LIF(param(0.7), reset=AfterDecay()), "learns 'decay'.*a part of its gradient is lost"),
    ],
)
def test_sltt_refuses_to_learn_what_acts_on_the_next_step(make, words):
    """Its gradient would be zero, or lack a part: the next step takes the state that it changes for a constant."""
    net = nnx.Sequential(make(), LeakyReadout(0.7))
    report = safjax.check(net, inputs())
    ((path, sentence),) = report["sltt"].reasons
    assert path == "layers.0" and re.search(words, sentence)
    assert "bptt" in report.trained_by


def test_a_reset_after_the_decay_is_that_of_a_number_under_every_rule_that_is_not_told_more():
    """ρ / λ, where λ is one; and a learned decay of 0 acts as 0.001."""
    kinds = LIF(0.7, 0.8, reset=AfterDecay(0.9)), LIF(0.7, 0.8, reset=0.9 / 0.7)
    for rule in (rules.ottt_a(), rules.saf_f(), rules.exodus()):
        nets_of_both = [
            nnx.Sequential(Synapse(nets._dense(7, nets.CLASSES, nnx.Rngs(0))), n, LeakyReadout()) for n in kinds
        ]
        (value, aux, grads), (expected, _, expected_grads) = (compute(rule, net) for net in nets_of_both)
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        nets.assert_trees_close(grads, expected_grads, rtol=1e-11)
    assert float(LIF(param(0.0), reset=AfterDecay()).cell().decay) == 1e-3


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: LIF(reset=0), r"LIF\(reset=0\).*positive.*ResetTo\(0.0\).*reset=None"),
        (lambda: LIF(reset="zero"), r"LIF\(reset='zero'\).*ResetTo\(0.0\)"),
        (lambda: LIF(reset=ResetTo(1.0)), r"LIF\(threshold=1.0, reset=.*fires for ever"),
        (lambda: LIF(reset=ResetTo(True)), r"ResetTo\(True\).*finite Python number"),
        (lambda: LIF(reset=ResetTo(jnp.zeros(3))), r"finite Python number.*nnx.Variable"),
        (lambda: PLIF(reset=ResetTo(0.0), max_spikes=2), r"PLIF\(reset=.*max_spikes=2\).*max_spikes=1"),
        (lambda: IF(reset=ResetTo(0.0), scaled=True), r"IF\(reset=.*scaled=True\).*scaled=False"),
        (lambda: LIF(reset=None, scaled=True), r"LIF\(reset=None, scaled=True\).*scaled=False"),
        (lambda: LIF(reset=AfterDecay(0.0)), r"LIF\(reset=AfterDecay\(times=0.0\)\).*positive"),
        (lambda: LIF(0.0, reset=AfterDecay()), r"LIF\(decay=0.0, reset=AfterDecay.*at least 0.001"),
        (lambda: LIF(reset=AfterDecay(), scaled=True), r"scaled=True\).*scaled=False"),
        (lambda: LIF(1.0, decay_input=True), r"LIF\(decay=1.0, decay_input=True\).*never fire"),
        (lambda: ALIF(reset=ResetTo(2.0)), r"ALIF\(threshold=1.0, reset=.*fires for ever"),
        (lambda: LIFCell(0.5, 1.0, Sigmoid(), ResetTo(0.0), max_spikes=None), r"LIFCell\(reset=.*max_spikes=1"),
        (lambda: Refractory(LIF(), 0), r"Refractory\(steps=0\).*≥ 1"),
    ],
)
def test_bad_numbers(make, match):
    with pytest.raises(ValueError, match=match):
        make()


class Quadratic(Neuron):
    """Of one's own, without a word on what a silent step is."""

    def cell(self):
        return object()


@pytest.mark.parametrize("neuron", [LIF, Quadratic(), Refractory(LIF(), 2), LeakyReadout()])
def test_what_has_no_refractory_period(neuron):
    with pytest.raises(TypeError, match=r"Refractory\(neuron=...\): expected neurons that go step by step.*silent\("):
        Refractory(neuron, 3)
