"""Normalisation by the statistics of all time: the same in training and evaluation, whatever rule trains it."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import BatchNorm, InstantReadout, LeakyReadout, OnlineBatchNorm, Synapse, fold_batch_norms
from tests import nets
from tests.normalised import ACCUMULATING, EVERY, INPUTS, KINDS, Net, assert_same, spike_trains, statistics, trained

pytestmark = pytest.mark.usefixtures("x64")
MOMENTUM, EPSILON = 0.8, 1e-3


def norm(features, over="all", seed=0, kind=OnlineBatchNorm, **options):
    del over
    options = {"momentum": MOMENTUM, "epsilon": EPSILON, "param_dtype": nets.DTYPE, **options}
    if kind is OnlineBatchNorm:
        # Three members may by chance be more alike than a twentieth of the usual.
        options = {"ratio": 1e6, **options}
    layer, rng = kind(features, **options), np.random.default_rng(seed)
    for name, (low, high) in {"scale": (0.9, 1.4), "bias": (0.2, 0.9), "mean": (-0.4, 0.4), "var": (1, 2)}.items():
        getattr(layer, name)[...] = jnp.asarray(rng.uniform(low, high, features))
    return layer


def net():
    return Net(norm)


@functools.cache
def step_by_step(kind):
    return trained(net(), rules.bptt(), kind)


@pytest.mark.parametrize(
    ("name", "kind"), [("bptt, layerwise", "sequence"), ("exodus", "image"), ("bptt, remat", "image")]
)
def test_gradient_and_statistics_are_the_same_under_every_rule(name, kind):
    assert_same(trained(net(), EVERY[name], kind), step_by_step(kind), 1e-11)


@pytest.mark.parametrize("name", ["sltt", "slayer"])
def test_statistics_do_not_hang_on_how_a_rule_differentiates(name):
    run, _, stats = trained(net(), EVERY[name])
    np.testing.assert_allclose(run[1], step_by_step("sequence")[0][1], rtol=1e-12)
    nets.assert_trees_close(stats, step_by_step("sequence")[2], 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_training_computes_what_evaluation_does(kind):
    evaluated, (make, steps) = net(), INPUTS[kind]
    evaluated.eval()
    np.testing.assert_array_equal(step_by_step(kind)[0][1], safjax.predict(evaluated, make(), steps))


def single():
    return nnx.Sequential(Synapse(norm(2)), InstantReadout())


def test_a_sequence_enters_for_the_next_one():
    """Outputs and statistics of three sequences of different length, written out."""
    net = single()
    layer = net.layers[0].layer
    scale, bias, mean, var = (np.asarray(v[...]) for v in (layer.scale, layer.bias, layer.mean, layer.var))
    for seed, steps in ((1, 5), (2, 3), (3, 4)):
        x = np.asarray(nets.video(seed, steps)) + seed
        (_, aux), _ = safjax.value_and_grad(jnp.mean, rules.sltt(), outputs="all")(net, x)
        np.testing.assert_allclose(aux.outputs, scale * (x - mean) / np.sqrt(var + EPSILON) + bias, rtol=1e-12)
        means, variances = x.mean((1, 2, 3)), x.var((1, 2, 3))
        own = (variances + means**2).mean(0) - means.mean(0) ** 2
        mean, var = (MOMENTUM * a + (1 - MOMENTUM) * b for a, b in ((mean, means.mean(0)), (var, own)))
        np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-12)
        np.testing.assert_allclose(layer.var[...], var, rtol=1e-11)


def test_the_gradient_at_a_step():
    """The equation of the docstring, for each step of one layer by itself."""
    net, x = single(), nets.video()
    cotangent = jnp.asarray(np.random.default_rng(3).normal(size=x.shape))
    layer = net.layers[0].layer
    scale, mean, var = (np.asarray(v[...]) for v in (layer.scale, layer.mean, layer.var))

    def with_input(shift):
        loss = lambda y, c: jnp.sum(y * c)  # noqa: E731
        run = safjax.value_and_grad(loss, rules.bptt(), mean_over=1)
        return run(single(), x + shift, safjax.losses.Timed(cotangent))

    (_, grads), to_input = with_input(0.0), jax.grad(lambda shift: with_input(shift)[0][0])(jnp.zeros_like(x))
    g, x = np.asarray(cotangent), np.asarray(x)
    axes = {"axis": (1, 2, 3), "keepdims": True}
    mu, s, hat = x.mean(**axes), np.sqrt(x.var(**axes) + EPSILON), np.sqrt(var + EPSILON)
    expected = scale / hat * (g - g.mean(**axes) - (x - mu) / s**2 * (g * (x - mu)).mean(**axes))
    np.testing.assert_allclose(to_input, expected, rtol=1e-10, atol=1e-12)
    of_scale = (g * ((x - mu) / s + (mu - mean) / hat)).sum((0, 1, 2, 3))
    own = nnx.as_pure(grads)["layers"][0]["layer"]
    np.testing.assert_allclose(own["scale"], of_scale, rtol=1e-11)
    np.testing.assert_allclose(own["bias"], g.sum((0, 1, 2, 3)), rtol=1e-11)


def test_a_feature_far_from_its_running_statistics_has_those_of_the_step():
    """Above, below, and within the bounds."""
    x, results = nets.video(channels=3), []
    online, stepwise = norm(3, ratio=20.0), norm(3, kind=functools.partial(BatchNorm, over="step"))
    online.var[...] = jnp.asarray([1e4, 1.5, 1e-4])
    for layer in (online, stepwise):
        net = nnx.Sequential(Synapse(layer), InstantReadout())
        (_, aux), grads = safjax.value_and_grad(lambda y: jnp.mean(y**3), rules.sltt(), outputs="all")(net, x)
        results.append((aux.outputs, nnx.as_pure(grads)["layers"][0]["layer"]))
    (ours, our_grads), (theirs, their_grads) = results
    far, near = np.array([0, 2]), 1
    np.testing.assert_allclose(ours[..., far], theirs[..., far], rtol=1e-12, atol=1e-12)
    assert np.abs(ours[..., near] - theirs[..., near]).max() > 0.1
    for name in ("scale", "bias"):
        np.testing.assert_allclose(our_grads[name][far], their_grads[name][far], rtol=1e-11)


@pytest.mark.parametrize("name", ["sltt", "exodus"])
def test_a_sequence_in_chunks_is_one_sequence(name):
    """The statistics of its start hold to its end, and those of all its steps are taken in once."""
    whole, cut, x = net(), net(), nets.video(steps=6)
    evaluated = net()
    evaluated.eval()
    compute = safjax.value_and_grad(nets.loss, EVERY[name], mean_over=6, outputs="all")
    _, expected = compute(whole, x, nets.labels())
    state, total, outputs = safjax.start(cut, x[:3], EVERY[name]), None, []
    for piece in (x[:3], x[3:]):
        (_, aux), grads = compute(cut, piece, nets.labels(), state=state)
        state, outputs = aux.state, [*outputs, aux.outputs]
        total = grads if total is None else jax.tree.map(jnp.add, total, grads)
    np.testing.assert_allclose(jnp.concatenate(outputs), safjax.predict(evaluated, x), rtol=1e-11)
    nets.assert_trees_close(statistics(cut), statistics(whole), 1e-12)
    if name == "sltt":
        nets.assert_trees_close(total, expected, 1e-11)
    with pytest.raises(ValueError, match=r"state at 'first.layer.layers.1.of_sequence' has the shape"):
        safjax.reset(state, jnp.arange(nets.BATCH) == 1)


def test_an_update_at_every_step_and_steps_at_random():
    """However a schedule goes through the steps, each is taken in once, at the running statistics of the start."""
    expected = step_by_step("sequence")[2]
    schedules = safjax.schedules.EachStepUpdated(), safjax.schedules.EachStep(2)
    for schedule in schedules:
        rule = rules.Rule("each", safjax.rules.spikes.SpikePropagation(), schedule)
        step = safjax.train_step(nets.loss, rule, optax.sgd(0.0))
        made = net()
        key = jax.random.key(0) if schedule.draws else None
        made, _, _ = step(made, step.init(made), nets.video(), nets.labels(), key=key)
        nets.assert_trees_close(statistics(made), expected, 1e-12)


def test_after_evaluation_it_is_an_affine_map():
    """Rules that accumulate train with it, and it folds into the convolution before it."""
    made = net()
    made.eval()
    before = statistics(made)
    folded = fold_batch_norms(made)
    np.testing.assert_allclose(safjax.predict(folded, nets.video()), safjax.predict(made, nets.video()), rtol=1e-11)
    safjax.value_and_grad(nets.loss, rules.saf_e())(made, nets.video(), nets.labels())
    nets.assert_trees_close(statistics(made), before, 0.0)


def tried(make, rule, kind="sequence", **more):
    inputs, steps = INPUTS[kind]
    gradient = safjax.value_and_grad(nets.loss, rule, steps)
    return jax.eval_shape(lambda: gradient(make(), inputs(), nets.labels(), **more)[1])


REFUSED = [*ACCUMULATING, "rate_backprop, layerwise"]


@pytest.mark.parametrize("name", [n for n in REFUSED if n in ("ottt_a", "saf_e", "rate_backprop") or "layerwise" in n])
def test_rules_of_sums_and_means_refuse_it(name, advice):
    rule = {**EVERY, "rate_backprop, layerwise": rules.rate_backprop(layerwise=True)}[name]
    says = rf"OnlineBatchNorm at 'first.layer.layers.1' is in training.*'{rule.name}'.*net.eval\(\).*sltt\(\).*: .*sltt"
    with pytest.raises(ValueError, match=says):
        tried(net, rule, "image")


def test_check_names_the_rules_of_spikes():
    trained_by = safjax.check(net(), nets.video()).trained_by
    assert set(trained_by) == {"bptt", "sltt", "exodus", "slayer", "bptt(layerwise=True)"}


def test_where_it_cannot_stand():
    with pytest.raises(ValueError, match=r"OnlineBatchNorm at 'layers.0' stands outside of a Synapse.*Put it into one"):
        tried(lambda: nnx.Sequential(norm(7), nets.Dense()), rules.sltt(), "vectors")
    shared = norm(7)
    twice = nnx.Sequential(Synapse(shared), Synapse(nnx.Sequential(shared)), LeakyReadout(0.5))
    with pytest.raises(ValueError, match=r"OnlineBatchNorm at 'layers.0.layer' is called twice"):
        tried(lambda: twice, rules.bptt(), "vectors")
    with pytest.raises(ValueError, match=r"layer at 'first.layer.layers.1' is in training.*with lengths.*net.eval\(\)"):
        tried(net, rules.sltt(), lengths=jnp.array([3, 5, 2]))
    with pytest.raises(ValueError, match="OnlineBatchNorm at 'layers.0.layer' .* single value"):
        alone = nnx.Sequential(Synapse(norm(7)), LeakyReadout(0.5))
        safjax.value_and_grad(jnp.mean, rules.sltt())(alone, spike_trains()[:, :1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 1}, "ratio=1.*above 1.*50.0 for events"),
        ({"ratio": float("inf")}, "ratio=inf.*finite"),
        ({"momentum": 1.5}, r"OnlineBatchNorm\(momentum=1.5.*in \[0, 1\]"),
        ({"epsilon": 0}, r"OnlineBatchNorm\(epsilon=0.*positive"),
        ({"features": 0}, "features=0.*whole number"),
    ],
)
def test_bad_arguments(options, says):
    with pytest.raises(ValueError, match=says):
        OnlineBatchNorm(**{"features": 3, **options})
    with pytest.raises(ValueError, match=re.escape("shape [3, 4], but expected is [B, ..., 3]")):
        OnlineBatchNorm(3)(jnp.ones((3, 4)))


def test_memory_does_not_grow_with_time():
    def temporary(steps):
        made = net()
        step = safjax.train_step(nets.loss, rules.sltt(), optax.sgd(0.1), steps=steps)
        lowered = step.lower(made, step.init(made), nets.image(), nets.labels())
        return lowered.compile().memory_analysis().temp_size_in_bytes

    few, many = temporary(8), temporary(64)
    assert few > 1000 and abs(many - few) < 0.02 * few
