"""Layers with numbers of their own for each step: which step they are at, under every rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, LeakyReadout, StepWeights, Synapse
from tests import nets
from tests.normalised import (
    ACCUMULATING,
    EPSILON,
    EVERY,
    KINDS,
    MOMENTUM,
    Net,
    Stacked,
    assert_same,
    norm,
    spike_trains,
    trained,
)

pytestmark = pytest.mark.usefixtures("x64")

STEPS = nets.STEPS


def weights(features=None, steps=STEPS, seed=0):
    layer = StepWeights(steps, features, param_dtype=nets.DTYPE)
    layer.weight[...] = jnp.asarray(np.random.default_rng(seed).uniform(0.5, 1.3, layer.weight.shape))
    return layer


def through_time(features, steps=STEPS, seed=0):
    """BNTT: statistics, running ones too, and weights of each step."""
    options = {"momentum": MOMENTUM, "epsilon": EPSILON, "param_dtype": nets.DTYPE}
    layer = BatchNorm(features, over="step", steps=steps, use_scale=False, use_bias=False, **options)
    rng = np.random.default_rng(seed)
    layer.mean[...] = jnp.asarray(rng.uniform(-1, 0.5, (steps, features)))
    layer.var[...] = jnp.asarray(rng.uniform(0.5, 1.5, (steps, features)))
    return nnx.Sequential(layer, weights(features, steps, seed))


def make(features, over, seed=0):
    """Both in one net: BNTT in the first synapse, one weight a step in the second."""
    if features == 4:
        return nnx.Sequential(through_time(features), lambda x: x + 0.3)
    return nnx.Sequential(norm(features, over, seed), weights(seed=seed))


@functools.cache
def step_by_step(kind):
    return trained(Net(make), rules.bptt(), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bptt, layerwise", "exodus"])
def test_the_same_under_every_rule(name, kind):
    assert_same(trained(Net(make), EVERY[name], kind), step_by_step(kind))


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_each_step_has_its_own_weight(name):
    for features in (None, 2):
        layer, x = weights(features), nets.video()
        net = nnx.Sequential(Synapse(layer), LeakyReadout(0.0))
        loss = lambda o: jnp.mean(o**3)  # noqa: E731
        (_, aux), grads = safjax.value_and_grad(loss, EVERY[name], outputs="all")(net, x)
        factor = np.asarray(layer.weight[...]).reshape(STEPS, 1, 1, 1, -1)
        np.testing.assert_allclose(aux.outputs, factor * x, rtol=1e-12)
        slope = 3 * factor**2 * np.asarray(x) ** 3 / x.size
        expected = slope.sum((1, 2, 3)) if features else slope.sum((1, 2, 3, 4))
        np.testing.assert_allclose(grads["layers"][0]["layer"]["weight"][...], expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_bntt_is_written_out(name):
    """In training each step's statistics, in evaluation the running ones of that step."""
    net, x = nnx.Sequential(Synapse(through_time(2)), LeakyReadout(0.0)), np.asarray(nets.video())
    layer, p = net.layers[0].layer.layers
    p, mean, var = (np.asarray(v[...]) for v in (p.weight, layer.mean, layer.var))
    loss = lambda o: jnp.mean(o**2)  # noqa: E731
    (_, aux), _ = safjax.value_and_grad(loss, EVERY[name], outputs="all")(net, x)
    of = x.reshape(STEPS, -1, 2)
    m, v = of.mean(1), of.var(1)

    def normalised(m, v):
        return (p * (1 / np.sqrt(v + EPSILON)))[:, None] * (of - m[:, None])

    np.testing.assert_allclose(aux.outputs.reshape(of.shape), normalised(m, v), rtol=1e-11, atol=1e-12)
    mean, var = MOMENTUM * mean + (1 - MOMENTUM) * m, MOMENTUM * var + (1 - MOMENTUM) * v
    np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-12)
    np.testing.assert_allclose(layer.var[...], var, rtol=1e-12)
    evaluated = safjax.predict(net, x).reshape(of.shape)
    np.testing.assert_allclose(evaluated, normalised(mean, var), rtol=1e-11, atol=1e-12)


class Small(nnx.Module):
    """Its first synapse knows the step twice over, in evaluation."""

    def __init__(self, steps=STEPS):
        dense = nets._dense(7, 9, nnx.Rngs(0))
        self.first, self.lif = (
            Synapse(nnx.Sequential(dense, through_time(9, steps), weights(steps=steps, seed=3))),
            LIF(),
        )
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, nnx.Rngs(1))), LeakyReadout(0.5)
        self.eval()

    def __call__(self, x):
        return self.readout(self.last(self.lif(self.first(x))))


def outputs(net, rule, x, state=None):
    (_, aux), _ = safjax.value_and_grad(nets.loss, rule, outputs="all")(net, x, nets.labels(), state=state)
    return aux


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_the_count_goes_on_from_call_to_call(name):
    """Through chunks, and beyond T, where the last numbers hold."""
    net, short, x = Small(9), Small(4), jnp.concatenate([spike_trains()] * 2)[:9]
    for n in ("weight", "mean", "var"):
        for own, other in zip(nnx.iter_graph(net), nnx.iter_graph(short), strict=True):
            if own[0][-1:] == (n,) and own[1].shape[:1] == (9,):
                own[1][...] = other[1][...][jnp.minimum(jnp.arange(9), 3)]
    expected = outputs(net, EVERY[name], x)
    nets.assert_fires(expected.rates)
    for part in (net, short):
        state, found = safjax.start(part, x[:1], EVERY[name]), []
        for chunk in (x[:3], x[3:6], x[6:]):
            aux = outputs(part, EVERY[name], chunk, state)
            state, found = aux.state, [*found, aux.outputs]
        np.testing.assert_allclose(jnp.concatenate(found), expected.outputs, rtol=1e-12)
    stream = safjax.stream(short)
    state = stream.start(x[0])
    for t in range(9):
        state, output = stream(state, x[t])
        np.testing.assert_allclose(output, expected.outputs[t], rtol=1e-12)


def test_members_count_by_themselves():
    """After a reset, and where they end before others, to go on later."""
    net, x = Small(), spike_trains()
    alone = safjax.predict(net, x)
    begun = safjax.simulate(net, x[:2], state=safjax.start(net, x[:1])).state
    state = safjax.reset(begun, jnp.array([False, True, False]))
    for rule in (rules.bptt(), rules.exodus()):
        found = outputs(net, rule, x[:3], state).outputs
        np.testing.assert_allclose(found[:, 1], alone[:3, 1], rtol=1e-12)
        back = x[:3].at[:, 1].set(0)
        expected = outputs(net, rule, back, begun).outputs
        np.testing.assert_allclose(found[:, ::2], expected[:, ::2], rtol=1e-12)
    lengths = jnp.array([2, 5, 3])
    for whole in (None, safjax.start(net, x[:1])):
        run = safjax.simulate(net, x, lengths=lengths, state=whole)
        for b, n in enumerate(lengths):
            np.testing.assert_allclose(run.outputs[:n, b], alone[:n, b], rtol=1e-12)
    later = safjax.predict(net, x[2:], state=run.state)
    np.testing.assert_allclose(later[:, 0], alone[2:, 0], rtol=1e-12)


class Stacks(Stacked):
    """Of `Stacked`, blocks of other layers."""

    def __init__(self, scanned):
        super().__init__("step")

        def make(rngs):
            dense = nnx.Linear(9, 9, param_dtype=nets.DTYPE, kernel_init=nnx.initializers.normal(0.6), rngs=rngs)
            steps = StepWeights(STEPS, param_dtype=nets.DTYPE)
            return nnx.Sequential(Synapse(nnx.Sequential(dense, lambda x: x + 0.2, steps)), LIF())

        blocks = nnx.split_rngs(splits=2)(nnx.vmap(make, in_axes=(0,), out_axes=0))(nnx.Rngs(1))
        blocks.layers[0].layer.layers[2].weight[...] = jnp.asarray(np.random.default_rng(0).uniform(0.5, 2, (2, STEPS)))
        self.blocks, self.scanned = blocks, scanned
        if not scanned:
            graphdef, state = nnx.split(blocks)
            self.blocks = nnx.List([nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state)) for i in range(2)])


@pytest.mark.slow
def test_in_a_loop_over_layers():
    """Also where members count by themselves."""
    found, x = [], spike_trains()
    for net in (Stacks(True), Stacks(False)):
        first = outputs(net, rules.bptt(), x[:2], safjax.start(net, x[:1]))
        state = safjax.reset(first.state, jnp.array([True, False, False]))
        run = safjax.simulate(net, x[2:], state=state, lengths=jnp.array([3, 2, 3]))
        nets.assert_fires({path: jnp.mean(rate) for path, rate in first.rates.items()})
        found.append((first.outputs, run.outputs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *found)


def tried(net, rule, x=None):
    return jax.eval_shape(
        lambda: safjax.value_and_grad(nets.loss, rule)(net, spike_trains() if x is None else x, nets.labels())[1]
    )


@pytest.mark.parametrize("name", ["ottt_a", "saf_f"])
def test_rules_that_accumulate_refuse_it_by_name(name):
    net = nnx.Sequential(Synapse(nnx.Sequential(nets._dense(7, 4, nnx.Rngs(0)), weights())), LIF(), LeakyReadout())
    with pytest.raises(ValueError, match=rf"StepWeights\(steps=5\) at 'layers.0.layer.layers.1' changes.*'{name}'"):
        tried(net, ACCUMULATING[name])
    with pytest.raises(ValueError, match=r"BatchNorm\(steps=5\) at 'first.layer.layers.1.layers.0' changes from step"):
        tried(Small(), ACCUMULATING[name])


def test_a_report_names_it_alone():
    net = nnx.Sequential(Synapse(nnx.Sequential(nets._dense(7, 4, nnx.Rngs(0)), weights())), LIF(), LeakyReadout())
    report = safjax.check(net, spike_trains())
    for name in ACCUMULATING:
        assert [reason.path for reason in report[name].reasons] == ["layers.0.layer.layers.1"]
    assert report.trained_by == ("bptt", "exodus", "slayer", "sltt", "bptt(layerwise=True)")


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_more_steps_than_it_is_made_for(name):
    for net in (Small(4), nnx.Sequential(Synapse(weights(steps=4)), LeakyReadout(0.5))):
        with pytest.raises(ValueError, match=r"\(steps=4\) at '.*sequences of 4 steps at most.* T = 5.*steps=5"):
            tried(net, EVERY[name])
    with pytest.raises(ValueError, match="4 steps at most"):
        safjax.predict(Small(4), spike_trains())


def test_places_where_no_step_can_be_told():
    shared = weights()
    twice = nnx.Sequential(Synapse(nnx.Sequential(shared)), LIF(), Synapse(nnx.Sequential(shared)), LeakyReadout())
    axes = nnx.Sequential(lambda x: x.reshape(-1), weights(), lambda x: x.reshape(nets.BATCH, -1))
    for rule in (rules.bptt(), rules.exodus()):
        with pytest.raises(ValueError, match=r"StepWeights\(steps=5\) at 'layers.0' stands outside of a Synapse"):
            tried(nnx.Sequential(weights(), LIF(), LeakyReadout()), rule)
        with pytest.raises(ValueError, match=r"StepWeights at 'layers.0.layer.layers.0' is called twice"):
            tried(twice, rule)
        with pytest.raises(ValueError, match=r"at 'layers.0.layer.layers.1' .*leading axis must be the batch, 3"):
            tried(nnx.Sequential(Synapse(axes), LIF(), LeakyReadout()), rule)


def test_statistics_of_each_step_need_members_at_the_same():
    net, x = Small(), spike_trains()
    net.train()
    state = safjax.reset(safjax.start(net, x[:1]), jnp.array([True, False, True]))
    with pytest.raises(
        ValueError, match=r"BatchNorm.* at 'first.*keeps statistics of each step, but after safjax.reset"
    ):
        outputs(net, rules.bptt(), x, state)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: StepWeights(0), "steps=0.*whole number"),
        (lambda: StepWeights(3, 0), "features=0.*whole number"),
        (lambda: BatchNorm(3, over="time", steps=4), "over='time', steps=4.*over='step'"),
        (lambda: BatchNorm(3, over="step", steps=0), "steps=0.*whole number"),
        (lambda: StepWeights(3, 4)(jnp.ones((2, 5))), r"\[2, 5\], but expected is \[B, ..., 4\]"),
    ],
)
def test_bad_arguments(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
