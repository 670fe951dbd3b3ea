"""Members of a batch that begin anew while the others go on, and training steps inside compiled loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Dropout, InstantReadout, LeakyReadout, SequenceState, Synapse
from tests import nets
from tests.nn.test_layer_loops import Net as Stacked
from tests.nn.test_start import Raised, currents
from tests.tables import some_slow
from tests.test_chunks import LAST, MEANS, RULES, TOPOLOGIES, Recurring, trains, vectors

pytestmark = pytest.mark.usefixtures("x64")

EVERYBODY = jnp.ones(nets.BATCH, bool)
DONE = jnp.array([[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
"""Of each step, after which members begin anew: the first never, the second twice, the third once."""
KINDS = {"spikes": "sltt", "traces": "ottt_a", "rates": "saf_e", "layer by layer": "exodus"}
MEMORIES = [topology for topology in TOPOLOGIES if topology not in ("residual", "convolution")]
"""Feedback, recurrence, filters, windows."""
TABLE = [
    *((name, "dense") for name in RULES if name not in ("ottt_o", "eprop", *MEANS)),
    ("eprop", "two readouts"),
    ("ottt_a", "convolution"),
    *((name, "stacked layers") for name in KINDS.values()),
    *((name, topology) for topology in MEMORIES for name in KINDS.values() if trains(name, topology)),
]


def net_and_inputs(topology):
    """Without dropout, which draws other masks for a member that runs alone."""
    make, inputs = {**TOPOLOGIES, "dense": (nets.Dense, vectors), "stacked layers": (Stacked, vectors)}[topology]
    net = make()
    net.eval()
    return net, inputs()


@functools.cache
def loop(rule):
    """Steps of T = 1 in one compiled loop, each followed by a reset: (net, state, x, done) ↦ what there is of each."""
    compute = safjax.value_and_grad(nets.loss, rule, mean_over=1, outputs="all")

    @jax.jit
    def run(net, state, x, done):
        def body(carry, step):
            (net, state), (x, done) = carry, step
            (_, aux), grads = compute(net, x[None], nets.labels(), state=state)
            return (net, safjax.reset(aux.state, done)), (aux.outputs[0], nnx.as_pure(grads), aux.rates)

        return jax.lax.scan(body, (net, state), (x, done))

    return run


def looped(net, rule, x, done, state):
    """(outputs [T, B, ...], gradients, rates) of each step; compiled once for each rule and net."""
    return loop(rule)(net, state, x, done)[1]


def alone(net, rule, x, done):
    """The same of each member by itself, from a new start wherever it begins anew, without loop and without reset."""
    compute = safjax.value_and_grad(nets.loss, rule, mean_over=1, outputs="all")
    outputs, grads = [], []
    for member in range(nets.BATCH):
        state = rest = safjax.start(net, x[:1, member : member + 1], rule)
        label = nets.labels()[member : member + 1]
        for x_t, ended in zip(x[:, member : member + 1], done[:, member], strict=True):
            (_, aux), gradient = compute(net, x_t[None], label, state=state)
            outputs.append(aux.outputs[0, 0])
            grads.append(nnx.as_pure(gradient))
            state = rest if ended else aux.state
    outputs = jnp.stack(outputs).reshape(nets.BATCH, len(x), -1).swapaxes(0, 1)
    stacked = jax.tree.map(lambda *g: jnp.stack(g).reshape(nets.BATCH, len(x), *g[0].shape).mean(0), *grads)
    return outputs, stacked


QUICK = {
    "dense": ["saf_e", "ottt_a", "ide", "exodus"],
    "stacked layers": ["saf_e", "exodus"],
    "feedback": ["ottt_a"],
    "recurrent, dropout": ["saf_e", "sltt"],
}
"""Of these nets the rules that are tried every time; of the other nets it is all."""


@pytest.mark.parametrize("name, topology", some_slow(TABLE, lambda name, topology: name in QUICK.get(topology, RULES)))
def test_a_member_that_begins_anew_is_a_fresh_one_and_the_others_go_on(name, topology):
    """Inside a compiled loop, of T = 1, against each member run by itself: every output, every step's gradient."""
    net, x = net_and_inputs(topology)
    rule = RULES[name]
    state = safjax.reset(safjax.start(net, x, rule), EVERYBODY)
    outputs, grads, rates = looped(net, rule, x, DONE, state)
    nets.assert_fires(jax.tree.map(jnp.mean, rates))
    expected, expected_grads = alone(net, rule, x, DONE)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-13)
    # IDE's solver ends at rounding error, at another iteration for a batch than for one of its members.
    nets.assert_trees_close(grads, expected_grads, rtol=1e-9 if name == "ide" else 1e-11)
    unbroken, *_ = looped(net, rule, x, jnp.zeros_like(DONE), state)
    np.testing.assert_array_equal(unbroken[:, 0], outputs[:, 0])
    assert (jnp.abs(unbroken - outputs).max((0, 2))[1:] > 1e-3).all(), "a reset that changes nothing proves nothing"


@pytest.mark.parametrize("name", ["ottt_o", "saf_e", "ottt_a", "sltt"])
def test_training_in_a_compiled_loop(name):
    """Is one call over the whole sequence under rules that update at every step, else the same calls one by one."""
    x = vectors()
    step = safjax.train_step(nets.loss, RULES[name], optax.adam(1e-2), mean_over=1, outputs="all")

    def begun():
        net = nets.Dense()
        return net, step.init(net), step.start(net, x)

    def one(learner, x):
        net, opt_state, state = learner
        net, opt_state, (value, aux) = step(net, opt_state, x, nets.labels(), state=state)
        return (net, opt_state, aux.state), (value, aux.outputs, aux.rates)

    ours, results = jax.jit(lambda *a: jax.lax.scan(one, *a))(begun(), x[:, None])
    learner, expected = begun(), []
    for part in [x] if name in ("ottt_o", "saf_e") else x[:, None]:
        learner, result = one(learner, part)
        expected.append(result)
    nets.assert_fires(expected[0][2])
    np.testing.assert_allclose(results[0].sum(), sum(value for value, _, _ in expected), rtol=1e-12)
    outputs = jnp.concatenate([outputs for _, outputs, _ in expected])
    np.testing.assert_allclose(results[1][:, 0], outputs, rtol=1e-12)
    nets.assert_trees_close(*(nnx.as_pure(nnx.state(net, nnx.Param)) for net, *_ in (ours, learner)), rtol=1e-12)
    nets.assert_trees_close(ours[1][0].mu, learner[1][0].mu, rtol=1e-12)
    nets.assert_trees_close(ours[1][0].nu, learner[1][0].nu, rtol=1e-12)


@pytest.mark.parametrize("name", [*KINDS.values(), "saf_f"])
def test_gradients_in_a_compiled_loop_add_up(name):
    """To those of one call over the whole sequence; layer by layer, to those of the same steps without a loop."""
    net, x, rule = nets.Dense(), vectors(), RULES[name]
    state = safjax.start(net, x, rule)
    outputs, grads, _ = looped(net, rule, x, jnp.zeros_like(DONE), safjax.reset(state, EVERYBODY))
    ours = jax.tree.map(lambda g: g[-1] if name in LAST else g.mean(0), grads)
    if name != "exodus":
        (_, aux), expected = safjax.value_and_grad(nets.loss, rule, outputs="all")(net, x, nets.labels())
        np.testing.assert_allclose(outputs, aux.outputs, rtol=1e-12)
    else:
        compute = safjax.value_and_grad(nets.loss, rule)
        parts = []
        for x_t in x:
            (_, aux), part = compute(net, x_t[None], nets.labels(), state=state)
            state = aux.state
            parts.append(nnx.as_pure(part))
        expected = jax.tree.map(lambda *g: sum(g) / len(x), *parts)
    nets.assert_trees_close(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("name", KINDS.values())
def test_a_stream_of_members_that_begin_anew(name):
    """From a state of each kind."""
    net, x = nets.Dense(), vectors()
    stream, state = safjax.stream(net), safjax.reset(safjax.start(net, x, RULES[name]), EVERYBODY)

    def body(state, step):
        state, output = stream(state, step[0])
        return safjax.reset(state, step[1]), output

    _, outputs = jax.jit(lambda *xs: jax.lax.scan(body, state, xs))(x, DONE)
    for member, ends in enumerate(DONE.T):
        cuts = [0, *(int(t) + 1 for t in jnp.flatnonzero(ends)), nets.STEPS]
        parts = [safjax.predict(net, x[a:b, member : member + 1]) for a, b in itertools.pairwise(cuts)]
        np.testing.assert_allclose(outputs[:, member], jnp.concatenate(parts)[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", [rules.bptt(), rules.sltt(), rules.bptt(layerwise=True)], ids=str)
def test_a_member_begins_where_its_cells_start(rule):
    """Where that is not zero, and is learned: with the value that it has by then."""
    step = safjax.train_step(lambda output: jnp.mean(output**2), rule, optax.sgd(1.0), outputs="all")
    net, x = nnx.Sequential(Raised(), LeakyReadout()), currents()
    # A state that is given is a constant: the start of a whole sequence is what learns.
    net, opt_state, _ = step(net, step.init(net), x)
    net, _, (_, aux) = step(net, opt_state, x[:2], state=safjax.start(net, x, rule))
    learned = net.layers[0].first[...]
    assert rule == rules.sltt() or float(jnp.abs(learned - 1.5).min()) > 1e-3, "the start has learned"
    which = jnp.array([False, True, False])
    state = jax.jit(safjax.reset)(aux.state, which)
    np.testing.assert_array_equal(state.variables["layers.0.state"][1], learned)
    np.testing.assert_array_equal(state.variables["layers.0.state"][0], aux.state.variables["layers.0.state"][0])
    outputs = safjax.predict(net, x[2:], state=state)
    np.testing.assert_allclose(outputs[:, 1], safjax.predict(net, x[2:])[:, 1], rtol=1e-12)
    np.testing.assert_allclose(outputs[:, 0], safjax.predict(net, x[2:], state=aux.state)[:, 0], rtol=1e-12)


class Tired(nnx.Module):
    """A state of one's own: what a member has been given, leakily summed up from a start other than zero."""

    def __init__(self, start):
        self.sum = SequenceState(start)

    def __call__(self, x):
        given = x.mean(-1) if self.sum[...].ndim else x.mean()
        self.sum[...] = 0.5 * self.sum[...] + given
        return x - 0.3 * self.sum[...][..., None]


def tired(start):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        Synapse(nets._dense(7, 9, rngs)),
        LIF(),
        Synapse(nnx.Sequential(Tired(start), nets._dense(9, 4, rngs))),
        LIF(),
        InstantReadout(),
    )


def test_a_layers_own_state_begins_anew_member_by_member():
    start, x = jnp.array([0.5, -1.0, 2.0]), vectors()
    net = tired(start)
    rule = rules.sltt()
    state = safjax.reset(safjax.start(net, x, rule), EVERYBODY)
    outputs, _, rates = looped(net, rule, x, DONE, state)
    nets.assert_fires(jax.tree.map(jnp.mean, rates))
    for member, ends in enumerate(DONE.T):
        cuts = [0, *(int(t) + 1 for t in jnp.flatnonzero(ends)), nets.STEPS]
        parts = [safjax.predict(net, x[a:b])[:, member] for a, b in itertools.pairwise(cuts)]
        np.testing.assert_allclose(outputs[:, member], jnp.concatenate(parts), rtol=1e-12, atol=1e-14)


def test_a_layers_own_state_without_members_is_refused_by_its_path():
    net, x = tired(jnp.zeros(())), vectors()
    state = safjax.start(net, x)
    with pytest.raises(ValueError, match=r"layers.2.layer.layers.0.sum.*shape \[\].*SequenceState\(jnp.zeros\(B\)\)"):
        safjax.reset(state, jnp.array([True, False, False]))


def test_a_member_that_begins_anew_has_a_dropout_mask_of_its_own_and_the_others_keep_theirs():
    net = nnx.Sequential(Dropout(0.5, rngs=nnx.Rngs(0)), InstantReadout())
    rule, x = rules.sltt(), jnp.ones((6, 4, 64))
    compute = safjax.value_and_grad(lambda output: jnp.mean(output), rule, outputs="all")
    ends = jnp.array([False, True, True, False])
    state, masks = safjax.start(net, x, rule), []
    for x_t in x:
        (_, aux), _ = compute(net, x_t[None], state=state)
        masks.append(np.asarray(aux.outputs[0]) > 0)
        state = safjax.reset(aux.state, ends) if len(masks) in (2, 4) else aux.state
    for a, b in itertools.combinations(range(6), 2):
        same = [bool((masks[a][member] == masks[b][member]).all()) for member in range(4)]
        assert same == [True, a // 2 == b // 2, a // 2 == b // 2, True]
    assert len({mask.tobytes() for pair in masks for mask in pair}) == 2 + 2 * 3, "no two masks are one"


def test_the_first_reset_may_be_inside_jit_and_every_reset_is_the_same():
    """Marked or not, a member's gain is its own from then on; resetting nobody leaves all numbers as they are."""
    net, x, rule = Recurring(), vectors(), rules.ottt_a()
    net.eval()
    run = safjax.simulate(net, x[:3], state=safjax.start(net, x, rule))
    nobody = jax.jit(safjax.reset)(run.state, ~EVERYBODY)
    a, b = (safjax.simulate(net, x[3:], state=s) for s in (run.state, nobody))
    np.testing.assert_allclose(a.outputs, b.outputs, rtol=1e-14)
    everybody = jax.jit(safjax.reset)(run.state, EVERYBODY)
    np.testing.assert_allclose(safjax.predict(net, x, state=everybody), safjax.predict(net, x), rtol=1e-14)


@pytest.mark.parametrize(
    "which, words",
    [
        (jnp.array([1.0, 0.0, 0.0]), r"expected truth values.*float32\[3\].*done > 0"),
        (jnp.array([True, False]), r"\[2\] truth values were given"),
        (jnp.array(True), r"\[\] truth values were given"),
        (jnp.ones((3, 1), bool), r"\[3, 1\] truth values were given"),
    ],
)
def test_what_does_not_say_which_members_is_refused(which, words):
    net, x = nets.Dense(), vectors()
    with pytest.raises((TypeError, ValueError), match=words):
        safjax.reset(safjax.start(net, x), which)
