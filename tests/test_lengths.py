"""A padded batch is its members, each run by itself over its own steps, under every rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import PSN, BatchNorm, LeakyReadout, SequenceState, Synapse
from tests import nets
from tests.tables import some_slow
from tests.test_chunks import ALIKE, PER_WEIGHT, RULES, TABLE, TOPOLOGIES, total, vectors

pytestmark = pytest.mark.usefixtures("x64")

LENGTHS = np.array([2, 5, 2])
ROWS = [(name, topology) for name, topology in TABLE if topology not in ("residual", "recurrent, dropout")]
QUICK = {
    "convolution": ["saf_f", "ide", "ottt_a", "exodus"],
    "feedback": ["saf_e", "approx_otpe", "bptt"],
    "filter, dropout, decays": ["stllr", "exodus", "ostl"],
    "window": ["bptt", "bptt, layerwise"],
    "refractory": ["sltt", "bptt, layerwise"],
    "two readouts": ["eprop"],
}
"""Of each net rules of every kind that trains it; the others are among the slow tests."""


def padded(x, filler):
    beyond = np.arange(len(x))[:, None] >= LENGTHS
    return jnp.where(beyond.reshape(*beyond.shape, *(1,) * (x.ndim - 2)), filler, x)


def without_masks(make):
    """Dropout draws for each member by its place in the batch, and a member by itself has another place."""
    net = make()
    net.eval()
    return net


def by_member(make, rule, x, keep):
    """Value, gradient and aux of each member alone, of its own length."""
    compute = nets.value_and_grad(nets.loss, rule, outputs=keep)
    for member, length in enumerate(LENGTHS):
        one = slice(member, member + 1)
        (value, aux), grads = compute(without_masks(make), x[:length, one], nets.labels()[one])
        yield value, aux, grads


@pytest.mark.parametrize("name, topology", some_slow(ROWS, lambda name, topology: name in QUICK[topology]))
def test_a_padded_batch_is_its_members(name, topology):
    """And what stands in the padding changes nothing: not even NaN."""
    make, inputs = TOPOLOGIES[topology]
    x, rule = inputs(), RULES[name]
    compute = safjax.value_and_grad(nets.loss, rule, outputs="all")
    (value, aux), grads = compute(without_masks(make), padded(x, np.nan), nets.labels(), lengths=jnp.asarray(LENGTHS))
    parts = list(by_member(make, rule, x, "all"))
    nets.assert_fires(aux.rates, low=0.05, high=0.7)
    np.testing.assert_allclose(value, np.mean([v for v, _, _ in parts]), rtol=1e-12)
    nets.assert_trees_close(grads, jax.tree.map(lambda g: g / len(parts), total([g for _, _, g in parts])), rtol=1e-11)
    for path, rate in aux.rates.items():
        weighed = sum(length * part.rates[path] for length, (_, part, _) in zip(LENGTHS, parts, strict=True))
        np.testing.assert_allclose(rate, weighed / LENGTHS.sum(), rtol=1e-12)
    for member, (length, (_, part, _)) in enumerate(zip(LENGTHS, parts, strict=True)):
        np.testing.assert_allclose(aux.outputs[:length, member], part.outputs[:, 0], rtol=1e-12, atol=1e-14)
        assert not aux.outputs[length:, member].any(), "beyond a member's own steps outputs are 0"
        np.testing.assert_allclose(aux.output[member], part.output[0], rtol=1e-12, atol=1e-14)


ANSWERS = [(name, keep) for name in ("saf_f", "ottt_a", "bptt", "exodus") for keep in ("last", "mean")]
ALTERNATING = [("saf_f", "mean"), ("ottt_a", "last"), ("bptt", "mean"), ("exodus", "last")]


@pytest.mark.parametrize("name, keep", some_slow(ANSWERS, lambda *row: row in ALTERNATING))
def test_answers_are_those_of_each_members_own_steps(name, keep):
    x, rule = vectors(), RULES[name]
    compute = safjax.value_and_grad(nets.loss, rule, outputs=keep)
    (_, aux), _ = compute(nets.Dense(), padded(x, np.nan), nets.labels(), lengths=jnp.asarray(LENGTHS))
    expected = [part.output[0] for _, part, _ in by_member(nets.Dense, rule, x, keep)]
    np.testing.assert_allclose(aux.output, expected, rtol=1e-12)
    predicted = safjax.predict(nets.Dense(), padded(x, np.nan), lengths=jnp.asarray(LENGTHS), outputs=keep)
    np.testing.assert_allclose(predicted, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    some_slow(
        [(name,) for name in RULES if name not in PER_WEIGHT],
        lambda name: name not in (*ALIKE, "sltt", "saf_e", "approx_otpe", "stllr"),
    ),
)
def test_members_may_see_a_static_image_for_different_times(name):
    net, x, rule = nets.Conv(), nets.image(), RULES[name]
    (value, aux), grads = safjax.value_and_grad(nets.loss, rule, nets.STEPS)(
        net, x, nets.labels(), lengths=jnp.asarray(LENGTHS)
    )
    nets.assert_fires(aux.rates)
    parts = []
    computes = {length: safjax.value_and_grad(nets.loss, rule, int(length)) for length in set(LENGTHS)}
    for member, length in enumerate(LENGTHS):
        one, compute = slice(member, member + 1), computes[length]
        parts.append(compute(nets.Conv(), x[one], nets.labels()[one]))
    np.testing.assert_allclose(value, np.mean([v for (v, _), _ in parts]), rtol=1e-12)
    nets.assert_trees_close(grads, jax.tree.map(lambda g: g / 3, total([g for _, g in parts])), rtol=1e-11)


@pytest.mark.parametrize("name", ["saf_e", "saf_f", "ottt_a", "sltt", "bptt"])
def test_a_state_is_that_of_each_members_own_last_step(name):
    """A padded chunk, and another one after it: each member's sequence goes on where it ended."""
    net, x, rule = nets.Dense(), vectors(9), RULES[name]
    compute = safjax.value_and_grad(nets.loss, rule, mean_over=1, outputs="all")
    state = safjax.start(net, x, rule)
    (_, aux), _ = compute(net, padded(x[:5], np.nan), nets.labels(), state=state, lengths=jnp.asarray(LENGTHS))
    (_, after), grads = compute(net, x[5:], nets.labels(), state=aux.state)
    expected = []
    for member, length in enumerate(LENGTHS):
        one, own = slice(member, member + 1), jnp.concatenate([x[:length], x[5:]])
        begun = safjax.start(net, own[:, one], rule)
        (_, first), _ = compute(net, own[:length, one], nets.labels()[one], state=begun)
        (_, second), part = compute(net, own[length:, one], nets.labels()[one], state=first.state)
        np.testing.assert_allclose(after.outputs[:, member], second.outputs[:, 0], rtol=1e-11, atol=1e-13)
        expected.append(part)
    nets.assert_trees_close(grads, jax.tree.map(lambda g: g / 3, total(expected)), rtol=1e-11)


def test_targets_that_change_in_time_and_lengths_within_jit():
    """A Timed target has a value for each member; what it holds in the padding is not looked at."""
    net, x = nets.Dense(), vectors()
    target = np.random.default_rng(2).normal(size=(nets.STEPS, nets.BATCH, nets.CLASSES))

    def loss(output, target):
        return jnp.mean((output - target) ** 2)

    compute = safjax.value_and_grad(loss, rules.ottt_a())
    timed = safjax.losses.Timed(padded(jnp.asarray(target), np.nan))
    run = jax.jit(lambda lengths: compute(net, padded(x, np.nan), timed, lengths=lengths)[0][0])
    expected = []
    for member, length in enumerate(LENGTHS):
        one = slice(member, member + 1)
        own = safjax.losses.Timed(jnp.asarray(target[:length, one]))
        expected.append(compute(net, x[:length, one], own)[0][0])
    np.testing.assert_allclose(run(jnp.asarray(LENGTHS)), np.mean(expected), rtol=1e-12)
    # Where nobody can look at them, lengths beyond T are T: not to be told from a shorter mean otherwise.
    np.testing.assert_allclose(run(jnp.asarray([2, 9, 2])), run(jnp.asarray(LENGTHS)), rtol=1e-12)


@pytest.mark.parametrize("lengths", [LENGTHS, jnp.asarray(LENGTHS)], ids=["NumPy", "JAX"])
def test_lengths_may_be_known_where_the_inputs_are_not(lengths):
    """Of a compiled function they may be a constant; then, too, such as do not fit are refused."""
    net, compute = nets.Dense(), safjax.value_and_grad(nets.loss, rules.ottt_a())
    (expected, _), _ = compute(net, vectors(), nets.labels(), lengths=jnp.asarray(LENGTHS))
    closed = jax.jit(lambda x: compute(net, x, nets.labels(), lengths=lengths)[0][0])
    np.testing.assert_allclose(closed(padded(vectors(), np.nan)), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="between 2 and 9.*T = 5"):
        jax.jit(lambda x: compute(net, x, nets.labels(), lengths=np.array([2, 9, 2]))[0][0])(vectors())


@pytest.mark.parametrize("name", ["ottt_o", "saf_e", "bptt", "saf_f"])
def test_training_steps_take_lengths(name):
    step = safjax.train_step(nets.loss, RULES[name], optax.adam(1e-2))
    results = []
    for filler in (np.nan, 3.0):
        net = nets.Dense()
        net, _, (value, _) = step(net, step.init(net), padded(vectors(), filler), nets.labels(), lengths=LENGTHS)
        results.append((value, nnx.as_pure(nnx.state(net, nnx.Param))))
    assert np.isfinite(results[0][0])
    jax.tree.map(np.testing.assert_array_equal, *results)


class Counting(nnx.Module):
    def __init__(self):
        self.count = SequenceState(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return x * self.count[...]


REFUSED = {
    "a mask": (nets.Dense, "bptt", {"lengths": jnp.ones((5, 3), bool)}, TypeError, r"lengths = mask.sum\(0\)"),
    "a list": (nets.Dense, "bptt", {"lengths": [5, 3, 1]}, TypeError, r"was a list: write lengths=jnp.array"),
    "too few": (nets.Dense, "bptt", {"lengths": jnp.ones(2, int)}, ValueError, r"lengths has the shape \[2\].*B = 3"),
    "too long": (nets.Dense, "saf_f", {"lengths": jnp.array([6, 1, 1])}, ValueError, "between 1 and 6.*T = 5"),
    "none": (nets.Dense, "saf_f", {"lengths": jnp.array([0, 1, 1])}, ValueError, "without any step"),
}


@pytest.mark.parametrize("make, name, options, error, match", REFUSED.values(), ids=REFUSED)
def test_lengths_that_do_not_fit_are_refused(make, name, options, error, match):
    with pytest.raises(error, match=match):
        safjax.value_and_grad(nets.loss, RULES[name])(make(), vectors(), nets.labels(), **options)


def norm():
    return nnx.Sequential(Synapse(BatchNorm(7, over="step")), safjax.nn.LIF(), LeakyReadout())


def count():
    return nnx.Sequential(Synapse(Counting()), safjax.nn.LIF(), LeakyReadout())


def all_steps():
    return nnx.Sequential(PSN(5, rngs=nnx.Rngs(0)), LeakyReadout(0.5))


@pytest.mark.parametrize(
    "make, rule, match",
    [
        (norm, rules.bptt(), "layers.0.layer.*in training.*padding.*net.eval"),
        (count, rules.bptt(), "layers.0.layer.*count.*for each member"),
        (all_steps, rules.bptt(layerwise=True), "PSN at 'layers.0'.*beyond a member's length"),
    ],
    ids=["batch statistics", "one count for all", "neurons that see all steps"],
)
def test_what_cannot_tell_members_apart_is_refused(make, rule, match):
    with pytest.raises(ValueError, match=match):
        safjax.value_and_grad(lambda output: output.mean(), rule)(make(), vectors(), lengths=jnp.asarray(LENGTHS))


def test_losses_and_states_that_cannot_be_told_by_member_are_refused():
    net, x, lengths = nets.Dense(), vectors(), jnp.asarray(LENGTHS)
    with pytest.raises(ValueError, match="SequenceLoss.*all steps.*loss of one step"):
        safjax.value_and_grad(safjax.losses.sum_over_time(nets.loss), rules.bptt())(
            net, x, nets.labels(), lengths=lengths
        )
    with pytest.raises(ValueError, match="target is .B, ...., a Timed one"):
        safjax.value_and_grad(lambda o, w: (o @ w).mean(), rules.bptt())(net, x, jnp.ones(4), lengths=lengths)
    state = safjax.start(net, x, rules.exodus())
    with pytest.raises(ValueError, match="either lengths or a state"):
        safjax.value_and_grad(nets.loss, rules.exodus())(net, x, nets.labels(), lengths=lengths, state=state)
