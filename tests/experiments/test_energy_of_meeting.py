"""Operations of synapses with several inputs, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import energy
from experiments.energy.meeting import meeting
from safjax.models.sew_resnet import SEWBlock, sew_add, sew_and, sew_iand
from safjax.models.spikformer import Attention
from safjax.models.stages import Layers
from safjax.nn import IF, LIF, InstantReadout, LeakyReadout, Synapse, concatenate

A = jnp.array([1.0, 1.0, 0.0, 0.0, 1.0])
B = jnp.array([1.0, 0.0, 1.0, 0.0, 1.0])
WEIGHTS = jnp.array(np.random.default_rng(0).normal(size=(5, 3)))


def weighted(a, b):
    """Of a three targets each, of b, pooled in front of its weights, two."""
    return a @ WEIGHTS + jnp.pad(b[:, :4].reshape(-1, 2, 2).mean(-1) @ WEIGHTS[:2, :2], ((0, 0), (0, 1)))


@pytest.mark.parametrize(
    "function, accumulations",
    [
        (sew_add, 6),
        (sew_and, 2),
        (sew_iand, 1),  # where b fires and a does not
        (lambda a, b: jnp.concatenate([a, b], -1), 6),
        (lambda a, b: jnp.concatenate([a, jnp.ones_like(b)], -1) @ jnp.ones((10, 3)), 9),
        (lambda a, b: (a * b) @ WEIGHTS, 6),  # what passes the gate goes to three targets
        (lambda a, b: (a @ WEIGHTS) * b[:, :3], 9 + 2),  # a sum that is formed, and added where b fires
        (lambda a, b: 0.4 * (a[:, :, None] * b[:, None, :]), 9),
        (weighted, 9 + 2 * 2),
        (jax.jit(weighted), 9 + 2 * 2),
    ],
)
def test_two_streams_of_spikes_by_hand(function, accumulations):
    found = jax.jit(meeting(function, [(5,), (5,)], [True, True]))(A, B)
    assert tuple(map(int, found)) == (accumulations, 0)


@pytest.mark.parametrize(
    "function, spikes, expected",
    [
        (sew_add, [True, False], (3, 5)),
        (sew_add, [False, False], (0, 10)),
        (sew_and, [True, False], (3, 0)),  # a number is added where a spike is, also where it is 0
        (sew_and, [False, False], (0, 5)),
        (lambda a, b: (a * b) @ WEIGHTS, [False, True], (9, 0)),
        (lambda a, b: (a @ WEIGHTS) * b[:, :3], [False, True], (2, 15)),
        (lambda a, b: (a @ WEIGHTS) * (b @ WEIGHTS), [True, True], (9 + 9, 3)),  # two sums are no spikes
    ],
)
def test_spikes_and_numbers_by_hand(function, spikes, expected):
    found = meeting(function, [(5,), (5,)], spikes)(A, B)
    assert tuple(map(int, found)) == expected


def test_several_spikes_in_a_step_cost_as_many():
    assert int(meeting(sew_add, [(5,), (5,)], [True, True])(2 * A, B)[0]) == 2 * 3 + 3


def test_spiking_attention_by_hand():
    """Scores are formed where queries and keys meet, and added where values fire and the score is not 0."""
    q, k, v = np.random.default_rng(1).random((3, 4, 6)) < 0.4
    scores = sum(np.einsum("nc,mc->nm", q[:, h : h + 3] * 1, k[:, h : h + 3] * 1).sum() for h in (0, 3))
    added = 0
    for head in (0, 3):
        here = slice(head, head + 3)
        for n in range(4):
            for m in range(4):
                if (q[n, here] & k[m, here]).any():
                    added += v[m, here].sum()
    count = meeting(Attention(heads=2), [(4, 6)] * 3, [True] * 3)
    assert tuple(map(int, count(*(jnp.asarray(x, jnp.float32) for x in (q, k, v))))) == (scores + added, 0)
    assert scores > 0 and added > 0


def test_attention_of_masks_by_hand():
    """Yao et al. 2023: additions where keys and values meet, then where queries let the channel's spike pass."""
    q, k, v = np.random.default_rng(1).random((3, 4, 6)) < 0.4
    mask = meeting(lambda k, v: (k * v).sum(1, keepdims=True), [(4, 6)] * 2, [True] * 2)
    arrays = [jnp.asarray(x, jnp.float32) for x in (q, k, v)]
    assert int(mask(*arrays[1:])[0]) == (k & v).sum() > 0
    masked = meeting(lambda q, c: q * c, [(4, 6), (1, 6)], [True] * 2)
    assert int(masked(arrays[0], arrays[1][:1])[0]) == (q & k[:1]).sum() > 0


class Joined(nnx.Module):
    """Two layers of neurons that meet: side by side, or in a synapse."""

    def __init__(self, join):
        self.one, self.two = (Synapse(lambda x, s=s: s * x) for s in (0.5, 1.0))
        self.first, self.second, self.join = IF(), IF(), join
        self.last, self.readout = Synapse(nnx.Linear(6, 2, rngs=nnx.Rngs(0))), LeakyReadout(1.0)

    def __call__(self, x):
        return self.readout(self.last(self.join(self.first(self.one(x)), self.second(self.two(x)))))


IMAGE = jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
FIRST, SECOND = np.array([[0, 0], [2, 1]] * 2), np.array([[2, 1]] * 4)
"""Spikes of each step and example: the first layer fires in every second step, the second in each."""


def test_spikes_side_by_side_in_a_net():
    seen = energy.inference(Joined(concatenate), IMAGE, 4).synapses
    np.testing.assert_array_equal(seen["last"].accumulations, 2 * (FIRST + SECOND))


def test_a_synapse_of_two_inputs_in_a_net():
    net = Joined(Synapse(lambda a, b: jnp.concatenate([a + b, a * b], -1)))
    seen = energy.inference(net, IMAGE, 4).synapses
    joined = seen["join"]
    np.testing.assert_array_equal(joined.events, FIRST + SECOND)
    # Both are added, and once more where they meet, which is where the first fires.
    np.testing.assert_array_equal(joined.accumulations, FIRST + SECOND + FIRST)
    assert joined.multiplications.sum() == 0 and joined.connections == 3 * (2 + 2)
    # Behind, where both fire, two spikes are one entry of the sum.
    np.testing.assert_array_equal(seen["last"].accumulations, 2 * (FIRST + SECOND + FIRST))
    assert joined.picojoules == pytest.approx(0.9 * (2 * FIRST + SECOND).sum() / 2)


def test_an_image_that_meets_spikes_multiplies_in_every_step():
    class Shown(nnx.Module):
        def __init__(self):
            self.one, self.first, self.both = Synapse(lambda x: 0.5 * x), IF(), Synapse(lambda a, x: a + 0.1 * x)
            self.lif, self.readout = LIF(), InstantReadout()

        def __call__(self, x):
            return self.readout(self.lif(self.both(self.first(self.one(x)), x)))

    both = energy.inference(Shown(), IMAGE, 4).synapses["both"]
    np.testing.assert_array_equal(both.multiplications, [3, 3, 3, 3])
    np.testing.assert_array_equal(both.accumulations, FIRST)


@pytest.mark.parametrize("connect", [sew_add, sew_iand])
def test_a_spike_element_wise_block_in_a_net(connect):
    class Net(nnx.Module):
        def __init__(self):
            layers = Layers(None, None, jnp.float32, nnx.Rngs(0))
            self.enter, self.neurons = Synapse(lambda x: x), IF()
            self.block, self.readout = SEWBlock(2, 2, 1, connect, lambda: IF(0.1), layers), InstantReadout()

        def __call__(self, x):
            return self.readout(self.block(self.neurons(self.enter(x))))

    net, x = Net(), 2 * jax.random.uniform(jax.random.key(0), (2, 4, 4, 2))
    seen = energy.inference(net, x, 3)
    a, b = (np.asarray(seen.spikes[path]) for path in ("block.neuron2", "neurons"))
    assert 0 < a.mean() < 1
    expected = a + b if connect is sew_add else (1 - a) * b
    path = next(path for path in seen.synapses if "connect" in path)
    np.testing.assert_array_equal(seen.synapses[path].accumulations, expected.sum((2, 3, 4)))


def test_what_is_not_affine_in_an_input_is_named():
    net = Joined(Synapse(lambda a, b: jnp.concatenate([a * b, jnp.maximum(a, b)], -1)))
    with pytest.raises(ValueError, match="'join' cannot be counted: it contains a maximum.* in input 1 of 2"):
        energy.inference(net, IMAGE, 4)
