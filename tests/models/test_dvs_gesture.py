"""The gesture net of Fang et al.: its published size, and that it learns under the rules that take it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.models import DVSGestureNet
from safjax.nn import LIF

SMALL = functools.partial(DVSGestureNet, channels=4, size=32, neuron=lambda: LIF(0.5, 0.3))
LABELS = jnp.array([0, 3, 10])
TRAINED_BY = ("exodus", "slayer", "bptt(layerwise=True)")


def events(steps=3, size=32):
    """A patch of events that moves, in another direction for each class."""
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(steps, 3, size, size, 2)) < 0.1).astype(np.float32)
    for t in range(steps):
        for member, (dy, dx) in enumerate([(0, 4), (4, 0), (4, 4)]):
            x[t, member, 4 + t * dy : 14 + t * dy, 4 + t * dx : 14 + t * dx, member % 2] = 1
    return jnp.asarray(x)


def loss(outputs, labels):
    """Mean squared error of the mean vote, as published."""
    return jnp.mean((outputs.mean(0) - jax.nn.one_hot(labels, 11)) ** 2)


def test_published_parameter_count():
    """Convolutions without biases, scale and shift of normalisations, two dense layers; PLIF adds a number each."""
    net = nnx.eval_shape(lambda: DVSGestureNet(rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
    convolutions, norms = 9 * 2 * 128 + 4 * 9 * 128 * 128, 5 * 2 * 128
    dense = 128 * 4 * 4 * 512 + 512 + 512 * 110 + 110
    assert convolutions + norms + dense == 1_698_926 == count - 7


def test_layers_and_shapes():
    net = SMALL(rngs=nnx.Rngs(0))
    run = jax.eval_shape(lambda: safjax.simulate(net, events()).spikes)
    shapes = [(16, 16, 4), (8, 8, 4), (4, 4, 4), (2, 2, 4)]
    assert [s.shape[2:] for s in run.values()] == [(32, 32, 4), *shapes, (512,), (110,)]
    by_step = safjax.value_and_grad(lambda o, _: jnp.mean(o), rules.sltt())
    jax.eval_shape(lambda: by_step(SMALL(over="step", rngs=nnx.Rngs(0)), events(), LABELS)[1])


@pytest.mark.slow
def test_who_trains_it():
    published = DVSGestureNet(channels=4, size=32, rngs=nnx.Rngs(0))
    assert safjax.check(published, events()).trained_by == TRAINED_BY


def test_ten_neurons_vote_for_each_class():
    net = SMALL(rngs=nnx.Rngs(0))
    run = safjax.simulate(net, events())
    spikes = run.spikes["neurons.1"]
    votes = np.stack([spikes[..., 10 * c : 10 * c + 10].mean(-1) for c in range(11)], -1)
    np.testing.assert_allclose(run.outputs, votes, atol=1e-6)


@pytest.mark.parametrize(
    "rule",
    [
        rules.exodus(),
        pytest.param(rules.slayer(), marks=pytest.mark.slow),
        pytest.param(rules.bptt(layerwise=True), marks=pytest.mark.slow),
    ],
    ids=lambda rule: rule.name,
)
def test_it_learns(rule):
    net, x = SMALL(rngs=nnx.Rngs(0)), events()
    step = safjax.train_step(safjax.losses.SequenceLoss(loss), rule, optax.adam(3e-3))
    opt_state, values, before = step.init(net), [], nnx.clone(net).features.layers[2].layer.layers[2].mean[...].copy()
    for _ in range(30):
        net, opt_state, (value, aux) = step(net, opt_state, x, LABELS)
        values.append(float(value))
    assert all(rate > 0 for rate in aux.rates.values())
    assert min(values[-5:]) < 0.6 * values[0]
    assert np.abs(net.features.layers[2].layer.layers[2].mean[...] - before).max() > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [({"size": 100}, "multiple of 32"), ({"channels": 0}, "channels=0"), ({"num_classes": 2.0}, "num")],
)
def test_bad_options(options, word):
    with pytest.raises(ValueError, match=word):
        DVSGestureNet(**options, rngs=nnx.Rngs(0))
