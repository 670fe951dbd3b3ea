"""Errors that end between layers: local losses, and errors that are broadcast, under every rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, InstantReadout, LeakyReadout, Synapse, WSConv, detach, fixed, sinusoidal
from safjax.rules.eprop import BroadcastPropagation
from tests import nets
from tests.neuron_kinds import RULES
from tests.tables import DEEP, some_slow

pytestmark = pytest.mark.usefixtures("x64")

DECAY = 0.6


def all_rules(*quick):
    """Every rule; but for these few, among the slow tests."""
    return pytest.mark.parametrize(
        "name",
        some_slow([(name,) for name in RULES if name not in rules.RULES or name in DEEP], lambda name: name in quick),
    )


def dense(n_in, n_out, rngs):
    return nets._dense(n_in, n_out, rngs)


class Local(nnx.Module):
    """Two layers, each with a fixed readout of its own; between them an error passes or not."""

    def __init__(self, between=detach, layers=2):
        rngs = nnx.Rngs(0)
        self.between, self.count = between, layers
        self.first, self.second = Synapse(dense(7, 10, rngs)), Synapse(dense(10, 9, rngs))
        self.lif1, self.lif2 = LIF(DECAY), LIF(DECAY)
        self.local1, self.local2 = (Synapse(fixed(dense(n, nets.CLASSES, rngs))) for n in (10, 9))
        self.readout1, self.readout2 = LeakyReadout(), LeakyReadout()

    def __call__(self, x):
        one = self.lif1(self.first(x))
        outputs = {"one": self.readout1(self.local1(one))}
        if self.count == 2:
            two = self.lif2(self.second(self.between(one)))
            outputs["two"] = self.readout2(self.local2(two))
        return outputs


def loss(outputs, labels):
    return sum(nets.loss(output, labels) for output in outputs.values())


def sequence(steps=6):
    return jnp.asarray(np.random.default_rng(3).normal(0.3, 1.1, (steps, nets.BATCH, 7)))


@all_rules("ottt_a", "saf_f", "exodus")
def test_each_layer_learns_by_the_losses_in_front_of_the_next_cut(name):
    """The first layer as if there were no second one, the second one as if nothing were cut; spikes are the same."""
    compute, x, y = safjax.value_and_grad(loss, RULES[name]), sequence(), nets.labels()
    (value, aux), grads = compute(Local(), x, y)
    nets.assert_fires(aux.rates)
    (whole, whole_aux), uncut = compute(Local(lambda x: x), x, y)
    _, alone = compute(Local(layers=1), x, y)
    np.testing.assert_allclose(value, whole, rtol=1e-13)
    assert jax.tree.all(jax.tree.map(np.array_equal, aux.rates, whole_aux.rates))
    nets.assert_trees_close({"first": grads["first"]}, {"first": alone["first"]}, rtol=1e-12)
    nets.assert_trees_close({"second": grads["second"]}, {"second": uncut["second"]}, rtol=1e-12)
    # E-prop's errors come from readouts alone: it has the cuts already.
    moved = nets.distance({"first": uncut["first"]}, {"first": grads["first"]})
    assert moved == 0 if isinstance(RULES[name].propagation, BroadcastPropagation) else moved > 0.01


class Broadcast(nnx.Module):
    """Two layers whose errors come from the output by fixed matrices."""

    def __init__(self, readout=InstantReadout, feedback=(1.0, 1.0)):
        rngs = nnx.Rngs(1)
        self.first, self.second = Synapse(dense(7, 10, rngs)), Synapse(dense(10, 9, rngs))
        self.lif1, self.lif2, self.readout = LIF(DECAY), LIF(DECAY), readout()
        self.last = Synapse(dense(9, nets.CLASSES, rngs))
        random = nnx.initializers.normal(0.5)
        self.back1, self.back2 = (
            Synapse(
                fixed(
                    nnx.Linear(n, nets.CLASSES, use_bias=False, kernel_init=random, param_dtype=nets.DTYPE, rngs=rngs)
                )
            )
            for n in (10, 9)
        )
        self.feedback = feedback

    def __call__(self, x):
        one = self.lif1(self.first(x))
        two = self.lif2(self.second(detach(one)))
        current = self.last(detach(two))
        for factor, back, s in zip(self.feedback, (self.back1, self.back2), (one, two), strict=True):
            current = current + factor * back(s - detach(s))
        return self.readout(current)


@all_rules("ottt_a", "rate_backprop, layerwise")
def test_a_broadcast_error_changes_no_output_and_is_linear_in_the_way_back(name):
    compute, x, y = safjax.value_and_grad(nets.loss, RULES[name]), sequence(), nets.labels()
    (value, aux), grads = compute(Broadcast(), x, y)
    nets.assert_fires(aux.rates)
    (plain, _), doubled = compute(Broadcast(feedback=(2.0, -0.5)), x, y)
    np.testing.assert_allclose(value, plain, rtol=1e-14)
    for layer, factor in (("first", 2.0), ("second", -0.5), ("last", 1.0)):
        expected = jax.tree.map(lambda g, f=factor: f * g, nnx.as_pure(grads[layer]))
        nets.assert_trees_close(doubled[layer], expected, rtol=1e-12)


def cross_entropy(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def spatial(net, run, x, labels, trace):
    """dW and db of both layers by hand: δ_l = σ_l ⊙ B_l (softmax(o) − y) / (B T) ⊗ the input's trace of this decay."""
    steps, errors = len(x), []
    for t in range(steps):
        o = net.last.layer(run.spikes["lif2"][t])
        errors.append((jax.nn.softmax(o) - jax.nn.one_hot(labels, nets.CLASSES)) / (len(labels) * steps))
    slope = jax.vmap(jax.vmap(jax.vmap(jax.grad(net.lif1.surrogate))))
    result = {}
    for layer, back, lif, below in (("first", "back1", "lif1", x), ("second", "back2", "lif2", run.spikes["lif1"])):
        kernel = getattr(net, back).layer.kernel[...]
        deltas = slope(run.records["potential"][lif] - 1.0) * (jnp.stack(errors) @ kernel.T)
        powers = jnp.tril(trace ** jnp.abs(jnp.subtract.outer(jnp.arange(steps), jnp.arange(steps))))
        gathered, gains = jnp.tensordot(powers, below, 1), powers.sum(1)[:, None, None]
        kernel_grad = jnp.einsum("tbi,tbj->ij", gathered, deltas)
        result[layer] = {"kernel": kernel_grad, "bias": (gains * deltas).sum((0, 1))}
    return result


@pytest.mark.parametrize(("name", "trace"), [pytest.param("sltt", 0.0, marks=pytest.mark.slow), ("ottt_a", DECAY)])
def test_direct_feedback_alignment_by_hand(name, trace):
    net, x, labels = Broadcast(), sequence(), nets.labels()
    (_, aux), grads = safjax.value_and_grad(cross_entropy, RULES[name])(net, x, labels)
    nets.assert_fires(aux.rates)
    run = safjax.simulate(net, x, record=("spikes", "potential"))
    expected = spatial(net, run, x, labels, trace)
    for layer, value in expected.items():
        nets.assert_trees_close(dict(nnx.as_pure(grads[layer]["layer"])), value, rtol=1e-12)


def test_layers_of_a_chain_and_plain_arrays():
    """It stands in a chain, and cuts what stock layers make before the spiking part."""
    net = nnx.Sequential(dense(7, 7, nnx.Rngs(0)), detach, Synapse(dense(7, 8, nnx.Rngs(1))), LIF(), LeakyReadout())
    for name in ("ottt_a", "saf_f", "bptt"):
        _, grads = safjax.value_and_grad(jnp.mean, RULES[name])(net, sequence())
        assert not np.any(grads["layers"][0]["kernel"]) and np.any(grads["layers"][2]["layer"]["kernel"])


def test_what_is_neither_is_refused():
    with pytest.raises(TypeError, match=r"detach was given a tuple.*tuple\(map\(detach, xs\)\)"):
        detach((jnp.ones(3),))
    with pytest.raises(TypeError, match="fixed.*expected a layer"):
        fixed(jnp.tanh)
    with pytest.raises(ValueError, match=r"sinusoidal: .*\(inputs, classes\).*\(3, 3, 2, 4\)"):
        sinusoidal(None, (3, 3, 2, 4))


def test_fixed_layers_keep_their_weights():
    block = nnx.Sequential(WSConv(2, 3, rngs=nnx.Rngs(0)), nnx.List([nnx.Linear(3, 3, rngs=nnx.Rngs(1))])[0])
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(block))]
    assert fixed(block) is block and not jax.tree.leaves(nnx.state(block, nnx.Param))
    for a, b in zip(before, jax.tree.leaves(nnx.state(block)), strict=True):
        np.testing.assert_array_equal(a, b)


class Cut(nnx.Module):
    """A recurrent layer whose own spikes come back as constants or not, and a random way back for its errors."""

    def __init__(self, cut, broadcast, readout=InstantReadout):
        rngs = nnx.Rngs(2)
        self.cut, self.broadcast = cut, broadcast
        self.enter, self.again = Synapse(dense(7, 12, rngs)), Synapse(dense(12, 12, rngs))
        self.lif, self.delay = LIF(DECAY), Delay()
        self.last, self.readout = Synapse(dense(12, nets.CLASSES, rngs)), readout()
        way = nnx.Linear(12, nets.CLASSES, use_bias=False, param_dtype=nets.DTYPE, rngs=rngs)
        self.back = Synapse(fixed(way))

    def __call__(self, x):
        before = self.delay.recall()
        spikes = self.lif(self.enter(x) + self.again(detach(before) if self.cut else before))
        self.delay.keep(spikes)
        if not self.broadcast:
            return self.readout(self.last(spikes))
        return self.readout(self.last(detach(spikes)) + self.back(spikes - detach(spikes)))


@pytest.mark.parametrize("broadcast", [pytest.param(False, marks=pytest.mark.slow), True])
def test_e_prop_for_lif(broadcast):
    """OTTT with a recurrent layer is e-prop, symmetric or by a random way back: BPTT with recurrence and reset cut.

    Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020, Eq. (1), κ = 0.
    """
    x, y = sequence(9), nets.labels()
    (value, aux), grads = safjax.value_and_grad(nets.loss, rules.ottt_a())(Cut(False, broadcast), x, y)
    nets.assert_fires(aux.rates)
    oracle = safjax.value_and_grad(nets.loss, rules.bptt(detach_reset=True))
    (expected_value, _), expected = oracle(Cut(True, broadcast), x, y)
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    for layer in ("enter", "again"):
        nets.assert_trees_close(grads[layer], expected[layer], rtol=1e-12)
    _, uncut = oracle(Cut(False, broadcast), x, y)
    assert nets.distance(uncut["again"], grads["again"]) > 0.01
