"""S-TLLR is the loop that is written out, and the rules that it becomes, in float64."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import ops, rules
from safjax.neurons import LIFCell
from safjax.nn import ALIF, LIF, CurrentLIF, LeakyReadout, Recurrent, Refractory, Synapse
from tests import by_hand, nets

pytestmark = pytest.mark.usefixtures("x64")

FACTORS = (0.7, 0.4, 1.3, -0.6)
"""λ₊, λ₋, α₊, α₋."""


def with_factors(factors, first=0):
    return rules.stllr(
        **dict(zip(("pre_decay", "post_decay", "causal", "noncausal"), factors, strict=True)), first=first
    )


@pytest.mark.parametrize("name, first", [("convolution", 2), ("spikes on two ways", 0)])
def test_the_loop_written_out(name, first):
    make, functions, inputs = by_hand.NETS[name]
    (_, aux), grads = safjax.value_and_grad(nets.loss, with_factors(FACTORS, first))(make(), inputs(), nets.labels())
    nets.assert_fires(aux.rates)
    rule = functools.partial(by_hand.STLLR, FACTORS)
    expected = by_hand.gradient(rule, make(), functions, inputs(), nets.labels(), first)
    nets.assert_trees_close(grads, expected, rtol=1e-11)


@pytest.mark.parametrize("make", [nets.Conv, pytest.param(nets.Residual, marks=pytest.mark.slow), nets.Feedback])
def test_with_the_neurons_decay_and_no_second_factor_it_is_ottt(make):
    (_, aux), grads = safjax.value_and_grad(nets.loss, with_factors((0.5, 0.3, 1.0, 0.0)))(
        make(), nets.video(), nets.labels()
    )
    nets.assert_fires(aux.rates)
    compute = safjax.value_and_grad(nets.loss, rules.ottt_a(trace_bias=False))
    nets.assert_trees_close(grads, compute(make(), nets.video(), nets.labels())[1], rtol=1e-12)


class Anything(nnx.Module):
    """What no rule of one decay and affine synapses trains."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        normal = nnx.initializers.normal
        conv = nnx.Conv(2, 4, (3, 3), kernel_init=normal(0.6), param_dtype=nets.DTYPE, rngs=rngs)
        self.first, self.pool = Synapse(conv), Synapse(lambda x: ops.max_pool(x, (2, 2)))
        self.current, self.flat = CurrentLIF(0.4, 0.6, 1.5), Synapse(lambda x: x.reshape(len(x), -1))
        self.second, self.adaptive = (
            Synapse(nets._dense(36, 9, rngs)),
            Recurrent(ALIF(0.8, 0.6), Synapse(nets._dense(9, 9, rngs))),
        )
        self.third, self.resting = (
            Synapse(nets._dense(9, 9, rngs)),
            Refractory(LIF(0.7, 0.4, reset=safjax.nn.ResetTo(0.0)), 1),
        )
        self.both, self.last = Synapse(lambda a, b: a + b - a * b), Synapse(nets._dense(9, nets.CLASSES, rngs))
        self.readout = LeakyReadout(0.9)

    def __call__(self, x):
        x = self.pool(self.current(self.first(x)))
        one = self.adaptive(self.second(self.flat(x)))
        return self.readout(self.last(self.both(one, self.resting(self.third(one)))))


def test_without_traces_it_is_sltt():
    """On a net of several decays, kinds of neurons, a recurrence, a maximum and a logical or."""
    rule = with_factors((0.0, 0.5, 1.0, 0.0))
    (_, aux), grads = safjax.value_and_grad(nets.loss, rule)(Anything(), nets.video(), nets.labels())
    nets.assert_fires(aux.rates)
    _, expected = safjax.value_and_grad(nets.loss, rules.sltt())(Anything(), nets.video(), nets.labels())
    nets.assert_trees_close(grads, expected, rtol=1e-12)


class Behind(nnx.Module):
    """The part of `Anything` behind the maximum."""

    def __init__(self):
        whole = Anything()
        self.flat, self.second, self.adaptive, self.third = whole.flat, whole.second, whole.adaptive, whole.third
        self.resting, self.both, self.last, self.readout = whole.resting, whole.both, whole.last, whole.readout

    def __call__(self, x):
        one = self.adaptive(self.second(self.flat(x)))
        return self.readout(self.last(self.both(one, self.resting(self.third(one)))))


def test_behind_a_maximum_traces_begin_anew():
    """What follows learns as from a sequence that comes from outside."""
    rule = with_factors(FACTORS)
    spikes = safjax.simulate(Anything(), nets.video()).spikes["current"]
    pooled = jax.vmap(lambda s: ops.max_pool(s, (2, 2)))(spikes)
    _, grads = safjax.value_and_grad(nets.loss, rule)(Anything(), nets.video(), nets.labels())
    _, expected = safjax.value_and_grad(nets.loss, rule)(Behind(), pooled, nets.labels())
    for layer in ("second", "adaptive", "third", "last"):
        nets.assert_trees_close(nnx.as_pure(grads)[layer], nnx.as_pure(expected)[layer], rtol=1e-12)


def test_what_is_not_affine_goes_on_from_chunk_to_chunk():
    """And its traces with it."""
    rule, net, x, parts = with_factors(FACTORS), Anything(), nets.video(steps=4), []
    compute = safjax.value_and_grad(nets.loss, rule, mean_over=4)
    state = safjax.start(net, x, rule)
    for chunk in (x[:2], x[2:]):
        (_, aux), grads = compute(net, chunk, nets.labels(), state=state)
        state, parts = aux.state, [*parts, grads]
    _, expected = safjax.value_and_grad(nets.loss, rule)(Anything(), x, nets.labels())
    nets.assert_trees_close(jax.tree.map(lambda *g: sum(g), *parts), expected, rtol=1e-12)


def test_a_loss_of_spikes():
    """Without traces that of SLTT, too; potentials have no gradient."""
    loss = safjax.losses.WithRecords(
        lambda output, records, labels: nets.loss(output, labels) + jnp.mean(records["spikes"]["lif1"] ** 2),
        ("spikes",),
    )
    one, other = (
        safjax.value_and_grad(loss, rule)(nets.Dense(), by_hand.vectors(), nets.labels())[1]
        for rule in (with_factors((0.0, 0.5, 1.0, 0.0)), rules.sltt())
    )
    nets.assert_trees_close(one, other, rtol=1e-12)
    with pytest.raises(ValueError, match="'stllr' learns weights from errors of spikes alone; take 'spikes'"):
        of_potentials = safjax.losses.WithRecords(lambda o, records, y: jnp.mean(o), ("potential",))
        safjax.value_and_grad(of_potentials, rules.stllr())(nets.Dense(), by_hand.vectors(), nets.labels())


class OwnCell(LIFCell):
    """It might step otherwise."""


class Own(LIF):
    """Neurons of one's own."""

    def cell(self):
        return OwnCell(0.5, 1.0, self.surrogate)


def chain(*layers):
    return nnx.Sequential(*layers, Synapse(nets._dense(9, 4, nnx.Rngs(1))), LeakyReadout(0.5))


@pytest.mark.parametrize(
    "layers, match",
    [
        (lambda: (nets._dense(7, 9, nnx.Rngs(0)), LIF(0.5, nnx.Param(jnp.ones(9)))), "learns 'threshold'"),
        (
            lambda: (nnx.Sequential(nets._dense(7, 9, nnx.Rngs(0)), nnx.relu), LIF()),
            "Synapse at 'layers.0' must be affine, but it contains a maximum.*a Synapse of its own, without weights",
        ),
        (
            lambda: (nets._dense(7, 9, nnx.Rngs(0)), Own()),
            "Own at 'layers.1'.*trace of the slope of each neuron by itself",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(layers, match):
    synapse, neuron = layers()
    with pytest.raises(ValueError, match=match):
        safjax.value_and_grad(jnp.mean, rules.stllr())(chain(Synapse(synapse), neuron), by_hand.vectors())


def test_a_first_step_is_that_of_a_whole_sequence():
    net, x = nets.Dense(), by_hand.vectors()
    with pytest.raises(ValueError, match="learns from step 5 on, counted from 0, but the sequence has only 5 steps"):
        safjax.value_and_grad(nets.loss, rules.stllr(first=5))(net, x, nets.labels())
    rule = rules.stllr(first=1)
    with pytest.raises(ValueError, match="'stllr' learns from a certain step.*without state"):
        safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels(), state=safjax.start(net, x, rule))


@pytest.mark.parametrize(
    "given", [{"pre_decay": 1.5}, {"post_decay": -0.1}, {"readout_decay": 2}, {"causal": float("nan")}, {"first": -1}]
)
def test_arguments_are_checked(given):
    (name,) = given
    with pytest.raises(ValueError, match=rf"stllr\({name}="):
        rules.stllr(**given)


def test_without_leak_a_trace_that_stands_still_is_seen():
    """At 2²⁴ a float32 no longer changes by 1."""
    propagation = with_factors((1.0, 0.0, 1.0, 0.0)).propagation
    x = jnp.ones((1, 1), jnp.float32)
    before = (jnp.array([[2.0**24]], jnp.float32),)
    assert jnp.isnan(propagation.encode(before, x, None)[0][0]).all()
    assert jnp.isfinite(propagation.encode((before[0] / 8,), x, None)[0][0]).all()
