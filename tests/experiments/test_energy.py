"""Operations and energy against counts by hand, exact where they are whole numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import energy
from experiments.energy.connections import fan_out
from safjax.models import SpikingVGGF
from safjax.nn import IF, LIF, LeakyReadout, Synapse, WSConv
from safjax.ops import avg_pool, global_avg_pool
from safjax.rules import RULES

STEPS = 4


def dense(weights):
    layer = nnx.Linear(*np.shape(weights), use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(weights, jnp.float32)
    return Synapse(layer)


def dense_net():
    """Three neurons that fire in every second step, in every step, and never, for inputs 1, 0; then two outputs."""
    return nnx.Sequential(dense([[0.5, 1.0, 0.0], [9.0, 9.0, 9.0]]), IF(), dense(np.ones((3, 2))), LeakyReadout())


def conv_net():
    """16 neurons of 4×4 that all fire in steps 2 and 4; pooled, convolved 3×3 with ones, averaged.

    The 2×2×5 neurons behind see a current of 4 each time, and so fire from step 2 on.
    """
    rngs, constant = nnx.Rngs(0), nnx.initializers.constant
    first = Synapse(nnx.Conv(1, 1, (1, 1), kernel_init=constant(0.5), rngs=rngs))
    conv = nnx.Conv(1, 5, (3, 3), kernel_init=constant(1.0), rngs=rngs)
    second = Synapse(nnx.Sequential(lambda x: avg_pool(x, (2, 2)), conv))
    last = Synapse(nnx.Sequential(global_avg_pool, nnx.Linear(5, 7, rngs=rngs)))
    return nnx.Sequential(first, IF(), second, IF(), last, LeakyReadout())


def loss(output, labels):
    return jnp.mean(output**2) + 0.0 * jnp.sum(labels)


def test_dense_net_by_hand():
    net = dense_net()
    before = nnx.graphdef(net)
    seen = energy.inference(net, jnp.array([[1.0, 0.0]]), STEPS)
    assert nnx.graphdef(net) == before
    first, second = seen.synapses["layers.0"], seen.synapses["layers.2"]
    np.testing.assert_array_equal(seen.spikes["layers.1"][:, 0], [[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0]])
    assert (first.connections, second.connections) == (6, 6)
    # The image comes as real numbers, its 0 too, and once; each spike then reaches two outputs.
    np.testing.assert_array_equal(first.multiplications, [6, 0, 0, 0])
    np.testing.assert_array_equal(first.accumulations, np.zeros((4, 1)))
    np.testing.assert_array_equal(second.multiplications, [0, 0, 0, 0])
    np.testing.assert_array_equal(second.accumulations, [[2], [4], [2], [4]])
    np.testing.assert_array_equal(second.events, [[1], [2], [1], [2]])
    assert second.rate == 6 / (3 * STEPS)
    assert seen.picojoules == pytest.approx(4.6 * 6 + 0.9 * 12)


def test_convolutional_net_by_hand():
    images = jnp.stack([jnp.ones((4, 4, 1)), jnp.zeros((4, 4, 1))])
    seen = energy.inference(conv_net(), images, STEPS)
    assert list(seen.synapses) == ["layers.0", "layers.2", "layers.4"]
    first, second, third = seen.synapses.values()
    assert first.connections == 16 and list(first.multiplications) == [16, 0, 0, 0]
    # Each of the four pooled sites lies within the window of all four outputs, of five channels: 20 targets.
    np.testing.assert_array_equal(second.fan_out, np.full((4, 4, 1), 20))
    np.testing.assert_array_equal(second.accumulations, [[0, 0], [320, 0], [0, 0], [320, 0]])
    # A program convolves what is pooled already, and multiplies by the padding.
    assert [synapse.dense for synapse in seen.synapses.values()] == [16, 4 * 5 * 9, 5 * 7]
    np.testing.assert_array_equal(third.fan_out, np.full((2, 2, 5), 7))
    np.testing.assert_array_equal(third.accumulations, [[0, 0], [140, 0], [140, 0], [140, 0]])
    assert second.picojoules == pytest.approx(0.9 * 640 / 2) and third.picojoules == pytest.approx(0.9 * 420 / 2)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.7]])
def test_sequence_of_spikes_accumulates_and_one_of_numbers_multiplies(values):
    inputs = jnp.asarray(values)[jnp.array([[[1, 0]], [[1, 1]], [[0, 0]]])]
    first = energy.inference(dense_net(), inputs).synapses["layers.0"]
    if values[1] == 1.0:
        np.testing.assert_array_equal(first.accumulations, [[3], [6], [0]])
        np.testing.assert_array_equal(first.multiplications, [0, 0, 0])
    else:
        np.testing.assert_array_equal(first.accumulations, [[0], [0], [0]])
        np.testing.assert_array_equal(first.multiplications, [6, 6, 6])


def test_feedback_is_of_spikes():
    net = SpikingVGGF(3, cfg=(2, "M", 4), in_features=1, rngs=nnx.Rngs(0))
    seen = energy.inference(net, 2 * jnp.ones((1, 4, 4, 1)), 3)
    back = seen.synapses["feedback"]
    assert back.multiplications.sum() == 0 and back.fan_out.shape == (2, 2, 4)
    spikes = np.asarray(seen.spikes["vgg.features.layers.3"])
    # Of the step before, each enlarged to 2×2 sites: fan-outs 4, 6, 6, 9 of a corner, two channels.
    np.testing.assert_array_equal(back.fan_out, np.full((2, 2, 4), 2 * (4 + 6 + 6 + 9)))
    np.testing.assert_array_equal(back.accumulations[1:, 0], 50 * spikes[:-1].sum((1, 2, 3, 4)))
    assert back.accumulations.sum() > 0


def test_synapse_that_is_not_affine_is_named():
    net = nnx.Sequential(dense(np.ones((2, 2))), LIF(), Synapse(jax.nn.relu), LeakyReadout())
    with pytest.raises(ValueError, match="'layers.2' cannot be counted: it contains a maximum"):
        energy.inference(net, jnp.ones((1, 2)), STEPS)


# 2-3-2 has 6 and 6 connections. The image's forward pass and weight gradient are taken once; of the second synapse a
# forward pass in each of T = 4 steps, input and weight gradients in each step; under SAF-F all three in the last only,
# since nothing that comes later depends on what goes to the readout before.
@pytest.mark.parametrize(
    ("rule", "passes"), [("bptt", 6 + 3 * 24 + 6), ("ottt_a", 6 + 3 * 24 + 6), ("saf_f", 6 + 3 * 6 + 6)]
)
def test_training_step_by_hand(rule, passes):
    net, image, labels = dense_net(), jnp.array([[1.0, 0.0]]), jnp.zeros(1)
    assert energy.training_multiplications(net, loss, RULES[rule](), image, labels, steps=STEPS) == passes


def test_training_grows_with_the_batch():
    net, rule = dense_net(), RULES["saf_f"]()
    counts = [
        energy.training_multiplications(net, loss, rule, jnp.ones((n, 2)), jnp.zeros(n), steps=STEPS) for n in (1, 5)
    ]
    assert counts[1] == 5 * counts[0]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (lambda x: -x[:, ::2] / 3 - 1, (5,), [1, 0, 1, 0, 1]),
        (lambda x: 2 * x + x.reshape(1, -1), (2,), [2, 2]),
        (jax.jit(lambda x: x @ np.ones((2, 3), np.float32)), (2,), [3, 3]),
        (nnx.Conv(1, 2, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)), (2, 3), [[8, 12, 8], [8, 12, 8]]),
        (WSConv(1, 2, strides=2, rngs=nnx.Rngs(0)), (3, 3), [[2, 4, 2], [4, 8, 4], [2, 4, 2]]),
        (lambda x: avg_pool(x, (3, 3), (2, 2), "SAME"), (4, 4), [[1, 1, 2, 1]] * 2 + [[2, 2, 4, 2], [1, 1, 2, 1]]),
        (nnx.Linear(3, 4, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0)), (3,), [4, 4, 4]),
    ],
)
def test_fan_out_by_hand(layer, shape, expected):
    channels = () if len(shape) == 1 else (1,)
    np.testing.assert_array_equal(fan_out(layer, (*shape, *channels)), np.reshape(expected, (*shape, *channels)))


def test_fan_out_is_that_of_the_map_and_not_of_a_fast_formula():
    """On CPU a convolution of so many channels is computed by minimal filtering, with fewer products."""
    found = fan_out(WSConv(64, 128, rngs=nnx.Rngs(0)), (4, 4, 64))
    sides = np.array([2, 3, 3, 2])
    np.testing.assert_array_equal(found, np.broadcast_to(128 * np.outer(sides, sides)[..., None], (4, 4, 64)))


def test_a_padded_batch_takes_the_energy_of_its_members():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(Synapse(nnx.Linear(4, 8, rngs=rngs)), LIF(), Synapse(nnx.Linear(8, 3, rngs=rngs)))
    net = nnx.Sequential(*net.layers, LeakyReadout())
    random, lengths = np.random.default_rng(0), np.array([2, 6, 3])
    analog = jnp.asarray(random.normal(0, 4, (6, 3, 4)), jnp.float32)
    spikes = jnp.asarray(random.random((6, 3, 4)) < 0.5, jnp.float32)
    for x in (analog, spikes):
        padded = jnp.where((np.arange(6)[:, None] < lengths)[..., None], x, 0)
        together = energy.inference(net, padded, lengths=jnp.asarray(lengths))
        alone = [energy.inference(net, x[:n, b : b + 1]) for b, n in enumerate(lengths)]
        assert together.picojoules == pytest.approx(np.mean([one.picojoules for one in alone]))
        for path, synapse in together.synapses.items():
            events = sum(one.synapses[path].events.sum() for one in alone)
            assert 0 < synapse.rate == pytest.approx(events / (synapse.fan_out.size * lengths.sum()))
