"""Every rule × neuron × topology: trained, or refused with the reason. The table of the README, enforced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import (
    ALIF,
    IF,
    LIF,
    PLIF,
    PSN,
    SPSN,
    CurrentLIF,
    Delay,
    LeakyReadout,
    Recurrent,
    SlidingPSN,
    Synapse,
)
from safjax.nn.binding import bind
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS, DECAY, UNITS = 12, 0.7, 10

RULES = {**{name: make() for name, make in rules.RULES.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
ACCUMULATE = [name for name, rule in RULES.items() if rule.propagation.accumulates]
LAYERWISE = [name for name, rule in RULES.items() if rule.propagation.whole_sequence]
STEPWISE = [name for name in RULES if name not in LAYERWISE]
CLAMPED = [rules.spike_representation().propagation]


def strong(psn):
    """Weights and bias at which it fires in a small net."""
    psn.weight[...], psn.bias[...] = 4 * psn.weight[...], psn.bias[...] + 0.5
    return psn


def param(value):
    return nnx.Param(jnp.asarray(value, jnp.float64))


NEURONS = {
    "LIF": lambda: LIF(DECAY),
    "LIF, learned threshold": lambda: LIF(DECAY, param(np.linspace(0.8, 1.2, UNITS))),
    "LIF, several spikes of learned height": lambda: LIF(DECAY, param(1.1), reset=0.9, max_spikes=2, scaled=True),
    "LIF, floor": lambda: LIF(DECAY, floor=-0.5),
    "PLIF": lambda: PLIF(DECAY, param_dtype=jnp.float64),
    "CurrentLIF": lambda: CurrentLIF(0.4, DECAY, 1.5),
    "ALIF": lambda: ALIF(DECAY),
    "PSN": lambda: strong(PSN(STEPS, param_dtype=jnp.float64, rngs=nnx.Rngs(0))),
    "masked PSN": lambda: strong(PSN(STEPS, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))),
    "SlidingPSN": lambda: SlidingPSN(4, param_dtype=jnp.float64),
    "SPSN": lambda: SPSN(0.5, param(0.6), rngs=nnx.Rngs(0)),
    "IF": lambda: IF(),
}
TOPOLOGIES = ["feed-forward", "recurrent", "feedback"]
BOTH = "recurrent and feedback"


def excited(inputs, rngs):
    dense = nets._dense(inputs, UNITS, rngs)
    dense.bias[...] += 0.3
    return dense


class Branch(nnx.Module):
    """Two layers of one kind of neuron with a skip over the second; recurrent or with feedback if asked for."""

    def __init__(self, make, topology, rngs):
        self.one, self.two = make(), make()
        if "recurrent" in topology:
            self.one = Recurrent(self.one, Synapse(nets._dense(UNITS, UNITS, rngs)))
        self.first, self.second = (Synapse(excited(n, rngs)) for n in (7, UNITS))
        self.last, self.skip = (Synapse(nets._dense(UNITS, nets.CLASSES, rngs)) for _ in range(2))
        self.delay = Delay() if "feedback" in topology else None
        self.back = Synapse(nets._dense(UNITS, UNITS, rngs)) if "feedback" in topology else None

    def __call__(self, x):
        current = self.first(x)
        if self.delay is not None:
            current = current + 0.5 * self.back(self.delay.recall())
        one = self.one(current)
        two = self.two(self.second(one))
        if self.delay is not None:
            self.delay.keep(two)
        return self.last(two) + self.skip(one)


class Net(nnx.Module):
    """Branches of several kinds side by side."""

    def __init__(self, kinds, topology):
        rngs = nnx.Rngs(1)
        self.branches = nnx.Dict({str(i): Branch(NEURONS[kind], topology, rngs) for i, kind in enumerate(kinds)})
        self.readout = LeakyReadout(1.0 if kinds == ["IF"] else DECAY)

    def __call__(self, x):
        currents = [branch(x) for branch in self.branches.values()]
        total = currents[0]
        for current in currents[1:]:
            total = total + current
        return self.readout((1 / len(currents)) * total)


def refusal(rule, kind, topology):
    """What the error must say where a cell is refused; None where it trains."""
    if rule in LAYERWISE and topology != "feed-forward":
        return "Delay at .* feeds a later layer's spikes of one step back into the next"
    if rule in LAYERWISE:
        closed = rule != "bptt, layerwise"
        return "has its gradient in closed form for LIF, IF, PLIF and CurrentLIF" if kind == "ALIF" and closed else None
    if rule in ACCUMULATE:
        return {
            "LIF, floor": "a membrane with a floor forgets.*floor=None",
            "PLIF": "one constant decay for the whole net.*exodus.., bptt.. or sltt",
            "CurrentLIF": "the whole memory of LIF and IF neurons only",
            "ALIF": "one decay for the whole net|the whole memory of LIF and IF neurons only",
            "PSN": "the whole memory of LIF and IF neurons only",
            "masked PSN": "the whole memory of LIF and IF neurons only",
            "SlidingPSN": "the whole memory of LIF and IF neurons only",
            "SPSN": "the whole memory of LIF and IF neurons only",
        }.get(kind)
    if kind in ("PSN", "masked PSN", "SPSN"):
        return "these neurons look at all steps at once: use bptt.layerwise=True"
    return None


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (STEPS, nets.BATCH, 7)))


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("kind", NEURONS)
def test_every_cell_is_taken_or_refused(kind, topology):
    for name, rule in RULES.items():
        expected = refusal(name, kind, topology)
        if expected is None:
            bind(Net([kind], topology), rule, inputs()[0], STEPS, False)
        else:
            with pytest.raises(ValueError, match=expected) as error:
                bind(Net([kind], topology), rule, inputs()[0], STEPS, False)
            assert f"'{rule.name}'" in str(error.value)


CELLS = [(name, "feed-forward") for name in RULES] + [(name, BOTH) for name in STEPWISE]


ALIKE = ("ottt_o", "slayer", "spike_representation", "ide", "bptt, layerwise")
"""Rules whose propagation another one of the table has, or nearly so: among the slow tests."""


@pytest.mark.parametrize(
    "name, topology",
    [pytest.param(*cell, marks=[pytest.mark.slow] if cell[0] in ALIKE else [], id=", ".join(cell)) for cell in CELLS],
)
def test_every_neuron_that_is_taken_learns(name, topology):
    """All of them in one net: they fire, with the spikes of plain simulation, and every parameter has a gradient."""
    kinds = [kind for kind in NEURONS if refusal(name, kind, topology) is None]
    if name in ACCUMULATE:
        kinds.remove("IF")  # has another decay; on its own below
    net = Net(kinds, topology)
    plain = safjax.predict(net, inputs())  # before the next draw of the stochastic ones
    (_, aux), grads = safjax.value_and_grad(nets.loss, RULES[name])(net, inputs(), nets.labels())
    # A stochastic neuron at rest fires half of the time.
    nets.assert_fires(aux.rates, high=0.7 if "SPSN" in kinds else 0.6)
    assert len(aux.rates) == 2 * len(kinds)
    for path, leaf in jax.tree.leaves_with_path(grads):
        assert np.isfinite(leaf).all()
        # A spike's height matters to the clamp only where it saturates: see `test_dsr`.
        if not (RULES[name].propagation in CLAMPED and path[-1].key == "threshold"):
            assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    assert jax.tree.structure(grads) == jax.tree.structure(nnx.as_pure(nnx.state(net, nnx.Param)))
    np.testing.assert_allclose(aux.outputs, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("topology", ["feed-forward", BOTH])
@pytest.mark.parametrize("kinds", [["LIF, learned threshold", "LIF, several spikes of learned height"], ["IF"]])
def test_theorem_1_with_learned_thresholds_and_several_spikes(kinds, topology):
    """SAF-E equals OTTT_O also in the gradients of thresholds and of spike heights."""
    grads = [
        safjax.value_and_grad(nets.loss, rule)(Net(kinds, topology), inputs(), nets.labels())[1]
        for rule in (rules.saf_e(), rules.ottt_o())
    ]
    nets.assert_trees_close(*grads, rtol=1e-11)


@pytest.mark.parametrize("decay", [0.7, 1.0])
def test_dsr(decay):
    """Spike representation with trained thresholds, spikes of height V and firing at α V: the gradient of the net
    r_out = clamp(f(r_in), 0, V) at the simulation's own rates, dr/df = 1[0 < f < V], dr/dV = 1[f ≥ V]."""
    alpha, heights = 0.5, (1.1, np.linspace(0.4, 0.9, 8))

    class DSR(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(2)
            self.first, self.second = Synapse(nets._dense(7, 9, rngs)), Synapse(nets._dense(9, 8, rngs))
            self.lif1, self.lif2 = (
                LIF(decay, param(alpha * h), reset=1 / alpha, scaled=True) for h in (jnp.asarray(h) for h in heights)
            )
            self.last, self.readout = Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout()

        def __call__(self, x):
            return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))

    net, x, steps = DSR(), jnp.asarray(np.random.default_rng(4).normal(0.1, 0.6, (nets.BATCH, 7))), 8
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.spike_representation(), steps)(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    spikes = safjax.simulate(net, x, steps).spikes
    powers = decay ** jnp.arange(steps - 1, -1, -1)
    graphdef, params = nnx.split(net)

    def objective(params):
        net = nnx.merge(graphdef, params)

        def layer(v, lif, path):
            height = lif.threshold[...] / alpha
            value = jax.lax.stop_gradient(height * jnp.tensordot(powers, spikes[path], 1) / powers.sum())
            clamp = jnp.where(v > 0, jnp.where(v < height, v, height), 0)
            return value + clamp - jax.lax.stop_gradient(clamp)

        one = layer(net.first.layer(x), net.lif1, "lif1")
        two = layer(net.second.layer(one), net.lif2, "lif2")
        return nets.loss(net.last.layer(two), nets.labels())

    nets.assert_trees_close(grads, nnx.as_pure(jax.grad(objective)(params)), rtol=1e-12)
    saturated = [(v >= h).mean() for v, h in [(net.first.layer(x), heights[0])]]
    assert 0 < saturated[0] < 0.9


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
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.exodus())(build(masked), inputs(), nets.labels())
    nets.assert_fires(aux.rates)
    (_, expected_aux), expected = safjax.value_and_grad(nets.loss, rules.bptt())(
        build(sliding), inputs(), nets.labels()
    )
    np.testing.assert_allclose(aux.outputs, expected_aux.outputs, rtol=1e-12)
    for layer in (0, 2):
        nets.assert_trees_close(grads["layers"][layer], expected["layers"][layer], rtol=1e-11)
    gathered = jnp.stack([jnp.trace(grads["layers"][1]["weight"], offset=-lag) for lag in range(3, -1, -1)])
    np.testing.assert_allclose(gathered, expected["layers"][1]["weight"], rtol=1e-11)
    assert float(jnp.abs(grads["layers"][1]["weight"] * future).max()) == 0
    masked.strength.set_value(jnp.zeros(()))
    (_, free), _ = safjax.value_and_grad(nets.loss, rules.exodus())(build(masked), inputs(), nets.labels())
    assert np.abs(free.outputs - aux.outputs).max() > 0.1


def test_parallel_neurons_agree_under_all_layer_by_layer_rules():
    """Without a reset EXODUS, SLAYER and BPTT are one gradient."""
    grads = [
        safjax.value_and_grad(nets.loss, RULES[name])(
            Net(["PSN", "SlidingPSN", "SPSN"], "feed-forward"), inputs(), nets.labels()
        )[1]
        for name in LAYERWISE
    ]
    for other in grads[1:]:
        nets.assert_trees_close(other, grads[0], rtol=1e-12)


def test_spsn_draws_anew_for_every_sequence():
    net = Net(["SPSN"], "feed-forward")
    compute = safjax.value_and_grad(nets.loss, rules.exodus())
    first, second = (compute(net, inputs(), nets.labels())[0][1].outputs for _ in range(2))
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(safjax.predict(net, inputs()), safjax.predict(net, inputs()))


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: PLIF(1.0), r"PLIF\(decay=1.0\).*between 0 and 1"),
        (lambda: LIF(reset=0), r"LIF\(reset=0\).*positive"),
        (lambda: LIF(floor=0.5), r"LIF\(floor=0.5\).*≤ 0"),
        (lambda: LIF(max_spikes=0), r"LIF\(max_spikes=0\).*≥ 1"),
        (lambda: CurrentLIF(1.5), r"CurrentLIF\(synaptic_decay=1.5\).*\[0, 1\]"),
        (lambda: ALIF(strength=-1), r"ALIF\(strength=-1\).*positive"),
        (lambda: PSN(0, rngs=nnx.Rngs(0)), r"PSN\(steps=0\).*≥ 1"),
        (lambda: SlidingPSN(0), r"SlidingPSN\(order=0\).*≥ 1"),
        (lambda: SPSN(2.0, rngs=nnx.Rngs(0)), r"SPSN\(synaptic_decay=2.0\)"),
    ],
)
def test_bad_constants(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_another_length_than_a_psn_was_made_for():
    with pytest.raises(ValueError, match=r"have 5 steps .* expected weight\[5, 5\]"):
        safjax.predict(Net(["PSN"], "feed-forward"), inputs()[:5])


def test_a_learned_threshold_has_a_smallest_value():
    """Driven below zero it acts as 0.001, so that a layer cannot fire at rest by a negative threshold."""
    net = nnx.Sequential(LIF(0.5, param(-3.0)), LeakyReadout())
    assert float(net.layers[0].cell().threshold) == 1e-3
    assert safjax.simulate(net, jnp.zeros((2, 3)), 4).spikes["layers.0"].sum() == 0
