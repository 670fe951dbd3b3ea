"""The learning rate follows the progress of training, however often a rule updates."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from experiments.config import ConfigError, Training
from experiments.training.optimizers import learning_rate, make_optimizer
from safjax.rules import RULES
from tests import nets
from tests.heard import Heard
from tests.tables import DEEP

CONFIG, STEPS = Training(learning_rate=0.5, momentum=0.0), 3
BATCHES = 8


def rates(method):
    """The learning rates at which plain SGD applies a gradient of one: [batches, updates of a batch]."""
    rule = RULES[method]()
    optimizer = make_optimizer(dataclasses.replace(CONFIG, method=method), rule, BATCHES, STEPS)
    state, updates = optimizer.init(jnp.zeros(())), []
    per_batch = rule.schedule.updates(STEPS)
    for _ in range(BATCHES * per_batch):
        update, state = optimizer.update(jnp.ones(()), state)
        updates.append(-float(update))
    return np.reshape(updates, (BATCHES, per_batch))


@pytest.mark.parametrize("method", RULES)
def test_every_rule_has_the_same_rate_at_the_same_batch(method):
    got = rates(method)
    cosine = 0.25 * (1 + np.cos(np.pi * np.arange(BATCHES) / BATCHES))
    assert got.shape == (BATCHES, 3 if method in ("saf_e", "ottt_o") else 1)
    np.testing.assert_allclose(got, np.broadcast_to(cosine[:, None], got.shape), rtol=1e-5)


@pytest.mark.parametrize("method", ["ottt_o", "saf_e", "bptt", "saf_f"])
def test_sequences_of_different_lengths_have_the_rate_of_their_batch_too(method):
    lengths = [3, 7, 2, 5, 1, 1, 4, 9]
    rule, config = RULES[method](), dataclasses.replace(CONFIG, method=method)
    optimizer = make_optimizer(config, rule, BATCHES, np.array(lengths))
    state, got = optimizer.init(jnp.zeros(())), []
    per_batch = [rule.schedule.updates(length) for length in lengths]
    for _ in range(sum(per_batch)):
        update, state = optimizer.update(jnp.ones(()), state)
        got.append(-float(update))
    cosine = 0.25 * (1 + np.cos(np.pi * np.arange(BATCHES) / BATCHES))
    assert len(got) == (32 if method in ("ottt_o", "saf_e") else BATCHES)
    np.testing.assert_allclose(got, cosine.repeat(per_batch), rtol=1e-5)


def test_rate_ends_at_zero():
    assert float(learning_rate(CONFIG, BATCHES)(BATCHES)) == 0


@pytest.mark.parametrize(
    ("name", "stock"),
    [("sgd", optax.sgd(0.5, momentum=0.9)), ("adam", optax.adam(0.5)), ("adamw", optax.adamw(0.5, weight_decay=0))],
)
def test_first_updates_are_those_of_optax(name, stock):
    config = dataclasses.replace(CONFIG, optimizer=name, momentum=0.9)
    # With this many batches the cosine stays at its start.
    ours = make_optimizer(config, RULES["bptt"](), 10**8, STEPS)
    weight = jnp.array([0.3, -2.0])
    states = [optimizer.init(weight) for optimizer in (ours, stock)]
    for gradient in (jnp.array([1.0, -0.5]), jnp.array([0.2, 0.7])):
        got, states[0] = ours.update(gradient, states[0], weight)
        expected, states[1] = stock.update(gradient, states[1], weight)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["saf_f", "ottt_o"])
def test_weight_decay_of_sgd_is_part_of_the_gradient(method):
    """v ← m v + g + c w, w ← w − η v: the published recipe's, written out."""
    config = dataclasses.replace(CONFIG, momentum=0.9, weight_decay=0.1)
    optimizer = make_optimizer(config, RULES[method](), 10**8, STEPS)
    weight = expected = np.array([0.3, -2.0])
    velocity, state = np.zeros(2), optimizer.init(jnp.asarray(weight))
    for gradient in np.array([[1.0, -0.5], [0.2, 0.7], [0.0, 0.0]]):
        update, state = optimizer.update(jnp.asarray(gradient), state, jnp.asarray(weight))
        weight = optax.apply_updates(weight, update)
        velocity = 0.9 * velocity + gradient + 0.1 * expected
        expected = expected - 0.5 * velocity
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_weight_decay_of_adamw_is_apart_from_the_gradient():
    config = dataclasses.replace(CONFIG, optimizer="adamw", weight_decay=0.1)
    optimizer = make_optimizer(config, RULES["saf_f"](), 10**8, STEPS)
    weight = jnp.array([0.3, -2.0])
    update, _ = optimizer.update(jnp.zeros(2), optimizer.init(weight), weight)
    np.testing.assert_allclose(update, -0.5 * 0.1 * weight, rtol=1e-6)


def test_rate_stays_while_batches_are_accumulated():
    """The update of batches 1 and 2 has the rate of batch 1, which the progress shows for both."""
    config = dataclasses.replace(CONFIG, accumulate=2)
    optimizer, shown = make_optimizer(config, RULES["saf_f"](), BATCHES, STEPS), learning_rate(config, BATCHES)
    state, updates = optimizer.init(jnp.zeros(())), []
    for _ in range(BATCHES):
        update, state = optimizer.update(jnp.ones(()), state)
        updates.append(-float(update))
    cosine = 0.25 * (1 + np.cos(np.pi * np.arange(0, BATCHES, 2) / BATCHES))
    np.testing.assert_allclose(updates, np.stack([0 * cosine, cosine], -1).ravel(), rtol=1e-5)
    np.testing.assert_allclose([shown(done) for done in range(BATCHES)], cosine.repeat(2), rtol=1e-5)


def trained(config, x, labels, size, batches):
    """The parameters after so many batches of a dense net, `size` examples in each; one that the rule can train."""
    rule = RULES[config.method]()
    step = safjax.train_step(nets.loss, rule, make_optimizer(config, rule, batches, nets.STEPS), steps=nets.STEPS)
    net = nets.Dense() if config.method in DEEP else Heard()
    opt_state = step.init(net)
    for first in range(0, batches * size, size):
        rows = slice(first, first + size)
        net, opt_state, (_, aux) = step(net, opt_state, x[rows], labels[rows])
        nets.assert_fires(aux.rates)
    return nnx.state(net)


@pytest.mark.parametrize(
    "method",
    [
        "ottt_a",
        *(pytest.param(m, marks=pytest.mark.slow) for m in RULES if m not in ("ottt_a", "ottt_o", "saf_e")),
    ],
)
def test_accumulated_batches_are_one_large_batch(method, x64):
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(0.5, 1, (48, 7))), jnp.asarray(rng.integers(0, nets.CLASSES, 48))
    config = dataclasses.replace(CONFIG, method=method, momentum=0.9, weight_decay=0.01, learning_rate=0.1)
    train = functools.partial(trained, x=x, labels=labels)
    large = train(config, size=24, batches=2)
    accumulated = train(dataclasses.replace(config, accumulate=3), size=8, batches=6)
    nets.assert_trees_close(accumulated, large, rtol=1e-12)


@pytest.mark.parametrize("method", ["ottt_o", "saf_e"])
def test_updates_within_a_batch_are_not_accumulated(method):
    config = dataclasses.replace(CONFIG, method=method, accumulate=2)
    with pytest.raises(ConfigError, match=f"--accumulate=2 .* --method={method} .*Give --method=ottt_a"):
        make_optimizer(config, RULES[method](), BATCHES, STEPS)
