"""Synapses of several inputs and concatenations, under every rule, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import InstantReadout, Synapse
from tests import joined_nets, nets
from tests.joined_nets import (
    SEW,
    Attention,
    Front,
    Loop,
    Normed,
    TwoInputs,
    UNet,
    Vector,
    Within,
    two_images,
    two_inputs,
    vectors,
)
from tests.tables import BROAD
from tests.test_chunks import chunks, total

pytestmark = pytest.mark.usefixtures("x64")

RULES = {**{name: make() for name, make in BROAD.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}


def gradients(net, rule, x, steps=None, loss=nets.loss):
    (value, aux), grads = nets.value_and_grad(loss, rule, steps, outputs="all")(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    return value, aux, grads


def assert_same(ours, theirs, rtol=1e-12):
    (value, aux, grads), (expected_value, expected_aux, expected) = ours, theirs
    np.testing.assert_allclose(value, expected_value, rtol=rtol)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=10 * rtol, atol=rtol), aux.outputs, expected_aux.outputs
    )
    assert jax.tree.map(float, aux.rates) == pytest.approx(jax.tree.map(float, expected_aux.rates), rel=1e-14)
    nets.assert_trees_close(grads, expected, rtol=rtol)


def plain_unet():
    return UNet(lambda *parts, axis: jnp.concatenate(parts, axis))


PRODUCTS = {
    "residual blocks of spikes": (SEW, functools.partial(SEW, joined_nets.PLAIN), vectors, nets.loss),
    "attention": (Attention, functools.partial(Attention, True), vectors, nets.loss),
    "U-Net, outputs in a dict": (UNet, plain_unet, nets.video, joined_nets.unet_loss),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_every_spike_rule_is_plain_code_step_by_step(kind):
    """Where spikes travel as plain arrays the joining functions are called as they are: no synapse, no message."""
    make, plain, inputs, loss = PRODUCTS[kind]
    expected = gradients(plain(), rules.bptt(), inputs(), loss=loss)
    for name in ("bptt", "exodus"):
        assert_same(gradients(make(), RULES[name], inputs(), loss=loss), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PRODUCTS)
def test_sltt_slayer_and_bptt_layer_by_layer_are_plain_code_too(kind):
    make, plain, inputs, loss = PRODUCTS[kind]
    for ours, theirs in (
        ("bptt, layerwise", rules.bptt()),
        ("sltt", rules.sltt()),
        ("slayer", rules.bptt(detach_reset=True)),
    ):
        expected = gradients(plain(), theirs, inputs(), loss=loss)
        assert_same(gradients(make(), RULES[ours], inputs(), loss=loss), expected)


PUBLISHED = {"ottt_a, untraced": rules.ottt_a(trace_bias=False, trace_input=False)}
QUICK = {("exodus", "sequence"), ("ottt_a", "image"), ("ottt_a, untraced", "image")}
SUMS = [(name, given) for name in (*RULES, *PUBLISHED) for given in ("sequence", "image")]


@pytest.mark.parametrize(
    "name, given", [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in SUMS]
)
def test_of_a_sum_of_maps_it_is_the_sum_of_single_synapses(name, given):
    """Two plain arrays, spikes beside a plain array, spikes beside spikes; an image's first synapse stays at B."""
    x, steps = (two_inputs(), None) if given == "sequence" else (two_images(), nets.STEPS)
    rule = {**RULES, **PUBLISHED}[name]
    expected = gradients(TwoInputs(single=True), rule, x, steps)
    assert_same(gradients(TwoInputs(), rule, x, steps), expected, 1e-11)


@pytest.mark.parametrize(
    "given, readout",
    [
        ("sequence", safjax.nn.LeakyReadout),
        pytest.param("image", safjax.nn.InstantReadout, marks=pytest.mark.slow),
    ],
)
def test_theorem_1_saf_e_equals_ottt_o(given, readout):
    x, steps = (two_inputs(), None) if given == "sequence" else (two_images(), nets.STEPS)
    expected = gradients(TwoInputs(readout=readout), rules.ottt_o(), x, steps)
    assert_same(gradients(TwoInputs(readout=readout), rules.saf_e(), x, steps), expected)
    np.testing.assert_allclose(safjax.predict(TwoInputs(readout=readout), x, steps), expected[1].outputs, rtol=1e-11)


def rate_network(net, x, steps, slope):
    """The gradient of the rate network of `TwoInputs`, r = φ(f(r_in)), at the rates of a plain simulation.

    `slope` maps (weighted mean current v, membrane before the reset u) to φ′(v).
    """
    spikes, decay = safjax.simulate(net, x, steps).spikes, joined_nets.DECAY
    powers = decay ** jnp.arange(steps - 1, -1, -1)
    gain = powers.sum()
    graphdef, params = nnx.split(net)

    def neuron(v, path):
        potential = gain * v - decay * jnp.tensordot(powers[1:], spikes[path][:-1], 1)
        local = jax.lax.stop_gradient(slope(v, potential))
        return jnp.tensordot(powers, spikes[path], 1) / gain + local * (v - jax.lax.stop_gradient(v))

    def objective(params):
        net = nnx.merge(graphdef, params)
        one = neuron(net.enter(x["a"], x["b"]), "lif1")
        two = neuron(net.meet(one, x["a"]), "lif2")
        three = neuron(net.second.layer(two), "lif3")
        beside = jnp.concatenate([two, three, joined_nets.affine(three, two)], -1)
        return nets.loss(net.last.layer(beside), nets.labels())

    return nnx.as_pure(jax.grad(objective)(params))


SLOPES = {
    "saf_f": lambda v, u: joined_nets.LIF().surrogate.slope(u - 1),
    "spike_representation": lambda v, u: jnp.logical_and(v > 0, v < 1) * 1.0,
}


@pytest.mark.parametrize("name", ["saf_f", pytest.param("spike_representation", marks=pytest.mark.slow)])
def test_theorem_2_saf_f_equals_spike_representation(name):
    net, x = TwoInputs(), two_images()
    *_, grads = gradients(net, RULES[name], x, nets.STEPS)
    nets.assert_trees_close(grads, rate_network(net, x, nets.STEPS, SLOPES[name]))


@pytest.mark.parametrize(
    "name", ["ottt_a", *(pytest.param(n, marks=pytest.mark.slow) for n in ("bptt", "saf_f", "ide"))]
)
def test_a_loop_through_a_synapse_of_two_inputs(name):
    """Only the shape of what comes back has to be told."""
    assert_same(gradients(Loop(), RULES[name], vectors()), gradients(Loop(single=True), RULES[name], vectors()), 1e-11)


@pytest.mark.parametrize("name", ["saf_e", pytest.param("sltt", marks=pytest.mark.slow)])
def test_the_shape_of_what_comes_back_is_found_where_it_can_be(name):
    ours = gradients(Within(), RULES[name], vectors())
    assert_same(ours, gradients(Within(plain=name == "sltt"), RULES["sltt" if name == "sltt" else "ottt_o"], vectors()))


@pytest.mark.parametrize("given", ["image", pytest.param("sequence", marks=pytest.mark.slow)])
def test_batch_statistics_within(given):
    """Of each step, beside an input that layer by layer is there once for all steps."""
    x, steps = (two_inputs(), None) if given == "sequence" else (two_images(), nets.STEPS)
    results, means = [], []
    for name in ("bptt", "exodus"):
        net = Normed()
        results.append(gradients(net, RULES[name], x, steps))
        means.append(net.join.layer.layers[2].mean[...])
    assert_same(*results, 1e-11)
    np.testing.assert_allclose(*means, rtol=1e-12)
    assert jnp.abs(means[0]).min() > 1e-3


class Noisy(nnx.Module):
    """A mask of its own at every step, of an image that is the same at all of them."""

    def __init__(self):
        dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
        self.join, self.readout = Synapse(nnx.Sequential(lambda a, b: a + b, dropout)), InstantReadout()

    def __call__(self, x):
        return self.readout(self.join(x, 2 * x))


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_random_numbers_within_are_each_steps_own(name):
    (_, aux), _ = safjax.value_and_grad(jnp.mean, RULES[name], 3, outputs="all")(Noisy(), jnp.ones((4, 50)))
    np.testing.assert_array_equal(jnp.unique(aux.outputs), [0, 6])
    assert all(jnp.mean(aux.outputs[i] != aux.outputs[i - 1]) > 0.3 for i in (0, 1, 2))


@pytest.mark.parametrize("name", ["ottt_a", pytest.param("saf_f", marks=pytest.mark.slow)])
def test_each_plain_array_runs_as_it_does(name):
    """What a learned layer makes of one image, beside what changes from step to step."""
    ours, theirs = (gradients(Front(single), RULES[name], two_images()["a"], nets.STEPS) for single in (False, True))
    assert_same(ours, theirs, 1e-11)


@pytest.mark.parametrize("name", ["ottt_a", *(pytest.param(n, marks=pytest.mark.slow) for n in ("saf_e", "exodus"))])
def test_a_sequence_in_chunks(name):
    (_, aux), expected = safjax.value_and_grad(nets.loss, RULES[name], outputs="all")(
        Vector(), vectors(), nets.labels()
    )
    results = chunks(Vector(), RULES[name], vectors(), (0, 3, 5), outputs="all", record=("spikes",))
    for path, spikes in safjax.simulate(Vector(), vectors()).spikes.items():
        assert 0.05 < spikes.mean() < 0.6
        np.testing.assert_array_equal(jnp.concatenate([a.records["spikes"][path] for _, a, _ in results]), spikes)
    outputs = jnp.concatenate([part.outputs for _, part, _ in results])
    np.testing.assert_allclose(outputs, aux.outputs, rtol=1e-12, atol=1e-14)
    if name == "exodus":
        expected = total([g for *_, g in chunks(Vector(), rules.bptt(), vectors(), (0, 3, 5))])
    nets.assert_trees_close(total([g for *_, g in results]), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["ottt_a", *(pytest.param(n, marks=pytest.mark.slow) for n in ("saf_f", "exodus"))])
def test_a_padded_batch_is_its_members(name):
    x, lengths = vectors(), np.array([2, 5, 2])
    compute = safjax.value_and_grad(nets.loss, RULES[name])
    (value, aux), grads = compute(
        Vector(), jnp.where(np.arange(5)[:, None, None] < lengths[:, None], x, np.nan), nets.labels(), lengths=lengths
    )
    nets.assert_fires(aux.rates)
    parts = [compute(Vector(), x[:n, [i]], nets.labels()[i : i + 1]) for i, n in enumerate(lengths)]
    np.testing.assert_allclose(value, np.mean([v for (v, _), _ in parts]), rtol=1e-12)
    nets.assert_trees_close(grads, jax.tree.map(lambda g: g / 3, total([g for _, g in parts])), rtol=1e-11)


def test_members_begin_anew_with_both_their_inputs():
    first, later = (jax.tree.map(lambda a, cut=cut: a[cut], two_inputs()) for cut in (slice(0, 2), slice(2, 5)))
    net, rule = TwoInputs(), rules.ottt_a()
    state = safjax.simulate(net, first, state=safjax.start(net, first, rule)).state
    assert {"parts.encoder", "parts.encoder1", "meets.encoder1"} <= set(state.variables)
    run = safjax.simulate(net, later, state=safjax.reset(state, jnp.array([True, False, False])))
    fresh, unbroken = safjax.predict(net, later), safjax.predict(net, two_inputs())[2:]
    np.testing.assert_allclose(run.outputs, fresh.at[:, 1:].set(unbroken[:, 1:]), rtol=1e-11)
    assert jnp.abs(fresh - unbroken).max() > 1e-2
