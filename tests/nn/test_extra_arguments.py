"""Optimizers that ask for more than the gradient: the loss, and the loss as a function of the parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import safjax
from safjax import rules
from safjax.schedules.schedule import update
from tests import nets
from tests.tables import BROAD, rule_by_rule, schedules

pytestmark = pytest.mark.usefixtures("x64")

RULES = {**{name: make() for name, make in BROAD.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
EACH_STEP = ["ottt_o", "saf_e"]
T = 3


def image():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.BATCH, 7)))


def trained(name, optimizer, calls=1):
    """The optimizer's last state, the value and auxiliaries of each call, and the step."""
    step = safjax.train_step(nets.loss, RULES[name], optimizer, T, outputs="all")
    net, results = nets.Dense(), []
    opt_state = step.init(net)
    for _ in range(calls):
        net, opt_state, result = step(net, opt_state, image(), nets.labels())
        results.append(result)
    return opt_state, results


class Seen(NamedTuple):
    value: jax.Array
    grad: dict
    given: dict
    value_again: jax.Array
    grad_again: dict


def witness():
    """Learns nothing, and keeps what it is given."""

    def init(params):
        zero = jnp.zeros(())
        return Seen(zero, params, params, zero, params)

    def apply(grads, state, params=None, *, value, grad, value_fn):
        return jax.tree.map(jnp.zeros_like, grads), Seen(value, grad, grads, *jax.value_and_grad(value_fn)(params))

    return optax.GradientTransformationExtraArgs(init, apply)


@pytest.mark.parametrize("name", rule_by_rule(RULES, schedules))
def test_the_loss_and_its_function_are_those_of_the_gradient(name):
    seen, [(value, aux)] = trained(name, witness())
    nets.assert_fires(aux.rates)
    nets.assert_trees_close(seen.grad, seen.given)
    nets.assert_trees_close(seen.grad_again, seen.given)
    np.testing.assert_allclose(seen.value_again, seen.value, rtol=1e-12)
    expected = nets.loss(aux.outputs[-1], nets.labels()) / T if name in EACH_STEP else value
    np.testing.assert_allclose(seen.value, expected, rtol=1e-12)
    if name not in EACH_STEP:
        run = safjax.value_and_grad(nets.loss, RULES[name], T, outputs="all")
        nets.assert_trees_close(seen.given, run(nets.Dense(), image(), nets.labels())[1])


@pytest.mark.parametrize("name", ["saf_f", *EACH_STEP])
def test_the_learning_rate_falls_when_the_loss_no_longer_does(name):
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=2)
    state, results = trained(name, optax.chain(optax.sgd(0.0), plateau), calls=4)
    expected = plateau.init(jnp.zeros(()))
    for value, aux in results:
        steps = [nets.loss(output, nets.labels()) / T for output in aux.outputs] if name in EACH_STEP else [value]
        for seen in steps:
            _, expected = plateau.update(jnp.zeros(()), expected, value=seen)
    assert state[1].scale == expected.scale < 1


@pytest.mark.parametrize("name", ["bptt", *EACH_STEP])
def test_polyaks_step_size(name):
    _, results = trained(name, optax.polyak_sgd(max_learning_rate=1.0), calls=6)
    assert results[-1][0] < 0.5 * results[0][0]


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_a_line_search_lowers_the_loss(name):
    _, results = trained(name, optax.lbfgs(), calls=10)
    assert results[-1][0] < 0.5 * results[0][0]


@pytest.mark.parametrize("name", rule_by_rule(RULES, schedules))
def test_a_line_search_under_every_rule(name):
    for optimizer in (optax.lbfgs(), optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(5))):
        step, net = safjax.train_step(nets.loss, RULES[name], optimizer, T, outputs="all"), nets.Dense()
        step.lower(net, step.init(net), image(), nets.labels())


def test_an_optimizer_is_given_what_it_takes():
    def plain(grads, state, params):
        return grads, state

    def with_value(grads, state, params, value):
        return grads, value

    for function, expected in ((plain, 0), (with_value, 3)):
        optimizer = optax.GradientTransformation(lambda params: 0, function)
        assert update(optimizer, jnp.ones(2), 0, jnp.ones(2), value=3, value_fn=None)[1] == expected
