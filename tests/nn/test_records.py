"""What is recorded of neurons: the values of a plain NumPy loop, whatever travels between the layers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.neurons import LIFCell
from safjax.nn import (
    ALIF,
    LIF,
    PSN,
    SPSN,
    CurrentLIF,
    LeakyReadout,
    Neuron,
    Refractory,
    ResetTo,
    SlidingPSN,
    Synapse,
)
from safjax.surrogate import Sigmoid
from tests import nets, neuron_kinds
from tests.tables import DEEP, families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")

ALL = ("spikes", "potential", "membrane", "current")
STEPS = 6


def inputs(steps=STEPS):
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (steps, nets.BATCH, 7)))


@functools.cache
def expected():
    """The records of `nets.Dense`, step by step in NumPy; λ = 0.5, θ = 1."""
    net = nets.Dense()
    layers = {f"lif{i}": getattr(net, name).layer for i, name in ((1, "first"), (2, "second"))}
    found = {name: {path: [] for path in layers} for name in ALL}
    membrane = dict.fromkeys(layers, 0.0)
    for x in np.asarray(inputs()):
        for path, layer in layers.items():
            current = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
            potential = 0.5 * membrane[path] + current
            x = np.where(potential >= 1, 1.0, 0.0)
            membrane[path] = potential - x
            for name, value in zip(ALL, (x, potential, membrane[path], current), strict=True):
                found[name][path].append(value)
    found = {name: {path: np.stack(values) for path, values in paths.items()} for name, paths in found.items()}
    nets.assert_fires({path: spikes.mean() for path, spikes in found["spikes"].items()})
    return found


def assert_expected(records, names):
    assert set(records) == set(names)
    nets.assert_trees_close(records, {name: expected()[name] for name in names}, rtol=1e-12)


@pytest.mark.parametrize(
    ("rule", "names"), [(None, ALL), (rules.sltt(), ALL), (rules.ottt_a(), ALL), (rules.saf_f(), ALL[:3])]
)
def test_simulation_under_every_kind_of_state(rule, names):
    net = nets.Dense()
    state = None if rule is None else safjax.start(net, inputs(), rule)
    assert_expected(safjax.simulate(net, inputs(), record=names, state=state).records, names)


@pytest.mark.parametrize(
    "name",
    rule_by_rule({n: rule for n, rule in neuron_kinds.RULES.items() if n in DEEP or n not in rules.RULES}, families),
)
def test_records_of_training(name):
    """What is recorded of a training step is that of the plain net, under every rule."""
    rule = neuron_kinds.RULES[name]
    names = ALL[:3] if type(rule.propagation).__name__ == "RatePropagation" else ALL
    gradient = safjax.value_and_grad(nets.loss, rule, record=names)
    (_, aux), _ = gradient(nets.Dense(), inputs(), nets.labels())
    assert_expected(aux.records, names)


class Kinds(nnx.Module):
    """Neurons of several kinds in a row, that go step by step."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        held = Refractory(LIF(0.7, 0.4, reset=ResetTo(0.1), decay_input=True), 2)
        kinds = CurrentLIF(0.4, 0.7), ALIF(0.7), SlidingPSN(3, param_dtype=jnp.float64), LIF(0.7, floor=-0.5), held
        self.neurons = nnx.List([*kinds, Refractory(ALIF(0.7), 1, integrate=True)])
        self.synapses = nnx.List([Synapse(neuron_kinds.excited(n, rngs)) for n in (7, 10, 10, 10, 10, 10)])
        self.readout = LeakyReadout(0.7)

    def __call__(self, x):
        for synapse, neuron in zip(self.synapses, self.neurons, strict=True):
            x = neuron(synapse(x))
        return self.readout(x)


NAMES = (*ALL, "synaptic_current", "adaptation", "refractory")


@functools.cache
def of_kinds():
    records = safjax.simulate(Kinds(), inputs(), record=NAMES).records
    nets.assert_fires({path: s.mean() for path, s in records["spikes"].items()}, high=0.75)
    return jax.tree.map(np.asarray, records)


def test_names_that_only_some_layers_have_are_recorded_there():
    paths = {name: {path[-1] for path in paths} for name, paths in of_kinds().items()}
    assert paths == {
        "spikes": set("012345"),
        "current": set("012345"),
        "potential": set("012345"),
        "membrane": set("01345"),
        "synaptic_current": {"0"},
        "adaptation": {"1", "5"},
        "refractory": {"4", "5"},
    }


def test_each_kind_by_its_own_equations():
    def of(layer):
        return {name: paths.get(f"neurons.{layer}") for name, paths in of_kinds().items()}

    def before(x):
        return np.concatenate([np.zeros_like(x[:1]), x[:-1]])

    close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    lif, adaptive, sliding, floored, held, integrating = map(of, range(6))
    close(lif["synaptic_current"], 0.4 * before(lif["synaptic_current"]) + lif["current"])
    close(lif["potential"], 0.7 * before(lif["membrane"]) + lif["synaptic_current"])
    close(lif["membrane"], lif["potential"] - lif["spikes"])
    close(adaptive["adaptation"], before(0.9 * adaptive["adaptation"] + adaptive["spikes"]))
    close(adaptive["spikes"], adaptive["potential"] >= 1 + 0.1 * adaptive["adaptation"])
    close(adaptive["potential"], 0.7 * before(adaptive["membrane"]) + adaptive["current"])
    current = sliding["current"]
    close(sliding["potential"], current + before(current) / 2 + before(before(current)) / 4 - 1)
    close(sliding["spikes"], sliding["potential"] >= 0)
    close(floored["potential"], np.maximum(0.7 * before(floored["membrane"]) + floored["current"], -0.5))
    assert (floored["potential"] == -0.5).any()
    silent = held["refractory"] > 0
    # A decayed input is 1 − λ times the current, and the current is what the synapse gave.
    driven = 0.7 * before(held["membrane"]) + 0.3 * held["current"]
    close(held["potential"], np.where(silent, before(held["membrane"]), driven))
    close(held["spikes"], ~silent & (held["potential"] >= 0.4))
    close(held["membrane"], np.where(held["spikes"] > 0, 0.1, held["potential"]))
    close(held["refractory"], before(np.where(held["spikes"] > 0, 2, np.maximum(held["refractory"] - 1, 0))))
    silent = integrating["refractory"] > 0
    close(silent, before(integrating["spikes"]) > 0)
    close(integrating["potential"], 0.7 * before(integrating["membrane"]) + integrating["current"])
    above = integrating["potential"] >= 1 + 0.1 * integrating["adaptation"]
    close(integrating["spikes"], ~silent & above)
    assert (silent & above).any()
    close(integrating["membrane"], integrating["potential"] - integrating["spikes"])
    close(integrating["adaptation"], before(0.9 * integrating["adaptation"] + integrating["spikes"]))


def test_layer_by_layer_every_kind_records_what_it_does_step_by_step():
    """Those of the closed form are compared in `test_records_of_training` and in the losses of records."""
    gradient = safjax.value_and_grad(lambda o: o.mean(), rules.bptt(layerwise=True), record=NAMES)
    nets.assert_trees_close(gradient(Kinds(), inputs())[0][1].records, of_kinds(), rtol=1e-12)


def test_neurons_of_all_steps_at_once():
    psn = neuron_kinds.strong(PSN(STEPS, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    spsn = SPSN(0.5, 0.6, rngs=nnx.Rngs(1))
    net = nnx.Sequential(psn, spsn, LeakyReadout(0.5))
    names = ("spikes", "potential", "current")
    records = jax.tree.map(np.asarray, safjax.simulate(net, inputs(), record=names).records)
    first, second = ({name: records[name][f"layers.{i}"] for name in names} for i in (0, 1))
    np.testing.assert_array_equal(first["current"], inputs())
    drive = np.einsum("tj,jbn->tbn", np.asarray(psn.weight[...]), np.asarray(inputs()))
    np.testing.assert_allclose(first["potential"], drive + np.asarray(psn.bias[...])[:, None, None], rtol=1e-12)
    np.testing.assert_array_equal(first["spikes"], first["potential"] >= 0)
    filtered = membrane = 0.0
    for t in range(STEPS):
        filtered = 0.5 * filtered + second["current"][t]
        membrane = 0.6 * membrane + 0.4 * filtered
        np.testing.assert_allclose(second["potential"][t], membrane, rtol=1e-12)


def test_a_static_image_and_a_padded_batch():
    net, names = nets.Dense(), ("potential", "current")
    still = safjax.simulate(net, inputs()[0], STEPS, record=names).records
    assert still["current"]["lif1"].shape == (STEPS, nets.BATCH, 9)
    gradient = safjax.value_and_grad(nets.loss, rules.exodus(), STEPS, record=names)
    nets.assert_trees_close(gradient(net, inputs()[0], nets.labels())[0][1].records, still, rtol=1e-12)
    lengths = jnp.array([STEPS, 2, 4])
    padded = safjax.simulate(net, inputs(), record=("potential",), lengths=lengths).records["potential"]["lif2"]
    own = np.arange(STEPS)[:, None, None] < np.asarray(lengths)[:, None]
    np.testing.assert_allclose(padded, np.where(own, expected()["potential"]["lif2"], 0), rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class Twice(LIFCell):
    """A cell of one's own."""

    name: str = "twice"
    summed: bool = False

    def records(self, before, current, after, spikes):
        return {self.name: 2 * before.sum(0) if self.summed else 2 * before}


class Own(Neuron):
    def __init__(self, **options):
        self.decay, self.options = 0.5, options

    def cell(self):
        return Twice(0.5, 1.0, Sigmoid(), **self.options)


def own(**options):
    return nnx.Sequential(Own(**options), LeakyReadout())


def test_a_cell_of_ones_own_names_its_records():
    x = inputs()
    records = safjax.simulate(own(), x, record=("twice", "spikes")).records
    assert list(records) == ["twice", "spikes"], "in the order in which they were asked for"
    membrane = safjax.simulate(nnx.Sequential(LIF(), LeakyReadout()), x, record=("membrane",)).records["membrane"]
    expected = 2 * np.concatenate([np.zeros_like(x[:1]), membrane["layers.0"][:-1]])
    np.testing.assert_allclose(records["twice"]["layers.0"], expected, rtol=1e-12)
    gradient = safjax.value_and_grad(lambda o: o.mean(), rules.bptt(layerwise=True), record=("twice",))
    nets.assert_trees_close(gradient(own(), x)[0][1].records, {"twice": records["twice"]}, rtol=1e-12)


@pytest.mark.parametrize(
    ("net", "record", "error", "message"),
    [
        (
            nets.Dense,
            ("spikes", "volt"),
            ValueError,
            "records 'volt'.*'lif1': spikes, current, potential, membrane; 'l",
        ),
        (nets.Dense, ("rate",), ValueError, "No layer of this net records 'rate'"),
        (lambda: nnx.Sequential(LeakyReadout(0.5)), ("potential",), ValueError, "no spiking neurons"),
        (nets.Dense, "spikes", TypeError, r"record='spikes': expected a tuple of names"),
        (nets.Dense, (1,), TypeError, "expected a tuple of names"),
        (lambda: own(name="current"), ("spikes",), ValueError, "Twice records something of its own as 'current'"),
        (lambda: own(summed=True), ("twice",), ValueError, r"'layers.0' records 'twice' of shape \[7\].*\[3, ...\]"),
    ],
)
def test_refused(net, record, error, message):
    with pytest.raises(error, match=message):
        safjax.simulate(net(), inputs(), record=record)


def test_refused_under_a_state_of_sums():
    net = nets.Dense()
    state = safjax.start(net, inputs(), rules.saf_f())
    with pytest.raises(ValueError, match="records 'current'.*spikes, potential, membrane.*sums of currents over time"):
        safjax.simulate(net, inputs(), record=("current",), state=state)


def test_without_neurons_there_are_no_spikes():
    assert safjax.simulate(nnx.Sequential(LeakyReadout(0.5)), inputs()).spikes == {}


def test_records_that_were_not_asked_for_say_how_to():
    with pytest.raises(ValueError, match=r"recorded 'potential'. Write safjax.simulate\(..., record=\('spikes'"):
        safjax.simulate(own(name="potential"), inputs(), record=("potential",)).spikes.keys()
    (_, aux), _ = safjax.value_and_grad(lambda o: o.mean(), rules.sltt())(own(), inputs())
    with pytest.raises(ValueError, match=r"record=\('spikes',\)"):
        aux.records["spikes"]
