"""What is on its way along an axon is state: over chunks, of streams, of members that end or begin anew."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, AxonalDelay, Dropout, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 7
RULES = {"bptt": rules.bptt(), "exodus": rules.exodus()}
LENGTHS = np.array([3, 7, 4])


class Delayed(nnx.Module):
    """Learned delays, dropout beside them, and fixed ones that reach over several chunks."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.second = Synapse(nets._dense(7, 12, rngs)), Synapse(nets._dense(12, 9, rngs))
        self.lif1, self.lif2 = LIF(), LIF()
        self.learned = AxonalDelay(nnx.Param(jnp.linspace(0.2, 2.9, 12)), max_delay=3, width=0.6)
        self.dropout, self.fixed = Dropout(0.2, rngs=rngs), AxonalDelay(np.arange(9) % 5)
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        x = self.dropout(self.learned(self.lif1(self.first(x))))
        return self.readout(self.last(self.fixed(self.lif2(self.second(x)))))


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.6, 1.2, (STEPS, nets.BATCH, 7)))


@pytest.mark.parametrize("name", [pytest.param("bptt", marks=pytest.mark.slow), "exodus"])
def test_chunks_are_the_whole_sequence(name):
    net, x, rule = Delayed(), inputs(), RULES[name]
    compute = safjax.value_and_grad(nets.loss, rule, mean_over=STEPS, outputs="all")
    rest = safjax.start(net, x, rule)
    (value, whole), _ = compute(net, x, nets.labels(), state=rest)
    nets.assert_fires(whole.rates)
    state, values, outputs = rest, [], []
    for begin, end in itertools.pairwise((0, 2, 3, STEPS)):
        (part, aux), _ = compute(net, x[begin:end], nets.labels(), state=state)
        state = aux.state
        values.append(part)
        outputs.append(aux.outputs)
    np.testing.assert_allclose(jnp.concatenate(outputs), whole.outputs, rtol=1e-12)
    np.testing.assert_allclose(sum(values), value, rtol=1e-12)
    for path in ("learned.state", "fixed.state"):
        np.testing.assert_allclose(state.variables[path], whole.state.variables[path], rtol=1e-12)
    assert state.variables["learned.state"].shape == (3, nets.BATCH, 12)


def test_streams_and_runs_are_predictions_and_members_begin_anew():
    net, x = Delayed(), inputs()
    expected = safjax.predict(net, x)
    run = safjax.simulate(net, x[:3], state=safjax.start(net, x))
    np.testing.assert_allclose(safjax.predict(net, x[3:], state=run.state), expected[3:], rtol=1e-12)
    stream, which = safjax.stream(net), jnp.array([False, True, False])
    state, outputs = safjax.reset(stream.start(x[0]), jnp.ones(3, bool)), []
    for t, x_t in enumerate(x):
        state, output = stream(safjax.reset(state, which & (t == 3)), x_t)
        outputs.append(output)
    anew = safjax.predict(net, x[3:])
    np.testing.assert_allclose(np.stack(outputs)[:, ::2], expected[:, ::2], rtol=1e-12)
    np.testing.assert_allclose(np.stack(outputs)[3:, 1], anew[:, 1], rtol=1e-12)
    assert np.abs(anew[:, 1] - expected[3:, 1]).max() > 1e-3


@pytest.mark.parametrize("name", ["bptt", pytest.param("exodus", marks=pytest.mark.slow)])
def test_a_padded_batch_is_its_members(name):
    net, x, rule = Delayed(), inputs(), RULES[name]
    net.dropout.deterministic = True
    beyond = np.arange(STEPS)[:, None, None] >= LENGTHS[:, None]
    compute = safjax.value_and_grad(nets.loss, rule, outputs="all")
    padded = jnp.where(beyond, np.nan, x)
    (value, aux), grads = compute(net, padded, nets.labels(), lengths=jnp.asarray(LENGTHS))
    nets.assert_fires(aux.rates)
    values, parts = [], []
    for member, length in enumerate(LENGTHS):
        one = slice(member, member + 1)
        (part, alone), gradient = compute(net, x[:length, one], nets.labels()[one])
        np.testing.assert_allclose(aux.outputs[:length, member], alone.outputs[:, 0], rtol=1e-12, atol=1e-14)
        values.append(part)
        parts.append(nnx.as_pure(gradient))
    np.testing.assert_allclose(value, np.mean(values), rtol=1e-12)
    nets.assert_trees_close(grads, jax.tree.map(lambda *g: sum(g) / 3, *parts), rtol=1e-11)


def test_what_has_not_arrived_at_its_members_end_does_not_arrive():
    """A pulse that its member has not received by its end is not received at all."""
    net = nnx.Sequential(AxonalDelay(2), LeakyReadout(0.5))
    outputs = safjax.predict(net, jnp.ones((3, 1)), 5, lengths=jnp.array([2, 3, 5]))
    np.testing.assert_array_equal((outputs[..., 0] != 0).sum(0), [0, 1, 3])


class Block(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.lif = Synapse(nets._dense(7, 7, rngs)), LIF(threshold=0.35)
        start = jax.random.uniform(rngs.params(), (7,), nets.DTYPE, 0.1, 2.9)
        self.delay = AxonalDelay(nnx.Param(start), max_delay=3, width=1.0)

    def __call__(self, x):
        return self.delay(self.lif(self.dense(x)))


class Stacked(nnx.Module):
    """Layers with delays that run in a loop over layers."""

    def __init__(self):
        self.first = AxonalDelay(1)
        self.blocks = nnx.vmap(Block)(nnx.Rngs(3).split(2))
        self.readout = LeakyReadout()

    def __call__(self, x):
        through = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.readout(through(self.first(x), self.blocks))


@pytest.mark.slow
def test_layers_in_a_loop_over_layers():
    """Step by step and layer by layer, and of a member that begins anew."""
    net, x = Stacked(), inputs()
    results = [safjax.value_and_grad(nets.loss, rule)(net, x, jnp.arange(3)) for rule in RULES.values()]
    nets.assert_fires(dict(enumerate(results[0][0][1].rates["blocks.lif"])))
    nets.assert_trees_close(results[0][1], results[1][1], rtol=1e-12)
    state = safjax.simulate(net, x[:3], state=safjax.start(net, x)).state
    state = safjax.reset(state, jnp.array([True, False, False]))
    anew, expected = safjax.predict(net, x[3:], state=state), safjax.predict(net, x)
    np.testing.assert_allclose(anew[:, 1:], expected[3:, 1:], rtol=1e-12)
    np.testing.assert_allclose(anew[:, 0], safjax.predict(net, x[3:])[:, 0], rtol=1e-12)
