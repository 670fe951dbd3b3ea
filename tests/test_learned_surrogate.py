"""Spike functions that learn: a smooth function with a width of its own, under every rule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, LeakyReadout, SlidingPSN, Synapse
from safjax.surrogate import Surrogate
from tests import nets
from tests.tables import DEEP, families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")


class Soft(nnx.Module):
    """s = 1 / (1 + exp(−x / w)), each neuron with a width of its own, and a height."""

    def __init__(self, width):
        self.width, self.height = nnx.Param(jnp.asarray(width)), nnx.Param(jnp.asarray(0.9))

    def __call__(self, x):
        return self.height[...] * jax.nn.sigmoid(x / self.width[...])


def soft_net(**options):
    net = nets.Dense(lambda: LeakyReadout(0.7))
    net.lif1 = LIF(0.7, surrogate=Soft(np.linspace(0.2, 0.6, 9)), **options)
    net.lif2 = LIF(0.7, surrogate=Soft(0.3), **options)
    return net


def sequence():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (6, nets.BATCH, 7)))


def by_hand(params, x, reset, memory):
    """The loss of `soft_net` in a Python loop; what `reset` and `memory` wrap is handed on to the next step."""
    m1, m2, m3, gain, losses = 0.0, 0.0, 0.0, 0.0, []
    for current in x:
        for name, bound in (("first", "lif1"), ("second", "lif2")):
            layer, soft = params[name]["layer"], params[bound]["surrogate"]
            u = 0.7 * (m1 if bound == "lif1" else m2) + current @ layer["kernel"] + layer["bias"]
            current = soft["height"] / (1 + jnp.exp(-(u - 1) / soft["width"]))
            m = memory(u - reset(current))
            m1, m2 = (m, m2) if bound == "lif1" else (m1, m)
        layer, gain = params["last"]["layer"], 0.7 * gain + 1
        m3 = 0.7 * m3 + current @ layer["kernel"] + layer["bias"]
        losses.append(nets.loss(m3 / gain, nets.labels()))
        m3 = memory(m3)
    return jnp.stack(losses).mean()


def keep(x):
    return x


@pytest.mark.parametrize(
    "rule, reset, memory",
    [
        (rules.bptt(), keep, keep),
        (rules.bptt(remat=True), keep, keep),
        (rules.bptt(layerwise=True), keep, keep),
        (rules.exodus(), keep, keep),
        (rules.exodus(parallel=True), keep, keep),
        (rules.bptt(detach_reset=True), jax.lax.stop_gradient, keep),
        (rules.slayer(), jax.lax.stop_gradient, keep),
        (rules.slayer(parallel=True), jax.lax.stop_gradient, keep),
        (rules.sltt(), keep, jax.lax.stop_gradient),
    ],
    ids=lambda x: x.name if isinstance(x, rules.Rule) else "",
)
def test_the_gradient_of_a_width_is_that_of_the_loop_by_hand(rule, reset, memory):
    net = soft_net()
    params = nnx.as_pure(nnx.state(net, nnx.Param))
    value, expected = jax.value_and_grad(by_hand)(params, sequence(), reset, memory)
    (ours, _), grads = safjax.value_and_grad(nets.loss, rule)(net, sequence(), nets.labels())
    np.testing.assert_allclose(ours, value, rtol=1e-12)
    nets.assert_trees_close(grads, expected, rtol=1e-10)


@pytest.mark.parametrize("options", [{"max_spikes": 2}, {"floor": -0.3}, {"scaled": True, "reset": 0.9}], ids=str)
def test_in_closed_form_with_other_resets_on_a_static_image(options):
    def gradients(rule):
        return safjax.value_and_grad(nets.loss, rule, 6)(soft_net(**options), sequence()[0], nets.labels())[1]

    expected = gradients(rules.bptt())
    for rule in (rules.exodus(), rules.exodus(parallel=True)):
        nets.assert_trees_close(gradients(rule), expected, rtol=1e-12)


def test_neurons_without_a_loop():
    def gradients(rule):
        net = nets.Dense()
        net.lif1 = SlidingPSN(3, Soft(0.3), param_dtype=jnp.float64)
        return safjax.value_and_grad(nets.loss, rule)(net, sequence(), nets.labels())[1]

    nets.assert_trees_close(gradients(rules.exodus()), gradients(rules.bptt()), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, make in rules.RULES.items() if make().propagation.accumulates])
def test_rules_that_accumulate_refuse_it(name, advice):
    gradients = safjax.value_and_grad(nets.loss, rules.RULES[name]())
    message = f"LIF at 'lif1' learns 'surrogate.*', but the rule '{name}'.*nnx.Variable.*bptt"
    with pytest.raises(ValueError, match=message):
        gradients(soft_net(), sequence(), nets.labels())


@pytest.mark.parametrize("name", rule_by_rule(DEEP, families))
def test_a_width_that_is_not_learned_may_be_a_variable(name):
    """Under every rule as the number that it is."""

    def gradients(surrogate):
        net = nets.Dense(surrogate=surrogate)
        return safjax.value_and_grad(nets.loss, rules.RULES[name]())(net, sequence(), nets.labels())[1]

    nets.assert_trees_close(gradients(Given(0.3)), gradients(lambda x: jax.nn.sigmoid(x / 0.3)), rtol=1e-12)


class Given(nnx.Module):
    def __init__(self, width):
        self.width = nnx.Variable(jnp.asarray(width))

    def __call__(self, x):
        return jax.nn.sigmoid(x / self.width[...])


class Held(Surrogate):
    def __init__(self, width):
        self.width = width

    def slope(self, x):
        return jnp.exp(-jnp.abs(x) / self.width)


@dataclasses.dataclass(frozen=True)
class Frozen(Held):
    width: jax.Array


class Wrapped(nnx.Module):
    def __init__(self):
        self.width = nnx.Param(jnp.asarray(0.5))

    def __call__(self, x):
        return Held(self.width[...])(x)


def test_what_could_not_be_learned_is_refused():
    with pytest.raises(TypeError, match=r"LIF\(surrogate=Held.*holds the variable 'width'.*nnx.Module with a smooth"):
        LIF(surrogate=Held(nnx.Param(jnp.asarray(0.5))))
    with pytest.raises(TypeError, match="hashable.*numbers as fields, not arrays; one that learns is an nnx.Module"):
        LIF(surrogate=Frozen(jnp.asarray(0.5)))
    for name in ("bptt", "sltt", "exodus"):
        net = nnx.Sequential(Synapse(nnx.Linear(7, 4, rngs=nnx.Rngs(0))), LIF(surrogate=Wrapped()), LeakyReadout())
        with pytest.raises(TypeError, match=r"Held\(width=.*no gradient by which to learn that.*smooth function"):
            safjax.value_and_grad(nets.loss, rules.RULES[name]())(net, sequence(), nets.labels())
