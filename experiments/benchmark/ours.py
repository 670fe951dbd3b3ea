"""safjax's rows: one for each rule."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import safjax
from experiments.benchmark import nets
from experiments.benchmark.work import INPUT_RATE, Prepared, Program, Work
from experiments.energy.operations import operations
from experiments.training.losses import mean_loss
from safjax.rules import RULES, Rule, bptt, exodus
from safjax.schedules import LayerByLayer

METHODS: dict[str, Callable[[], Rule]] = {
    **RULES,
    "bptt_layerwise": functools.partial(bptt, layerwise=True),
    "bptt_remat": functools.partial(bptt, remat=True),
    "exodus_segments": functools.partial(exodus, segments=24),
    "exodus_segments_remat": functools.partial(exodus, segments=12, remat=True),
}


def net_of(work: Work, method: str = "bptt") -> nnx.Module:
    """The network, freshly initialised; batch normalisation as a rule can train it, see `over_of`."""
    rngs = nnx.Rngs(0)
    if work.network == "vgg":
        return safjax.models.SpikingVGG(work.classes, width=work.width, rngs=rngs)
    if work.network == "dense":
        return safjax.models.SpikingMLP(work.sizes, input_rate=INPUT_RATE, decay=work.decay, rngs=rngs)
    if work.network == "resnet":
        return safjax.models.nf_resnet34(work.classes, width=work.width, rngs=rngs)
    if work.network == "conv":
        return nets.ConvNet(work.sizes, work.classes, rngs)
    if work.network == "pooled":
        return nets.pooled(work, rngs)
    if work.network == "recurrent":
        return nets.recurrent(work, rngs)
    make = nets.gesture if work.network == "gesture" else nets.spikformer
    return make(work, over_of(method), rngs)


def over_of(method: str) -> str:
    """What the statistics of batch normalisation are of: all steps where a rule takes them at once, else each."""
    schedule = METHODS[method]().schedule
    return "time" if isinstance(schedule, LayerByLayer) and schedule.segments is None else "step"


def optimizer_of(work: Work) -> optax.GradientTransformation:
    """Adam for spike trains, stochastic gradient descent with momentum for images."""
    return optax.sgd(0.01, momentum=0.9) if work.static else optax.adam(1e-3)


def step_of(work: Work, method: str) -> safjax.TrainStep:
    """The training step under a rule."""
    loss = functools.partial(mean_loss, mse_weight=work.mse_weight)
    return safjax.train_step(loss, METHODS[method](), optimizer_of(work), work.steps if work.static else None)


def operations_of(work: Work, method: str) -> int:
    """Of one training step, see `experiments.energy.operations`."""
    net, step = net_of(work, method), step_of(work, method)
    opt_state = step.init(net)

    def results(inputs: jax.Array, labels: jax.Array) -> tuple:
        trained, new_state, result = step(net, opt_state, inputs, labels)
        return nnx.state(trained, nnx.Param), new_state, result

    return operations(results, *work.batch())


def prepare(work: Work, method: str, unrolled: bool = False) -> Prepared:
    """The training step under a rule; `unrolled` writes all T steps out instead of looping."""

    def loops() -> contextlib.AbstractContextManager:
        scan = functools.partial(jax.lax.scan, unroll=work.steps)
        return mock.patch("jax.lax.scan", scan) if unrolled else contextlib.nullcontext()

    inputs, labels = map(jnp.asarray, work.batch())
    net, step = net_of(work, method), step_of(work, method)
    state = [net, step.init(net)]

    def turn() -> float:
        with loops():
            state[0], state[1], (value, _) = step(state[0], state[1], inputs, labels)
        jax.block_until_ready((value, state[1]))
        return float(value)

    def program() -> Program:
        with loops():
            began = time.perf_counter()
            compiled = step.lower(state[0], state[1], inputs, labels).compile()
            seconds = time.perf_counter() - began
            count = operations_of(work, method)
        return Program(compiled.memory_analysis().temp_size_in_bytes, count, seconds, jax.default_backend())

    return Prepared(turn, program)


def prepare_stream(work: Work, method: str) -> Prepared:
    """The same, by calls of T = 1 with the state from hand to hand, in one compiled loop.

    Of a rule that updates once a sequence, the loop adds up the gradients of all calls.
    """
    inputs, labels = map(jnp.asarray, work.batch())
    net, rule, optimizer = net_of(work, method), METHODS[method](), optimizer_of(work)
    loss = functools.partial(mean_loss, mse_weight=work.mse_weight)
    step = safjax.train_step(loss, rule, optimizer, mean_over=work.steps)
    compute = safjax.value_and_grad(loss, rule, mean_over=work.steps)
    each = rule.schedule.updates(work.steps) > 1

    def with_update(learner, x):
        net, opt_state, state = learner
        net, opt_state, (value, aux) = step(net, opt_state, x[None], labels, state=state)
        return (net, opt_state, aux.state), value

    def with_sum(carry, x):
        net, total, state = carry
        (value, aux), grads = compute(net, x[None], labels, state=state)
        return (net, jax.tree.map(jnp.add, total, nnx.as_pure(grads)), aux.state), value

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train(net, opt_state, inputs):
        state = step.start(net, inputs[:1])
        if each:
            (net, opt_state, _), values = jax.lax.scan(with_update, (net, opt_state, state), inputs)
            return net, opt_state, values.sum()
        params = nnx.as_pure(nnx.state(net, nnx.Param))
        (net, grads, _), values = jax.lax.scan(with_sum, (net, jax.tree.map(jnp.zeros_like, params), state), inputs)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        nnx.update(net, optax.apply_updates(params, updates))
        return net, opt_state, values.sum()

    kept = [net, step.init(net)]

    def turn() -> float:
        kept[0], kept[1], value = train(kept[0], kept[1], inputs)
        jax.block_until_ready(kept[1])
        return float(value)

    def program() -> Program:
        began = time.perf_counter()
        compiled: Any = train.lower(kept[0], kept[1], inputs).compile()
        seconds = time.perf_counter() - began
        return Program(compiled.memory_analysis().temp_size_in_bytes, None, seconds, jax.default_backend())

    return Prepared(turn, program)
