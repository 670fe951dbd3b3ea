"""Inference takes several steps at once where that computes the same, and one after the other where it would not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import LIF, InstantReadout, LeakyReadout, Recurrent, SequenceState, Synapse, inference, several_steps
from safjax.nn.task import make_task
from safjax.rules import bptt
from tests import nets
from tests.nn.test_streaming import every_neuron, vectors
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")


def predicted(net, x, steps=None, keep="all"):
    """`safjax.predict`, compiled anew: what decides on the parts is no part of the key of what is compiled."""
    run = jax.jit(lambda *a: inference._simulate.__wrapped__(*a), static_argnums=(0, 4, 5, 7))
    return run(*inference.evaluating(net), x, steps, (), None, keep, None).outputs


@pytest.fixture
def parts(monkeypatch):
    """Call with the number of parts that a sequence is cut into; what is run in parts is listed."""
    ran, run = [], inference.simulate_in_parts

    def running(task, params, length):
        ran.append((task.steps, length))
        return run(task, params, length)

    def cut(count):
        monkeypatch.setattr(several_steps, "_divided", lambda steps, most: count)
        return ran

    monkeypatch.setattr(inference, "simulate_in_parts", running)
    return cut


NETS = {
    "dense": (nets.Dense, lambda: vectors(7), None),
    "every neuron": (every_neuron, lambda: vectors(7), None),
    "still image": (nets.Conv, nets.image, 7),
    "convolutions": (nets.Conv, lambda: nets.video(steps=7), None),
    "residual": (nets.Residual, lambda: nets.video(steps=7), None),
    "layers before and behind": (nets.Hybrid, lambda: nets.video(steps=7), None),
    "layers before, still image": (nets.Hybrid, nets.image, 7),
}
ROWS = [(name, count) for name in NETS for count in (1, 2, 3)]
"""Seven steps at once; four and three; three, three and one."""
QUICK = (("dense", 2), ("every neuron", 3), ("still image", 2), ("layers before and behind", 1))


@pytest.mark.parametrize("name, count", some_slow(ROWS, lambda *row: row in QUICK))
def test_several_steps_at_once_are_those_one_by_one(name, count, parts):
    make, inputs, steps = NETS[name]
    net, x, ran = make(), inputs(), parts(count)
    found = predicted(net, x, steps)
    assert ran == [(7, -(-7 // count))]
    run = safjax.simulate(net, x, steps)
    nets.assert_fires({path: spikes.mean() for path, spikes in run.spikes.items()})
    nets.assert_trees_close(found, run.outputs, rtol=1e-12)


@pytest.mark.parametrize("keep", ["last", "mean"])
def test_what_is_kept_of_the_outputs(keep, parts):
    net, x, ran = nets.Dense(), vectors(7), parts(2)
    outputs = safjax.simulate(net, x).outputs
    expected = outputs[-1] if keep == "last" else outputs.mean(0)
    nets.assert_trees_close(predicted(net, x, keep=keep), expected, rtol=1e-12)
    assert ran == [(7, 4)]


class Front(nnx.Module):
    """A net with code of its own in front of the first synapse."""

    def __init__(self, front):
        self.front = front
        self.table = nnx.Variable(jnp.linspace(-1.0, 1.0, 300 * 7).reshape(300, 7))
        self.net = nets.Dense()

    def __call__(self, x):
        return self.net(self.front(self, x))


def _random(net, x):
    return x + jax.random.normal(jax.random.key(0), x.shape, x.dtype)


def _counted(net, x):
    return x * jnp.cumsum(jnp.ones(len(x)))[:, None]


def _in_pairs(net, x):
    return x + jnp.where(x[:1].sum() > 0, 1.0, -1.0)


FRONTS = {
    "a mean": lambda net, x: x - x.mean(0),
    "a roll": lambda net, x: jnp.roll(x, 1, 0),
    "a reversal": lambda net, x: x[::-1],
    "sorting": lambda net, x: jnp.sort(x, 0),
    "the first of all": _in_pairs,
    "one row set": lambda net, x: x.at[0].set(0.0),
    "random numbers": _random,
    "an index": lambda net, x: x * jnp.arange(len(x))[:, None],
    "a running sum": _counted,
    "a table": lambda net, x: x + net.table[: len(x)],
    "a constant": lambda net, x: x + np.linspace(0, 1, len(x))[:, None],
    "the batch's size": lambda net, x: x / len(x),
    "a power of it": lambda net, x: x ** (len(x) // 2),
    "a callback": lambda net, x: jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct(x.shape, x.dtype), x),
}


def decided(net, x, steps=None):
    """In how many parts the net is run; None for step by step."""
    arrays = inference.evaluating(net)
    bound, _ = make_task(*arrays, bptt(), lambda output: 0.0, (), x, steps, training=False)
    return several_steps._parts(*arrays, x, steps, bound.course)


@pytest.mark.parametrize("name", FRONTS)
def test_where_examples_are_not_computed_each_by_itself_it_goes_step_by_step(name):
    assert decided(Front(FRONTS[name]), vectors(4)) is None


ALIKE = {
    "a scale": lambda net, x: 2.0 * x,
    "a table of features": lambda net, x: x + net.table[3],
    "a softmax over features": lambda net, x: jax.nn.softmax(x),
    "a filled array": lambda net, x: jnp.concatenate([x, jnp.ones((len(x), 2))], 1)[:, :7],
}


@pytest.mark.parametrize("name", ALIKE)
def test_where_they_are_it_does_not(name):
    assert decided(Front(ALIKE[name]), vectors(4)) == 1


def test_a_mean_over_the_batch_keeps_its_numbers(parts):
    """Of all steps together it would be another one."""
    net, x, ran = Front(FRONTS["a mean"]), vectors(4), parts(1)
    nets.assert_trees_close(predicted(net, x), safjax.simulate(net, x).outputs, rtol=1e-12)
    assert not ran


class Squeezed(nnx.Module):
    """Of a single example it loses the axis of the batch."""

    def __init__(self):
        self.net = nets.Dense(InstantReadout)

    def __call__(self, x):
        return jnp.squeeze(self.net(x))


def test_an_output_keeps_its_shape(parts):
    net, x, ran = Squeezed(), vectors(4)[:, :1], parts(1)
    assert predicted(net, x).shape == safjax.simulate(net, x).outputs.shape == (4, nets.CLASSES)
    assert not ran


class Clock(nnx.Module):
    """Counts its calls."""

    def __init__(self):
        self.count = SequenceState(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return x * self.count[...]


STEPWISE = {
    "feedback": lambda: nets.Feedback(),
    "recurrence": lambda: Recurrent(LIF(), Synapse(nets._dense(7, 7, nnx.Rngs(0)))),
    "a count": lambda: Synapse(Clock()),
    "a shape of its own": lambda: Synapse(lambda x: x.reshape(3, 7) + 0.0),
    "a function that mixes": lambda: Synapse(lambda x: x - x.mean(0)),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_what_goes_step_by_step(name, parts):
    net, ran = STEPWISE[name](), parts(1)
    x = nets.video(steps=4) if name == "feedback" else vectors(4)
    net = net if name == "feedback" else nnx.Sequential(net, LIF(), InstantReadout())
    jax.eval_shape(lambda x: predicted(net, x), x)
    assert not ran


def test_a_state_lengths_and_records_go_step_by_step(parts):
    net, x, ran = nets.Dense(), vectors(3), parts(1)
    state = safjax.start(net, x)
    jax.eval_shape(lambda x: safjax.predict(net, x, state=state), x)
    jax.eval_shape(lambda x: safjax.predict(net, x, lengths=jnp.array([1, 2, 3])), x)
    jax.eval_shape(lambda x: safjax.simulate(net, x).outputs, x)
    assert not ran
    jax.eval_shape(lambda x: predicted(net, x), x)
    assert ran == [(3, 3)]


def temporary(steps, keep="mean"):
    net = nets.Dense(sizes=(7, 64, 64))
    x = jax.ShapeDtypeStruct((steps, 4, 7), jnp.float64)
    graph, *arrays = inference.evaluating(net)
    run = jax.jit(lambda x: inference._simulate.__wrapped__(graph, *arrays, x, None, (), None, keep, None).outputs)
    return run.lower(x).compile().memory_analysis().temp_size_in_bytes


def test_memory_does_not_grow_with_time(monkeypatch):
    """Eight steps of 4 × 64 neurons at once."""
    monkeypatch.setattr(several_steps, "LARGEST", 8 * 8 * 4 * 64)
    few, many = temporary(64), temporary(640)
    assert few <= many <= 1.02 * few + 64


def test_parts_are_equal_where_that_costs_little():
    assert [several_steps._divided(*row) for row in ((6, 16), (100, 16), (101, 16), (1000, 16))] == [1, 10, 7, 100]


def test_the_larger_a_step_the_fewer_at_once(monkeypatch):
    net = nnx.Sequential(Synapse(nets._dense(7, 64, nnx.Rngs(0))), LIF(), LeakyReadout())
    monkeypatch.setattr(several_steps, "LARGEST", 3 * 8 * 4 * 64)
    assert decided(net, jnp.ones((6, 4, 7))) == 2
    assert decided(net, jnp.ones((6, 12, 7))) is None


class Restless(nnx.Module):
    """Its way into evaluation changes a variable."""

    def __init__(self):
        self.scale = nnx.Variable(jnp.ones(()))
        self.net = nets.Dense()

    def eval(self, **attributes):
        super().eval(**attributes)
        self.scale[...] = 2.0

    def __call__(self, x):
        return self.scale[...] * self.net(x)


def test_evaluation_is_what_the_net_makes_of_it():
    net, x = Restless(), vectors(3)
    expected = 2.0 * safjax.predict(net.net, x)
    for _ in range(2):
        nets.assert_trees_close(safjax.predict(net, x), expected, rtol=1e-12)
    assert float(net.scale[...]) == 1.0
