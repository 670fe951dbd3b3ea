"""Every rule × neuron × topology: trained, or refused with the reason. The table of docs/layers.md, enforced."""

import jax
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn.binding import bind
from tests import nets
from tests.neuron_kinds import NEURONS, PER_WEIGHT, RULES, STEPS, STEPWISE, Net, inputs, refusal
from tests.tables import refusing, some_slow

pytestmark = pytest.mark.usefixtures("x64")

TOPOLOGIES = ["feed-forward", "recurrent", "feedback"]
BOTH = "recurrent and feedback"
CLAMPED = [rules.spike_representation().propagation]


def alternating(kind, topology):
    """Every kind without a loop and in one of the two."""
    return topology in ("feed-forward", ["recurrent", "feedback"][list(NEURONS).index(kind) % 2])


@pytest.mark.parametrize(
    "kind, topology", some_slow([(kind, topology) for kind in NEURONS for topology in TOPOLOGIES], alternating)
)
def test_every_cell_that_is_refused(kind, topology):
    """In the words of its rule, of which others refuse the same."""
    for name in refusing(RULES):
        expected = refusal(name, kind, topology)
        if expected is not None:
            with pytest.raises(ValueError, match=expected) as error:
                bind(Net([kind], topology), RULES[name], inputs()[0], STEPS, False)
            assert f"'{RULES[name].name}'" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("kind", NEURONS)
def test_every_cell_is_taken_or_refused(kind, topology):
    for name, rule in {**RULES, "eventprop": rules.eventprop()}.items():
        expected = refusal(name, kind, topology)
        if expected is None:
            bind(Net([kind], topology), rule, inputs()[0], STEPS, False)
        else:
            with pytest.raises(ValueError, match=expected) as error:
                bind(Net([kind], topology), rule, inputs()[0], STEPS, False)
            assert f"'{rule.name}'" in str(error.value)


LOOPS = [name for name in STEPWISE if RULES[name].propagation.recalls and not RULES[name].propagation.per_weight]
"""Rules of nets with loops; of those with a derivative for each weight all cells are among the slow tests above."""


@pytest.mark.parametrize(
    "name, topology",
    [(name, "feed-forward") for name in refusing(RULES) if name not in PER_WEIGHT[1:]]
    + [(name, "recurrent") for name in refusing(RULES) if name in LOOPS],
)
def test_every_cell_that_is_taken(name, topology):
    """All kinds in one net that the rule takes: what it refuses it would refuse there too."""
    kinds = [kind for kind in NEURONS if refusal(name, kind, topology) is None]
    if RULES[name].propagation.one_decay:
        kinds.remove("IF")  # has another decay
        bind(Net(["IF"], topology), RULES[name], inputs()[0], STEPS, False)
    bind(Net(kinds, topology), RULES[name], inputs()[0], STEPS, False)


CELLS = [(name, "feed-forward") for name in RULES] + [
    (name, BOTH) for name in STEPWISE if RULES[name].propagation.recalls
]


QUICK = {"feed-forward": ["saf_f", "exodus"], BOTH: ["saf_e", "ottt_a", "bptt"]}
"""A rule of every propagation, once: the others, and the same rules of the other nets, are among the slow tests."""


def learns(kind):
    """Whether it has parameters of its own."""
    return bool(jax.tree.leaves(nnx.state(NEURONS[kind](), nnx.Param)))


@pytest.mark.parametrize(
    "name, topology, which",
    some_slow(
        [(*cell, "all") for cell in CELLS]
        + [(name, "feed-forward", "those that learn") for name in QUICK["feed-forward"]],
        lambda name, topology, which: name in QUICK[topology] and (topology == BOTH or which == "those that learn"),
    ),
)
def test_every_neuron_that_is_taken_learns(name, topology, which):
    """Side by side in one net: they fire, with the spikes of plain simulation, and every parameter has a gradient."""
    kinds = [kind for kind in NEURONS if refusal(name, kind, topology) is None and (which == "all" or learns(kind))]
    if RULES[name].propagation.one_decay and "IF" in kinds:
        kinds.remove("IF")  # has another decay; on its own below
    net = Net(kinds, topology)
    plain = safjax.predict(net, inputs())  # before the next draw of the stochastic ones
    (_, aux), grads = safjax.value_and_grad(nets.loss, RULES[name], outputs="all")(net, inputs(), nets.labels())
    # A stochastic neuron at rest fires half of the time.
    nets.assert_fires(aux.rates, high=0.7 if "SPSN" in kinds else 0.6)
    assert len(aux.rates) == 2 * len(kinds)
    for path, leaf in jax.tree.leaves_with_path(nnx.as_pure(grads)):
        assert np.isfinite(leaf).all()
        # A spike's height matters to the clamp only where it saturates: see `test_dsr`.
        if not (RULES[name].propagation in CLAMPED and path[-1].key == "threshold"):
            assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    assert jax.tree.structure(grads) == jax.tree.structure(nnx.state(net, nnx.Param))
    np.testing.assert_allclose(aux.outputs, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("topology", [pytest.param("feed-forward", marks=pytest.mark.slow), BOTH])
@pytest.mark.parametrize(
    "kinds",
    [
        [
            "LIF, learned threshold",
            "LIF, several spikes of learned height",
            "LIF, no reset",
            "LIF, decayed input",
        ],
        ["IF"],
    ],
)
def test_theorem_1_with_learned_thresholds_and_several_spikes(kinds, topology):
    """SAF-E equals OTTT_O also in the gradients of thresholds and of spike heights."""
    ((_, aux), grads), (_, expected) = (
        safjax.value_and_grad(nets.loss, rule, outputs="all")(Net(kinds, topology), inputs(), nets.labels())
        for rule in (rules.saf_e(), rules.ottt_o())
    )
    nets.assert_fires(aux.rates, high=1)  # Where several spikes a step are possible, each counts.
    nets.assert_trees_close(grads, expected, rtol=1e-11)
