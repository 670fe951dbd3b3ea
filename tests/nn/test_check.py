"""`safjax.check`: its verdicts are what training does, all reasons at once; refusals advise what it confirms."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, PLIF, BatchNorm, InstantReadout, LeakyReadout, verdicts
from tests import neuron_kinds
from tests.refused_nets import IMAGE, NETS, SEQUENCE, UNITS, chain, dense, given, psn
from tests.tables import DEEP, refusing, some_slow

pytestmark = pytest.mark.usefixtures("advice")

RULES = {**{name: make() for name, make in rules.RULES.items()}, "bptt(layerwise=True)": rules.bptt(layerwise=True)}
RULES["rate_backprop(layerwise=True)"] = rules.rate_backprop(layerwise=True)
RULES["eventprop"] = rules.eventprop()
ACCUMULATE = [name for name, r in RULES.items() if r.propagation.one_decay and not r.propagation.per_weight]


@functools.cache
def report_of(name):
    make, shape = NETS[name]
    return safjax.check(make(), *given(shape))


def tried(make, rule, shape):
    """The gradient on shapes alone; what it raises."""
    x, steps = given(shape)
    try:
        jax.eval_shape(lambda x: safjax.value_and_grad(jnp.mean, rule, steps)(make(), x), x)
    except (TypeError, ValueError) as error:
        return error
    return None


SLOW = {
    *("good", "recurrent", "decays", "statistics of each", "dropout of Flax", "learned surrogate", "another length"),
    *("count in Python", "no readout", "called twice", "in a loop over layers", "statistics of Flax"),
}
"""Nets of which another one of the table has the like: among the slow tests."""


@pytest.mark.parametrize(
    "name, asked",
    some_slow(
        [(name, asked) for name in NETS for asked in ("in their own words", "all")],
        lambda name, asked: name not in SLOW and asked == "in their own words",
    ),
)
def test_verdicts_are_what_training_does(name, asked, monkeypatch):
    """And what a refusal advises is what is confirmed, for each rule that refuses by its own words."""
    (make, shape), report = NETS[name], report_of(name)
    assert list(report) == list(RULES)
    advice, advised = verdicts._advice, []

    def once(trial):
        # The same for every rule that refuses the net.
        advised.append(advice(trial)) if not advised else None
        return f"ADVICE {advised[0]}"

    monkeypatch.setattr(verdicts, "_advice", once)
    for rule in RULES if asked == "all" else refusing(RULES):
        verdict = report[rule]
        error = tried(make, RULES[rule], shape)
        assert verdict.trains == (error is None), (rule, verdict, error)
        assert verdict.trains == (not verdict.reasons)
        if error is None:
            continue
        told = str(error).partition("ADVICE")[0].strip()
        if "ADVICE" in str(error):
            assert told in [reason.sentence for reason in verdict.reasons]
        else:
            assert any(told.split("\n")[0][:80] in reason.sentence for reason in verdict.reasons), (rule, verdict)
    if advised:
        named = re.fullmatch(r"Rules that train this net as it is: (.*)\.", advised[0])
        assert tuple(named[1].split(", ") if named else ()) == report.trained_by
        assert named or advised[0].startswith("No rule trains this net as it is: safjax.check(net, x) lists")


def test_what_is_expected_of_some():
    """So that the above does not hold of nothing."""
    names = [name for name in NETS if name not in SLOW] + ["recurrent", "decays"]
    trained = {name: report_of(name).trained_by for name in names}
    plain = ("bptt", "exodus", "slayer", "sltt", "bptt(layerwise=True)")
    by_layer = "rate_backprop(layerwise=True)"
    own = tuple(name for name, rule in RULES.items() if rule.propagation.per_weight)
    assert trained["ReLU"] == (*plain[:-1], *own, plain[-1]) and trained["learned before"] == (*plain, by_layer)
    assert trained["decays"] == (*plain[:-1], "stllr", "rate_backprop", "ostl", plain[-1], by_layer)
    assert trained["neurons"] == ("bptt", "sltt", "stllr", "ostl", "bptt(layerwise=True)")
    assert trained["all steps at once"] == ("exodus", "slayer", "bptt(layerwise=True)")
    assert trained["statistics of all steps"] == (*trained["all steps at once"], by_layer)
    still = rules.Course(decay=0.5, steps=5, batch=3, static=True)
    followed = {name: rule for name, rule in RULES.items() if rule.propagation.follows(still)}
    one_update = tuple(name for name, rule in followed.items() if rule.schedule.updates(2) == 1 and name != "eventprop")
    assert trained["statistics of all steps, learned before"] == one_update
    several = (*plain[:-1], "stllr", "rate_backprop", *own, plain[-1], by_layer)
    assert trained["rounding"] == ("ottt_a", "ottt_o", "approx_otpe", *several)
    assert trained["gated"] == trained["count"] == ("bptt", "sltt")
    assert trained["recurrent"] == tuple(n for n, rule in RULES.items() if rule.propagation.recalls and n in DEEP)
    for name in ("all steps at once, recurrent", "no decay of the readout", "neurons in a synapse", "nothing kept"):
        assert trained[name] == ()


QUICK = [
    *("LIF, no reset", "LIF, set to a learned value", "PLIF, reset after the decay", "SPSN"),
    "refractory ALIF, integrating",
]
"""Kinds of all refusals; the others are among the slow tests."""


@pytest.mark.parametrize(
    ("kind", "topology"),
    [
        *some_slow([(kind, "feed-forward") for kind in neuron_kinds.NEURONS], lambda kind, topology: kind in QUICK),
        ("PLIF", "recurrent and feedback"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_every_kind_of_neuron(kind, topology):
    report = safjax.check(neuron_kinds.Net([kind], topology), neuron_kinds.inputs())
    for name, verdict in report.items():
        expected = neuron_kinds.refusal(name.replace("(layerwise=True)", ", layerwise"), kind, topology)
        assert verdict.trains == (expected is None), (name, verdict)
        assert expected is None or any(re.search(expected, reason.sentence) for reason in verdict.reasons)


def test_all_reasons_at_once():
    net = chain(dense(nnx.relu), LIF(0.5, floor=0.0), dense(jnp.tanh), PLIF(), dense(), LIF(0.9), dense(), psn())
    report = safjax.check(net, *given(SEQUENCE))
    for name in ACCUMULATE:
        found = list(dict.fromkeys(path for path, _ in report[name].reasons))
        assert found == ["the net itself", *(f"layers.{i}" for i in (0, 1, 2, 3, 7, 8))]
        assert all(f"'{name}'" in sentence for _, sentence in report[name].reasons[:-1])
    assert [path for path, _ in report["bptt"].reasons] == ["layers.7", "layers.8"]
    assert [path for path, _ in report["exodus"].reasons] == ["layers.8"]
    assert "LeakyReadout(decay=...)" in report["exodus"].reasons[0].sentence


def test_in_a_loop_over_layers():
    paths = [path for path, _ in report_of("in a loop over layers")["ottt_a"].reasons]
    assert paths == ["blocks.layers.0", "blocks.layers.1"]


def test_what_is_learned_before_neurons_that_are_refused_is_found_too():
    net = chain(nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(0)), dense(jnp.tanh), LIF(floor=-1.0), dense(nnx.relu), LIF())
    reasons = safjax.check(net, *given(SEQUENCE))["saf_f"].reasons
    assert [path for path, _ in reasons] == ["layers.1", "layers.1", "layers.2", "layers.3"]


def test_the_table():
    net = chain(dense(nnx.relu), LIF(), dense())
    rows = repr(safjax.check(net, *given(IMAGE))).splitlines()
    assert rows[0] == "rule                          | trains | reasons"
    assert rows[1].startswith("saf_f                         | no     | layers.0: The rule 'saf_f' sends sums over")
    assert "saf_e                         | no     | as saf_f" in rows
    assert "bptt(layerwise=True)          | yes    |" in rows
    assert max(map(len, rows)) <= 100 and min(map(len, rows)) > 20
    continued = list(itertools.takewhile(lambda row: row.startswith(" "), rows[2:]))
    assert continued and all(row[30] == "|" and row[39] == "|" for row in continued)
    told = " ".join(row[41:] for row in [rows[1], *continued])
    assert told == f"layers.0: {safjax.check(net, *given(IMAGE))['saf_f'].reasons[0].sentence}"


def test_the_net_is_left_as_it_is():
    net = chain(dense(BatchNorm(UNITS, over="step")), LIF(), safjax.nn.Dropout(0.5, rngs=nnx.Rngs(0)))
    before = jax.tree.map(np.asarray, nnx.as_pure(nnx.state(net, nnx.Param, nnx.BatchStat)))
    counts = [int(c) for c in jax.tree.leaves(nnx.as_pure(nnx.state(net, nnx.RngCount)))]
    safjax.check(net, *given(SEQUENCE))
    after = nnx.as_pure(nnx.state(net, nnx.Param, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert counts == [int(c) for c in jax.tree.leaves(nnx.as_pure(nnx.state(net, nnx.RngCount)))]
    assert all(getattr(module, "binding", None) is None for _, module in nnx.iter_modules(net))


@pytest.mark.parametrize(
    ("x", "steps", "match"),
    [
        (jnp.ones((2, 5)), 4, r"The Linear at 'layers.0.layer.layers.0' wants .*, but was given \[2, 5\]"),
        (jnp.ones((4, 3)), None, "An axis of time is missing"),
        (jnp.ones((2, 3)), 0, "steps=0"),
    ],
)
@pytest.mark.parametrize("net", [chain(dense(), LIF()), chain(dense(nnx.relu), LIF(0.4), readout=LeakyReadout(0.5))])
def test_inputs_that_do_not_fit_are_told_as_elsewhere(net, x, steps, match):
    raised = []
    for call in (
        lambda: safjax.check(net, x, steps),
        lambda: safjax.value_and_grad(jnp.mean, rules.bptt(), steps)(net, x),
    ):
        with pytest.raises(ValueError, match=match) as error:
            call()
        raised.append(str(error.value).partition("\n")[0])
    assert raised[0] == raised[1]


def test_a_sequence_that_goes_on_is_advised_by_its_own():
    """Whole-sequence neurons train on whole sequences only."""
    net = chain(psn(), readout=InstantReadout())
    x, _ = given(SEQUENCE)
    assert safjax.check(net, x).trained_by == ("exodus", "slayer", "bptt(layerwise=True)")
    with pytest.raises(ValueError, match="No rule trains this net as it is on a sequence that goes on from call to"):
        safjax.start(net, x, rules.exodus())


def test_a_padded_batch_is_advised_by_its_own():
    """Statistics would count the padding: what trains without lengths is no advice for a call with them."""
    (make, shape), lengths = NETS["statistics of all steps"], jnp.array([2, 4])
    with pytest.raises(ValueError, match="No rule trains this net as it is with lengths"):
        safjax.value_and_grad(jnp.mean, rules.exodus())(make(), given(shape)[0], lengths=lengths)
    with pytest.raises(ValueError, match=r"with lengths: bptt, exodus, slayer, sltt, (\w+, )*bptt\(layerwise=True\)\."):
        safjax.value_and_grad(jnp.mean, rules.saf_f())(NETS["ReLU"][0](), given(shape)[0], lengths=lengths)


def test_inference_is_not_advised_of_training():
    with pytest.raises(ValueError, match=r"LeakyReadout\(decay=...\)") as error:
        safjax.predict(NETS["no decay of the readout"][0](), given(SEQUENCE)[0])
    assert "Rules that train" not in str(error.value) and "No rule" not in str(error.value)
