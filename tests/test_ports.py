"""Ports of one value: their derivatives, and what they cost, read from the compiler."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from safjax import rules
from safjax.messages import Ported
from tests import by_hand, nets

pytestmark = pytest.mark.usefixtures("x64")


def products(rule, net, x):
    """How many matrix products a step has under a rule, in the compiled gradient of a whole sequence."""
    compute = jax.jit(lambda net, x, y: safjax.value_and_grad(nets.loss, rule)(net, x, y)[1])
    text = compute.lower(net, x, nets.labels()).compile().as_text()
    return len(re.findall(r" = \S+ (?:dot\(|custom-call\(.*matmul)", text))


def test_a_port_that_nobody_reads_costs_nothing():
    """Read from the compiled program: one product forward, one for the weights, one for spikes below."""
    net, x = nets.Dense(), by_hand.vectors()
    first, second, last = 2, 3, 3
    assert products(rules.ottt_a(), net, x) == products(rules.approx_otpe(), net, x) == first + second + last


def test_every_port_that_is_read_costs_one_product():
    """The first spikes go on to a membrane and are read: their weights take errors at both traces."""
    first, second, last, skip = 1 + 2, 1 + 1 + 1, 1 + 1 + 1, 1 + 1 + 1
    assert products(rules.approx_otpe(), by_hand.TwoWays(), by_hand.vectors()) == first + second + last + skip


def test_a_factor_of_zero_costs_nothing():
    """And another one a second product for the weights before each layer of neurons."""
    net, x = nets.Dense(), by_hand.vectors()
    causal = products(rules.stllr(noncausal=0.0), net, x)
    assert causal == products(rules.sltt(), net, x)
    assert products(rules.stllr(), net, x) == causal + 2


def test_values_and_derivatives():
    x, trace = jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])

    def total(x, error):
        message = Ported.of({"pass": x, "a": jax.lax.stop_gradient(x)}, {"a": trace})
        return error * (0.5 * message + message).read("pass", "a")

    value, pull = jax.vjp(total, x, jnp.ones(2))
    np.testing.assert_array_equal(value, 1.5 * x)
    np.testing.assert_array_equal(pull(jnp.ones(2))[0], [1.5, 1.5])
