"""Batch statistics that would depend on the rule, or cannot be had under it, are refused by name."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse
from tests import nets
from tests.normalised import (
    ACCUMULATING,
    EVERY,
    INPUTS,
    KINDS,
    LAYERWISE,
    STEPWISE,
    Around,
    Net,
    Stacked,
    norm,
    spike_trains,
)
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")


def tried(make, rule, kind="sequence"):
    """As when it is called, but nothing is compiled."""
    inputs, steps = INPUTS[kind]
    return jax.eval_shape(lambda: safjax.value_and_grad(nets.loss, rule, steps)(make(), inputs(), nets.labels())[1])


@pytest.mark.parametrize("name", some_slow([(name,) for name in STEPWISE], lambda name: name != "bptt, remat"))
@pytest.mark.parametrize(("kind", "path"), [("sequence", "first.layer.layers.1"), ("image", "second.layer.layers.2")])
def test_steps_to_come_are_refused(name, kind, path):
    rule = EVERY[name].name
    with pytest.raises(ValueError, match=rf"over='time'\) at '{path}' .*'{rule}' goes step by step.*over='step'"):
        tried(lambda: Net(over="time"), EVERY[name], kind)


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("kind", ["sequence", "image"])
def test_rules_of_all_steps_are_advised(kind):
    with pytest.raises(ValueError, match=r"goes step by step.*Rules that train this net as it is: exodus, slayer"):
        tried(lambda: Net(over="time"), EVERY["bptt"], kind)


@pytest.mark.parametrize(
    "name, over",
    some_slow(
        [(name, over) for name in ACCUMULATING for over in ("time", "step")],
        lambda name, over: (name in ("ottt_a", "saf_e")) == (over == "time"),
    ),
)
def test_rules_that_accumulate_refuse_training_statistics(name, over):
    with pytest.raises(ValueError, match=rf"at 'first.layer.layers.1' is in training.*'{name}'.*net.eval\(\).*WSConv"):
        tried(lambda: Net(over=over), EVERY[name], "image")


class OwnNorm(nnx.BatchNorm):
    """A layer of one's own."""


class Counted(nnx.Module):
    """Keeps a statistic that is no normalisation's."""

    def __init__(self, features):
        self.largest = nnx.BatchStat(jnp.zeros(features))

    def __call__(self, x):
        self.largest[...] = jnp.maximum(self.largest[...], x.reshape(-1, x.shape[-1]).max(0))
        return x


def two_rules(name, *_):
    """One that goes step by step, one that goes layer by layer; the others are refused in the same place."""
    return name in ("bptt", "exodus")


@pytest.mark.parametrize(
    "name, kind", some_slow([(name, kind) for name in (*STEPWISE, *LAYERWISE) for kind in KINDS], two_rules)
)
def test_a_stock_batch_norm_is_told_to_name_its_steps(name, kind):
    for stock in (nnx.BatchNorm, OwnNorm):
        make = functools.partial(Net, lambda features, *_, stock=stock: stock(features, rngs=nnx.Rngs(0)))
        says = rf"{stock.__name__} at 'first.layer.layers.1'.*BatchNorm\(4, over='step'\).*\(4, over='time'\)"
        with pytest.raises(ValueError, match=says):
            tried(make, EVERY[name], kind)

    def evaluated():
        net = make()
        net.eval()
        return net

    tried(evaluated, EVERY[name], kind)


class Spectral(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.norm = nnx.SpectralNorm(nnx.Linear(7, 7, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.norm(x, update_stats=True)


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_other_statistics_that_would_depend_on_the_rule(name):
    with pytest.raises(ValueError, match=r"Counted at 'first.layer.layers.1' changes its statistics 'largest'"):
        tried(lambda: Net(lambda features, *_: Counted(features)), EVERY[name])
    with pytest.raises(ValueError, match=r"SpectralNorm at 'layers.0.layer.norm' changes its statistics.*Change them"):
        net = nnx.Sequential(Synapse(Spectral()), LIF(), LeakyReadout())
        safjax.value_and_grad(jnp.mean, EVERY[name])(net, jnp.ones((3, 2, 7)))


def test_stock_layers_in_front_are_refused_too():
    """Even of a static image: its statistics are the same, but would count T times or once."""
    stock = functools.partial(Around, front=lambda features, _: nnx.BatchNorm(features, rngs=nnx.Rngs(0)))
    for rule in (rules.bptt(), rules.exodus(), rules.saf_f()):
        with pytest.raises(ValueError, match=r"BatchNorm at 'front' .*over='step'"):
            safjax.value_and_grad(nets.loss, rule, 3)(stock(), jnp.ones((3, 7)), nets.labels())


def test_in_a_loop_over_layers_nobody_knows_whether_steps_are_alike():
    with pytest.raises(ValueError, match=r"layer at 'blocks.layers.0.layer.layers.1' needs all .*inside a loop"):
        safjax.value_and_grad(nets.loss, rules.bptt(), 4)(Stacked("time"), spike_trains()[0], nets.labels())


@pytest.mark.parametrize("place", ["synapse", "front"])
@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_an_axis_that_is_not_the_batch(name, place):
    """What a layer mixes into its batch could be taken for T = 2 steps."""
    mixed = nnx.Sequential(lambda x: x.reshape(-1, 7), norm(7, "step"), lambda x: x.reshape(-1, 14))
    net = nnx.Sequential(Synapse(mixed) if place == "synapse" else mixed, Synapse(lambda x: x), LeakyReadout(0.5))
    with pytest.raises(ValueError, match=r"at 'layers.0.*layers.1' .* \[6, 7\], but its leading axis .* batch, 3"):
        safjax.value_and_grad(jnp.mean, EVERY[name], 2)(net, jnp.ones((3, 14)))


def test_a_single_value_has_no_statistics():
    for rule in (rules.bptt(), rules.exodus()):
        with pytest.raises(ValueError, match=r"over='step'\) at 'layers.0.layer' .* single value"):
            safjax.value_and_grad(jnp.mean, rule)(
                nnx.Sequential(Synapse(norm(7, "step")), LeakyReadout(0.5)), jnp.ones((4, 1, 7))
            )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"over": "batch"}, "over='batch'.*'time'.*'step'"),
        ({"over": "step", "momentum": 1.5}, "momentum=1.5.*in \\[0, 1\\]"),
        ({"over": "step", "deviation": 0}, "deviation=0.*positive"),
        ({"over": "step", "epsilon": -1}, "epsilon=-1.*positive"),
        ({"over": "step", "features": 0}, "features=0.*whole number"),
    ],
)
def test_bad_arguments(options, says):
    with pytest.raises(ValueError, match=says):
        BatchNorm(**{"features": 3, **options})
    with pytest.raises(ValueError, match=re.escape("shape [3, 4], but expected is [B, ..., 3]")):
        BatchNorm(3, over="step")(jnp.ones((3, 4)))


def test_one_layer_at_two_places():
    """Layer by layer, all steps of the first place would count before those of the second."""
    shared = norm(7, "step")
    net = nnx.Sequential(Synapse(nnx.Sequential(shared)), LIF(), Synapse(nnx.Sequential(shared)), LeakyReadout())
    for rule in (rules.bptt(), rules.exodus()):
        with pytest.raises(ValueError, match=r"BatchNorm at 'layers.0.layer.layers.0' is called twice"):
            safjax.value_and_grad(jnp.mean, rule)(net, spike_trains())
    net.eval()
    safjax.predict(net, spike_trains())


def test_weights_that_change_at_every_step():
    """A front of an image is the same at every step only while its weights are."""

    def front(features, over):
        return nnx.Sequential(nets._dense(7, features, nnx.Rngs(0)), norm(features, over))

    for rule in (rules.ottt_a(), rules.bptt()):
        tried(lambda: Around("time", front, after=False), rule, "vectors")
    with pytest.raises(ValueError, match=r"over='time'\) at 'front.layers.1' .*'ottt_o' goes step by step"):
        tried(lambda: Around("time", front, after=False), rules.ottt_o(), "vectors")
