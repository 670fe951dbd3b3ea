"""Memory, program size and recompilation of training steps, read from the compiler."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests.tables import rule_by_rule, schedules

ONLINE = [name for name, make in rules.RULES.items() if not make().schedule.sees_all_steps]


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def vgg():
    return safjax.models.SpikingVGG(3, cfg=(8, "M", 12), in_features=1, rngs=nnx.Rngs(0))


def vgg_f():
    return safjax.models.SpikingVGGF(3, cfg=(8, "M", 12), in_features=1, rngs=nnx.Rngs(0))


def dense():
    layers = (lambda x: x.reshape(len(x), -1), nnx.Linear(256, 64, rngs=nnx.Rngs(0)))
    last = safjax.nn.Synapse(nnx.Linear(64, 3, rngs=nnx.Rngs(1)))
    return nnx.Sequential(safjax.nn.Synapse(nnx.Sequential(*layers)), safjax.nn.LIF(), last, safjax.nn.LeakyReadout())


def lowered(rule, steps, static=True, make=None):
    """The training step for T = `steps`, of the VGG where the rule trains convolutions; not compiled."""
    net = (make or (dense if rule.propagation.per_weight else vgg))()
    step = safjax.train_step(loss, rule, optax.sgd(0.1), steps if static else None)
    x = jnp.ones((4, 16, 16, 1) if static else (steps, 4, 16, 16, 1))
    return step.lower(net, step.init(net), x, jnp.zeros(4, jnp.int32))


def temp_bytes(rule, steps, static=True, make=None):
    return lowered(rule, steps, static, make).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", rule_by_rule({name: rules.RULES[name] for name in ONLINE}))
def test_online_memory_does_not_grow_with_time(name):
    few, many = temp_bytes(rules.RULES[name](), 8), temp_bytes(rules.RULES[name](), 64)
    assert few > 100_000
    assert abs(many - few) < 0.02 * few


@pytest.mark.parametrize("name", ["saf_f", "ottt_a"])
def test_online_memory_does_not_grow_with_the_length_of_a_sequence(name):
    """The sequence itself is an argument; only temporary memory counts."""
    few, many = temp_bytes(rules.RULES[name](), 8, False), temp_bytes(rules.RULES[name](), 64, False)
    assert abs(many - few) < 0.02 * few


@pytest.mark.parametrize("name", ["saf_e", "ottt_a", "ide"])
def test_online_memory_does_not_grow_with_feedback_either(name):
    few, many = (temp_bytes(rules.RULES[name](), steps, make=vgg_f) for steps in (8, 64))
    assert abs(many - few) < 0.02 * few


class Wide(nnx.Module):
    """Standardised convolutions whose kernels are much larger than their maps."""

    def __init__(self, rngs):
        convolutions = (safjax.nn.WSConv(128, 128, (3, 3), rngs=rngs) for _ in range(3))
        self.layers = nnx.List([safjax.nn.Synapse(convolution) for convolution in convolutions])
        self.neurons = nnx.List([safjax.nn.LIF(decay=0.5) for _ in range(3)])
        self.pool = safjax.nn.Synapse(safjax.ops.global_avg_pool)
        self.readout = safjax.nn.LeakyReadout()

    def __call__(self, x):
        for layer, neuron in zip(self.layers, self.neurons, strict=True):
            x = neuron(layer(x))
        return self.readout(self.pool(x))


@pytest.mark.parametrize(("name", "copies"), [("saf_f", 1), ("saf_e", 1), ("ottt_a", 2)])
def test_copies_of_the_weights(name, copies):
    """Standardised kernels are in memory once, and where gradients are summed up over time their sum once."""
    net = Wide(nnx.Rngs(0))
    step = safjax.train_step(loss, rules.RULES[name](), optax.sgd(0.1), steps=4)
    program = step.lower(net, step.init(net), jnp.ones((1, 4, 4, 128)), jnp.zeros(1, jnp.int32)).compile()
    kernels = sum(x.nbytes for x in jax.tree.leaves(nnx.state(net, nnx.Param)))
    # One kernel's tiles and its gradient come on top, two thirds of all three kernels and what 4 / 9 adds to them.
    assert program.memory_analysis().temp_size_in_bytes < (copies + 1) * kernels


def test_bptt_memory_grows_with_time():
    assert temp_bytes(rules.bptt(), 64) > 3 * temp_bytes(rules.bptt(), 8)


@pytest.mark.parametrize("name", rule_by_rule(rules.RULES, schedules))
def test_the_program_does_not_grow_with_time(name):
    """Compile time follows the size of the program: it has the same operations for any T."""

    def operations(steps):
        return lowered(rules.RULES[name](), steps).as_text().count(" = ")

    assert operations(8) == operations(64) > 100


@pytest.mark.parametrize("name", ["saf_f", "ottt_o", "bptt"])
def test_a_second_call_never_compiles_again(name):
    traces = []

    def counting(output, labels):
        traces.append(1)
        return loss(output, labels)

    net, x, y = vgg(), jnp.ones((4, 16, 16, 1)), jnp.zeros(4, jnp.int32)
    step = safjax.train_step(counting, rules.RULES[name](), optax.sgd(0.1), 4)
    opt_state = step.init(net)
    net, opt_state, _ = step(net, opt_state, x, y)
    compute = safjax.value_and_grad(counting, rules.RULES[name](), 4)
    compute(net, x, y)
    traced = len(traces)
    for seed in range(3):
        x = jnp.asarray(np.random.default_rng(seed).normal(size=x.shape), x.dtype)
        net, opt_state, _ = step(net, opt_state, x, y)
        compute(net, x, y)
        compute(vgg(), x, y)
    assert traced and len(traces) == traced


def test_equal_rules_share_what_is_compiled():
    """A rule is a static argument of user-level jit: equal rules do not compile twice."""
    calls = []

    def f(rule, x):
        calls.append(rule)
        return x

    jitted = jax.jit(f, static_argnums=0)
    for _ in range(2):
        jitted(rules.sltt(sampled=3), 1.0)
        jitted(rules.ottt_a(), 1.0)
    assert len(calls) == 2


def loops(text):
    """The bodies of a program's loops; operations in them have regions of their own."""
    for body in text.split(" do {")[1:]:
        depths = itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in body)
        yield body[: next(place for place, depth in enumerate(depths) if depth < 0)]


def test_what_does_not_change_with_time_leaves_the_loop():
    """Under SAF-F neither the kernels' standardisation (rsqrt) nor the image's convolution stands in the loop."""
    text = lowered(rules.saf_f(), 8).as_text()
    first_kernel, second_kernel = "3x3x1x8xf32", "3x3x8x12xf32"
    # Not the loop over blocks of images in which the image's convolution may run.
    loop = next(loop for loop in loops(text) if second_kernel in loop)
    assert "rsqrt" in text and "rsqrt" not in loop
    assert first_kernel in text and first_kernel not in loop
