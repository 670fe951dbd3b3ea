"""`safjax.compare`: gradients that are equal by proof have cosine 1, others what autodiff says; nothing is left out."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, PSN, BatchNorm, Dropout, InstantReadout, LeakyReadout, Synapse
from safjax.nn.comparison import likeness, together
from tests import nets
from tests.refused_nets import IMAGE, SEQUENCE, UNITS, chain, dense, given

DETACHED = "bptt(detach_reset=True)"


def square(output, *_):
    return jnp.mean(output**2)


def batch():
    return jnp.asarray(np.random.default_rng(3).normal(0.3, 1.5, (nets.BATCH, 7)))


def compare(net, x, *targets, loss=square, **options):
    return safjax.compare(net, x, *targets, loss=loss, **options)


@functools.cache
def report_of_all():
    return compare(nets.Dense(), batch(), nets.labels(), loss=nets.loss, steps=nets.STEPS)


def gradient(rule):
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, nets.STEPS)(nets.Dense(), batch(), nets.labels())
    nets.assert_fires(aux.rates)
    return float(value), nnx.as_pure(grads)


def assert_same(one, other, references):
    """Everything that is said of two rules is equal."""
    assert one.loss == pytest.approx(other.loss, rel=1e-12)
    for reference in references:
        assert one.together[reference] == pytest.approx(other.together[reference], rel=1e-12)
        for path, like in one.layers[reference].items():
            assert like == pytest.approx(other.layers[reference][path], rel=1e-12), path


@pytest.mark.usefixtures("x64")
def test_gradients_that_are_equal_by_proof():
    report = report_of_all()
    assert list(report) == [*rules.RULES, DETACHED] and report.references == ("bptt", DETACHED)
    exact = {"bptt": ("bptt", "exodus"), DETACHED: ("slayer", DETACHED)}
    for reference, names in exact.items():
        for like in (report[name].layers[reference] for name in names):
            assert len(like) == 6 and "first.layer.kernel" in like
            assert all(abs(part.cosine - 1) < 1e-12 and abs(part.ratio - 1) < 1e-12 for part in like.values())
        assert all(abs(report[name].together[reference].cosine - 1) < 1e-12 for name in names)
    for one, other in (("saf_e", "ottt_o"), ("ottt_a", "ottt_o"), ("exodus", "bptt"), ("slayer", DETACHED)):
        assert_same(report[one], report[other], report.references)
    for name in ("saf_f", "ottt_a", "sltt", "spike_representation", "slayer"):
        assert all(-1 <= like.cosine < 0.9999 for like in (report[name].layers["bptt"]["first.layer.kernel"],)), name


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["sltt", "saf_e"])
def test_the_others_are_what_their_gradients_say(name):
    """Of a rule with an update at every step, the sum of the gradients of all steps."""
    (value, grads), (_, exact) = gradient(rules.RULES[name]()), gradient(rules.bptt())
    row = report_of_all()[name]
    assert row.loss == pytest.approx(value, rel=1e-12)
    assert row.together["bptt"].cosine == pytest.approx(nets.cosine(grads, exact), rel=1e-10)
    one, other = grads["second"]["layer"]["kernel"], exact["second"]["layer"]["kernel"]
    like = row.layers["bptt"]["second.layer.kernel"]
    assert like.cosine == pytest.approx(nets.cosine(one, other), rel=1e-10)
    assert like.ratio == pytest.approx(float(jnp.linalg.norm(one) / jnp.linalg.norm(other)), rel=1e-10)
    assert 0.5 < like.cosine < 0.9999, "a comparison that cannot tell them apart proves nothing"


def test_in_single_precision():
    """The net's, not the comparison's: as in double precision to its rounding."""
    with jax.enable_x64(True):
        wide = report_of_all()
    kinds = {"sltt": rules.sltt(), "saf_e": rules.saf_e()}
    narrow = lambda a: jnp.asarray(a, jnp.float32)  # noqa: E731
    with jax.enable_x64(True):
        net, x = nets.Dense(), batch()
        nnx.update(net, jax.tree.map(narrow, nnx.state(net, nnx.Param)))
        report = compare(net, narrow(x), nets.labels(), loss=nets.loss, steps=nets.STEPS, rules=kinds)
    for name in kinds:
        for path, like in report[name].layers["bptt"].items():
            assert like == pytest.approx(wide[name].layers["bptt"][path], rel=1e-4)


@pytest.mark.usefixtures("x64")
def test_a_gradient_of_zero_has_no_direction():
    net = nets.Dense()
    net.last.layer.kernel.set_value(0 * net.last.layer.kernel[...])
    report = compare(net, batch(), steps=nets.STEPS, rules=[rules.exodus()])
    like = report["exodus"].layers["bptt"]["second.layer.kernel"]
    assert math.isnan(like.cosine) and math.isnan(like.ratio) and like.norm == like.reference_norm == 0
    assert report["exodus"].layers["bptt"]["last.layer.kernel"].cosine == pytest.approx(1, rel=1e-12)
    assert report["exodus"].together["bptt"].cosine == pytest.approx(1, rel=1e-12)
    rows = {line.partition(" ")[0]: line.rpartition("| ")[2].strip() for line in report.by_layer().splitlines()}
    assert rows["second.layer.kernel"] == "–" and rows["last.layer.kernel"] == "1.000"


def test_numbers_that_are_hard_to_multiply():
    small, other = np.array([3e-200, 4e-200]), np.array([4e-200, 3e-200])
    assert likeness(small, other).cosine == pytest.approx(0.96)
    assert likeness(small, 1e300 * other).norm == pytest.approx(5e-200)
    parts = [likeness(small, other), likeness(np.zeros(2), np.array([5e-200, 0]))]
    assert together(parts).cosine == pytest.approx(0.96 * 1 * math.sqrt(0.5))
    assert together(parts).ratio == pytest.approx(math.sqrt(0.5))
    parts = [likeness(np.array([1.0]), np.array([1.0])), likeness(np.array([3.0]), np.array([-1.0]))]
    assert together(parts).cosine == pytest.approx((1 - 3) / math.sqrt(10 * 2))
    assert likeness(small, np.zeros(2)).ratio == math.inf
    assert likeness(-small, small) == pytest.approx((-1, 5e-200, 5e-200))
    assert likeness(np.array([1j, 0]), np.array([0, 1j])).cosine == 0
    for bad in (np.nan, np.inf):
        like = likeness(np.array([1.0, bad]), np.ones(2))
        assert math.isnan(like.cosine) and math.isnan(like.norm)
        assert math.isnan(together([like, likeness(np.ones(2), np.ones(2))]).cosine)


def test_what_does_not_train_is_listed_with_its_first_reason():
    net = chain(dense(jnp.tanh), LIF(floor=-1.0), dense())
    x, steps = given(IMAGE)
    report = compare(net, x, steps=steps, rules=[rules.saf_f(), rules.saf_e(), rules.sltt()])
    assert [row.trains for row in report.values()] == [False, False, True]
    assert report["saf_f"].reasons == safjax.check(net, x, steps)["saf_f"].reasons
    assert report["saf_f"].loss is report["saf_f"].layers is None
    first, *others = report["saf_f"].reasons
    text = " ".join(line.rpartition("| ")[2] for line in repr(report).splitlines())
    assert first.sentence in text and others and others[0].sentence not in text
    assert "as saf_f" in repr(report)


def test_losses_that_a_rule_cannot_have():
    loss = safjax.losses.SequenceLoss(lambda outputs: jnp.mean(outputs**2))
    report = compare(
        chain(dense(), LIF(), dense()), given(SEQUENCE)[0], loss=loss, rules=[rules.sltt(), rules.exodus()]
    )
    assert report["exodus"].trains and not report["sltt"].trains
    assert report["sltt"].reasons[0].path == "the net itself"
    assert "takes its loss step by step" in report["sltt"].reasons[0].sentence


def test_rules_that_draw():
    net, (x, steps) = chain(dense(), LIF(), dense()), given(IMAGE)
    asked = {"all": rules.sltt(), "drawn": rules.sltt(sampled=steps), "too many": rules.sltt(sampled=steps + 1)}
    with pytest.raises(ValueError, match="needs a key"):
        compare(net, x, steps=steps, rules=asked)
    report = compare(net, x, steps=steps, rules=asked, references={"sltt": rules.sltt()}, key=jax.random.key(0))
    assert report["drawn"].together["sltt"].cosine == pytest.approx(1, abs=1e-6)
    assert f"only {steps}" in report["too many"].reasons[0].sentence


def plain(net):
    """Parameters, statistics and the counts of random draws."""
    states = nnx.as_pure([nnx.state(net, kind) for kind in (nnx.Param, nnx.BatchStat, nnx.RngCount)])
    assert all(jax.tree.leaves(state) for state in states)
    return jax.tree.map(np.asarray, states)


def test_the_net_is_left_as_it_is_and_all_rules_see_the_same_masks():
    net = chain(dense(), BatchNorm(UNITS, over="step"), LIF(threshold=0.5), Dropout(0.5, rngs=nnx.Rngs(0)), dense())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, UNITS)))
    before = plain(net)
    asked = {"bptt": rules.bptt(), "remat": rules.bptt(remat=True)}
    like = compare(net, x, rules=asked)["remat"].together["bptt"]
    assert like.norm > 0 and abs(like.cosine - 1) < 1e-6 and abs(like.ratio - 1) < 1e-5
    jax.tree.map(np.testing.assert_array_equal, before, plain(net))
    assert len(before) == 3 and all(getattr(module, "binding", None) is None for _, module in nnx.iter_modules(net))


def test_a_net_that_needs_all_steps_at_once():
    net = chain(dense(), PSN(given(SEQUENCE)[0].shape[0], rngs=nnx.Rngs(0)), dense(), readout=InstantReadout())
    report = compare(net, given(SEQUENCE)[0], rules=[rules.exodus(), rules.bptt()])
    assert report.references == ("bptt(layerwise=True)", "bptt(detach_reset=True, layerwise=True)")
    assert report["exodus"].together["bptt(layerwise=True)"].cosine == pytest.approx(1, abs=1e-6)
    assert not report["bptt"].trains


def test_the_tables_and_the_cost():
    net, (x, steps) = nnx.Sequential(dense(), LIF(), LeakyReadout()), given(IMAGE)
    plain, measured = (compare(net, x, steps=steps, rules=[rules.exodus()], turns=turns) for turns in (0, 3))
    assert plain["exodus"].cost is None and 0 < measured["exodus"].cost.seconds < 10
    assert measured["exodus"].cost.temporary_bytes > 0 and measured["exodus"].cost.compile_seconds > 0
    title, header, row, _, by_layer, *layers = repr(plain).splitlines()
    assert title.startswith("Gradients of all parameters beside those of (1) bptt, (2) bptt(detach_reset=True)")
    assert cells(header) == ["rule", "loss", "cosine (1)", "norm (1)", "cosine (2)", "norm (2)"]
    assert cells(row)[2:4] == ["1.000", "1"] and cells(row)[0] == "exodus" and len(row) == len(header)
    assert by_layer == "Cosine of each parameter's gradient and that of bptt."
    linear = "layers.0.layer.layers.0"
    assert [cells(line)[0] for line in layers] == ["parameter", f"{linear}.bias", f"{linear}.kernel"]
    assert [cells(line)[1] for line in layers] == ["exodus", "1.000", "1.000"]
    header, row = measured.summary().splitlines()[1:]
    assert cells(header)[-3:] == ["ms", "MB", "compile s"] and all(float(cell) > 0 for cell in cells(row)[-3:])


def cells(line):
    return [cell.strip() for cell in line.split("|")]


def test_wide_tables_go_on_below():
    names = {f"a rule with a long name, {number}": rules.exodus() for number in range(6)}
    net, (x, steps) = chain(dense(), LIF(), dense()), given(IMAGE)
    text = compare(net, x, steps=steps, rules=names).by_layer("ratio", DETACHED)
    assert max(map(len, text.splitlines())) <= 100 and all(name in text for name in names)
    assert text.count("parameter ") == 3 and text.startswith("Norm over norm of each parameter's gradient")


@pytest.mark.usefixtures("advice")
def test_mistakes():
    net, (x, steps) = chain(dense(jnp.tanh), LIF(), dense()), given(IMAGE)
    call = functools.partial(compare, net, x, steps=steps)
    for match, options in (
        (r"called the same, sltt, sltt. Name them", {"rules": [rules.sltt(), rules.sltt(sampled=2)]}),
        ("a mapping from names to rules, or a list", {"rules": rules.sltt()}),
        (r"Write sltt\(\) to make one", {"rules": [rules.sltt]}),
        (r"Write sltt\(\) to make one", {"references": {"sltt": rules.sltt}}),
        ("references holds no rule", {"references": {}}),
        ("turns=-1", {"turns": -1}),
        ("turns=True", {"turns": True}),
        ("Rules that train this net as it is: bptt", {"references": [rules.saf_f()]}),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            call(**options)
    with pytest.raises(ValueError, match="An axis of time is missing"):
        compare(net, x)
    with pytest.raises(TypeError):
        compare(Synapse(jnp.tanh), "nothing")


def test_a_loss_that_cannot_be_hashed_is_compiled_each_time():
    class Loss:
        __hash__ = None

        def __call__(self, output):
            return jnp.mean(output**2)

    net, (x, steps) = nnx.Sequential(dense(), LIF(), LeakyReadout()), given(IMAGE)
    report = compare(net, x, steps=steps, loss=Loss(), rules=[rules.sltt()], references=[rules.bptt()])
    assert report["sltt"].loss > 0
