"""The learning rate follows the progress of training, however often a rule updates."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.config import Config
from experiments.optimizers import learning_rate, make_optimizer
from safjax.rules import RULES

CONFIG = Config(steps=3, learning_rate=0.5, momentum=0.0)
BATCHES = 8


def rates(method):
    """The learning rates at which plain SGD applies a gradient of one: [batches, updates of a batch]."""
    rule = RULES[method]()
    optimizer = make_optimizer(dataclasses.replace(CONFIG, method=method), rule, BATCHES)
    state, updates = optimizer.init(jnp.zeros(())), []
    per_batch = rule.schedule.updates(CONFIG.steps)
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


def test_rate_ends_at_zero():
    assert float(learning_rate(CONFIG, BATCHES)(BATCHES)) == 0


@pytest.mark.parametrize(
    ("name", "stock"),
    [("sgd", optax.sgd(0.5, momentum=0.9)), ("adam", optax.adam(0.5)), ("adamw", optax.adamw(0.5, weight_decay=0))],
)
def test_first_updates_are_those_of_optax(name, stock):
    config = dataclasses.replace(CONFIG, optimizer=name, momentum=0.9)
    # With this many batches the cosine stays at its start.
    ours = make_optimizer(config, RULES["bptt"](), 10**8)
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
    optimizer = make_optimizer(config, RULES[method](), 10**8)
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
    optimizer = make_optimizer(config, RULES["saf_f"](), 10**8)
    weight = jnp.array([0.3, -2.0])
    update, _ = optimizer.update(jnp.zeros(2), optimizer.init(weight), weight)
    np.testing.assert_allclose(update, -0.5 * 0.1 * weight, rtol=1e-6)
