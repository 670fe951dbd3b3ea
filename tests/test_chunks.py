"""A sequence that comes in chunks, its state in the caller's hands, is the unbroken sequence, under every rule."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, CurrentLIF, Dropout, LeakyReadout, Recurrent, ResetTo, SlidingPSN, Synapse
from tests import nets
from tests.heard import DENSE, Heard
from tests.neuron_kinds import Resting
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")

RULES = {**{name: make() for name, make in rules.RULES.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
PER_WEIGHT = [name for name, rule in RULES.items() if rule.propagation.per_weight]
MEANS = [name for name, rule in RULES.items() if rule.schedule.of_mean_output]
LAST = [name for name, rule in RULES.items() if rule.schedule.last_step_only]
WHOLE = [name for name, rule in RULES.items() if rule.schedule.sees_all_steps]
ONLINE = [name for name in RULES if name not in (*MEANS, *LAST, *WHOLE)]
CUTS = (0, 1, 2, nets.STEPS)
"""Two steps by themselves and a chunk."""


def dense(size, rngs):
    return Synapse(nets._dense(*size, rngs))


class Recurring(nnx.Module):
    """A recurrent layer, dropout on its spikes, and a layer behind it."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = dense((7, 12), rngs)
        self.lif1 = Recurrent(LIF(), dense((12, 12), rngs))
        self.dropout = Dropout(0.3, rngs=rngs)
        self.second, self.lif2, self.last = dense((12, 9), rngs), LIF(threshold=0.7), dense((9, nets.CLASSES), rngs)
        self.readout = LeakyReadout()

    def __call__(self, x):
        x = self.dropout(self.lif1(self.first(x)))
        return self.readout(self.last(self.lif2(self.second(x))))


class Mixed(nnx.Module):
    """A filter, a reset to a value, and a readout with a decay for each class: no rule of one decay takes it."""

    def __init__(self):
        rngs = nnx.Rngs(3)
        self.first, self.current = dense((7, 12), rngs), CurrentLIF(0.4, 0.6, 1.5)
        self.dropout = Dropout(0.2, rngs=rngs)
        self.second, self.lif = dense((12, 9), rngs), LIF(0.8, reset=ResetTo(-0.2))
        self.last = dense((9, nets.CLASSES), rngs)
        self.readout = LeakyReadout(nnx.Param(jnp.linspace(0.3, 0.9, nets.CLASSES)))

    def __call__(self, x):
        return self.readout(self.last(self.lif(self.second(self.dropout(self.current(self.first(x)))))))


class Windowed(nnx.Module):
    """Sliding parallel neurons: not in closed form."""

    def __init__(self):
        rngs = nnx.Rngs(3)
        self.first, self.window = dense((7, 12), rngs), SlidingPSN(3, param_dtype=nets.DTYPE)
        self.last, self.readout = dense((12, nets.CLASSES), rngs), LeakyReadout(0.8)

    def __call__(self, x):
        return self.readout(self.last(self.window(self.first(x))))


def vectors(steps=nets.STEPS):
    return jnp.asarray(np.random.default_rng(0).normal(0.6, 1.2, (steps, nets.BATCH, 7)))


TOPOLOGIES = {
    "convolution": (nets.Conv, nets.video),
    "residual": (nets.Residual, nets.video),
    "feedback": (nets.Feedback, nets.video),
    "recurrent, dropout": (Recurring, vectors),
    "filter, dropout, decays": (Mixed, vectors),
    "window": (Windowed, vectors),
    "refractory": (Resting, vectors),
    "two readouts": (Heard, vectors),
}
ACCUMULATE = [name for name, rule in RULES.items() if rule.propagation.accumulates]
LAYERWISE = [name for name, rule in RULES.items() if rule.propagation.whole_sequence]


def trains(name, topology):
    if name in PER_WEIGHT:
        return topology in DENSE[name]
    if topology == "two readouts":
        # Of this kind there are others for the other rules.
        return False
    if topology in ("feedback", "recurrent, dropout"):
        return RULES[name].propagation.recalls
    if topology == "refractory":
        return name in ("bptt", "sltt", "stllr", "bptt, layerwise")
    if topology in ("filter, dropout, decays", "window"):
        return name not in ACCUMULATE or (name == "stllr" and topology != "window")
    return True


TABLE = [(name, topology) for name in RULES for topology in TOPOLOGIES if trains(name, topology)]
ALIKE = ("ottt_o", "slayer", "spike_representation", "ide", "bptt, layerwise")
"""Rules whose propagation another one has, or nearly so: of these few rows are tried every time."""
QUICK = {
    "convolution": ["ottt_a", "saf_f", "spike_representation"],
    "residual": ["saf_e", "exodus"],
    "feedback": ["ottt_a", "saf_f"],
    "recurrent, dropout": ["ottt_a", "approx_otpe", "saf_e", "ide", "otpe"],
    "filter, dropout, decays": ["sltt", "exodus", "ostl"],
    "window": ["sltt", "bptt, layerwise"],
    "refractory": ["stllr", "bptt, layerwise"],
    "two readouts": ["eprop"],
}
"""Of each net rules of every kind that trains it; the others are among the slow tests."""


def chunks(net, rule, x, cuts, **options):
    """Value, gradient and aux of every chunk, each of which goes on where the one before has ended."""
    compute = nets.value_and_grad(nets.loss, rule, mean_over=nets.STEPS, **options)
    state, results = safjax.start(net, x, rule), []
    for begin, end in itertools.pairwise(cuts):
        (value, aux), grads = compute(net, x[begin:end], nets.labels(), state=state)
        results.append((value, aux, grads))
        state = aux.state
    return results


class Normalised(nnx.Module):
    """Batch statistics of each step before the first neurons."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        norm = BatchNorm(12, over="step", param_dtype=nets.DTYPE)
        self.first = Synapse(nnx.Sequential(nets._dense(7, 12, rngs), norm))
        self.lif, self.last, self.readout = LIF(), dense((12, nets.CLASSES), rngs), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.lif(self.first(x))))


@pytest.mark.parametrize("name", ["sltt", "bptt", "exodus"])
def test_batch_statistics_go_on_from_chunk_to_chunk(name):
    """Those of each step, in training; the net keeps the running ones."""
    net, again, rule = Normalised(), Normalised(), RULES[name]
    (_, aux), expected = safjax.value_and_grad(nets.loss, rule)(net, vectors(), nets.labels())
    nets.assert_fires(aux.rates)
    results = chunks(again, rule, vectors(), (0, 2, 5))
    statistics = [nnx.as_pure(nnx.state(n, nnx.BatchStat)) for n in (net, again)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), *statistics)
    if name == "sltt":
        nets.assert_trees_close(total([g for _, _, g in results]), expected, rtol=1e-12)


def total(trees):
    """NumPy's sum of trees, which compiles nothing."""
    return jax.tree.map(lambda *leaves: sum(map(np.asarray, leaves)), *map(nnx.as_pure, trees))


def rows(names):
    return some_slow([row for row in TABLE if row[0] in names], lambda name, topology: name in QUICK[topology])


@pytest.mark.parametrize("name, topology", rows((*ONLINE, *LAST)))
def test_chunks_are_the_whole_sequence(name, topology):
    """Gradients of online rules add up; rules of the last step take that of each chunk, at last the sequence's."""
    make, inputs = TOPOLOGIES[topology]
    (value, aux), expected = safjax.value_and_grad(nets.loss, RULES[name], outputs="all")(
        make(), inputs(), nets.labels()
    )
    nets.assert_fires(aux.rates)
    results = chunks(make(), RULES[name], inputs(), CUTS, outputs="all")
    outputs = jnp.concatenate([part.outputs for _, part, _ in results])
    np.testing.assert_allclose(outputs, aux.outputs, rtol=1e-12, atol=1e-14)
    grads = results[-1][2] if name in LAST else total([g for _, _, g in results])
    nets.assert_trees_close(grads, expected, rtol=1e-12)
    values = [v for v, _, _ in results]
    np.testing.assert_allclose(values[-1] if name in LAST else sum(values), value, rtol=1e-12)


@functools.cache
def step_by_step(topology, detach_reset):
    make, inputs = TOPOLOGIES[topology]
    return chunks(make(), rules.bptt(detach_reset=detach_reset), inputs()[:4], (0, 2, 4))


@pytest.mark.parametrize("name, topology", rows([name for name in WHOLE if name != "bptt"]))
def test_layer_by_layer_a_cut_is_that_of_bptt(name, topology):
    """Of which the next test says that it is autodiff's; the states are the same too."""
    make, inputs = TOPOLOGIES[topology]
    results = chunks(make(), RULES[name], inputs()[:4], (0, 2, 4))
    expected = step_by_step(topology, name == "slayer")
    nets.assert_fires(jax.tree.map(lambda *rates: sum(rates) / 2, *(aux.rates for _, aux, _ in results)))
    for (_, aux, grads), (_, expected_aux, expected_grads) in zip(results, expected, strict=True):
        nets.assert_trees_close(grads, expected_grads, rtol=1e-11)
        same_state(aux.state, expected_aux.state)


def same_state(a, b):
    assert set(a.variables) == set(b.variables)
    for path in a.variables:
        for x, y in zip(jax.tree.leaves(a.variables[path]), jax.tree.leaves(b.variables[path]), strict=True):
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                assert (jax.random.key_data(x) == jax.random.key_data(y)).all()
            else:
                np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-12, err_msg=path)


def by_hand(net, x, weights, start=None):
    """A dense net of the tests in plain jnp, step by step from a given state: (sum of losses, state)."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    m1, m2, o, gain = start
    value = 0.0
    for x_t in x:
        u1 = 0.5 * m1 + x_t @ w1 + b1
        s1 = net.lif1.surrogate(u1 - 1)
        m1 = u1 - s1
        u2 = 0.5 * m2 + s1 @ w2 + b2
        s2 = net.lif2.surrogate(u2 - 1)
        m2, gain = u2 - s2, 0.5 * gain + 1
        o = o + (s2 @ w3 + b3 - o) / gain
        value = value + nets.loss(o, nets.labels())
    return value / nets.STEPS, (m1, m2, o, gain)


def weights_of(net):
    return [(layer.layer.kernel[...], layer.layer.bias[...]) for layer in (net.first, net.second, net.last)]


# Layer by layer a cut is that of the loop, see above.
@pytest.mark.parametrize("name", ["bptt", pytest.param("bptt, layerwise", marks=pytest.mark.slow), "exodus"])
def test_the_gradient_of_a_chunk_is_autodiffs_and_cuts_can_be_bridged(name):
    """Of the second chunk with respect to its weights and to the state it was given; bridged, the cut is none."""
    net, x, rule, cut = nets.Dense(), vectors(), RULES[name], 2
    (_, aux1, g1), (value, aux2, g2) = chunks(net, rule, x, (0, cut, nets.STEPS))
    nets.assert_fires(aux2.rates)
    zeros = jnp.zeros((nets.BATCH, 9)), jnp.zeros((nets.BATCH, 8)), jnp.zeros((nets.BATCH, nets.CLASSES)), 0.0
    _, before = jax.jit(lambda w: by_hand(net, x[:cut], w, zeros))(weights_of(net))
    behind = jax.jit(jax.value_and_grad(lambda w, s: by_hand(net, x[cut:], w, s)[0], argnums=(0, 1)))
    expected, (to_weights, to_state) = behind(weights_of(net), before)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    layers = ("first", "second", "last")
    for layer, (kernel, bias) in zip(layers, to_weights, strict=True):
        np.testing.assert_allclose(g2[layer]["layer"]["kernel"], kernel, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(g2[layer]["layer"]["bias"], bias, rtol=1e-10, atol=1e-13)

    compute = safjax.value_and_grad(nets.loss, rule, mean_over=nets.STEPS)

    def second(state):
        return compute(net, x[cut:], nets.labels(), state=state)[0][0]

    to_given = jax.grad(second)(aux1.state)
    np.testing.assert_allclose(to_given.variables["lif1.state"], to_state[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(to_given.variables["lif2.state"], to_state[1], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(to_given.variables["readout.state"].mean, to_state[2], rtol=1e-10, atol=1e-13)

    def first(params):
        merged = nnx.merge(graph, params)
        (value, aux), _ = compute(merged, x[:cut], nets.labels(), state=safjax.start(merged, x, rule))
        return value, aux.state

    graph, params = nnx.split(net)
    (_, pull) = jax.vjp(first, nnx.as_pure(params))
    (bridge,) = pull((jnp.ones(()), to_given))
    whole = safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())[1]
    nets.assert_trees_close(total([bridge, g2]), whole, rtol=1e-11)
    assert nets.distance(total([g1, g2]), whole) > 0.05, "a cut that is not bridged takes something away"


@pytest.mark.parametrize(
    "name",
    some_slow(
        [(name,) for name in RULES if name not in (*PER_WEIGHT, *MEANS)], lambda name: name not in (*ALIKE, "sltt")
    ),
)
def test_an_image_may_be_presented_for_some_steps_of_a_sequence(name):
    """`steps` with a state presents it for so many further steps, as if it were a part of the sequence."""
    net, x = nets.Conv(), nets.video()[:2]
    step = {"mean_over": 5, "outputs": "all"}
    expected = chunks(net, RULES[name], x.repeat(3, 0), (0, 3, 6), outputs="all")
    state = safjax.start(net, x[0], RULES[name], steps=3)
    compute = safjax.value_and_grad(nets.loss, RULES[name], 3, **step)
    for image, (value, aux, grads) in zip(x, expected, strict=True):
        nets.assert_fires(aux.rates, high=0.65)
        (ours, our_aux), our_grads = compute(net, image, nets.labels(), state=state)
        state = our_aux.state
        np.testing.assert_allclose(our_aux.outputs, aux.outputs, rtol=1e-12)
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(our_grads, grads, rtol=1e-11)
