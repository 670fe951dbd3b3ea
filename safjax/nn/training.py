"""Entry points: gradients, training steps and inference of a spiking net."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from safjax import loops
from safjax.nn.binding import Bound, bind, rest_of
from safjax.rules import Rule, bptt

Loss = Callable[..., jax.Array]


class Aux(NamedTuple):
    """What comes with the value of the loss.

    Attributes:
      outputs: the net's output at every step, [T, B, ...].
      rates: firing rate of every neuron module by its path, the fraction of its neurons that fire in a step, averaged
        over batch and steps.
    """

    outputs: Any
    rates: dict[str, jax.Array]


class Simulation(NamedTuple):
    """A recorded run: the net's outputs [T, B, ...] and every neuron module's spikes [T, B, ...] by its path."""

    outputs: Any
    spikes: dict[str, jax.Array]


def value_and_grad(
    loss: Loss, rule: Rule, steps: int | None = None
) -> Callable[..., tuple[tuple[jax.Array, Aux], Any]]:
    """The loss of a spiking net and its gradient under a learning rule; mirrors `jax.value_and_grad`.

        (value, aux), grads = safjax.value_and_grad(loss, rule, steps=6)(net, x, *targets)

    Args:
      loss: (output[B, ...], *targets) ↦ scalar, the mean over the batch of one step's loss. The value is its mean over
        the steps; under rules that look at the last step only, it is that step's.
      rule: from `safjax.rules`.
      steps: T for a static image x[B, ...], presented at every step; None for a sequence x[T, B, ...].

    Returns:
      A compiled function of (net, x, *targets, key=None). Its gradients are an `nnx.State` with the same tree under
      every rule. `key` is for rules that draw at random, sltt(sampled=K). Variables that the net itself changes (batch
      statistics, dropout counts) are updated in place; everything else of `net` is left as it is.

    Raises:
      TypeError, ValueError: bad steps, inputs that do not fit them, a net that the rule cannot train.
    """
    _check_arguments(loss, rule, steps)

    @functools.partial(jax.jit, static_argnums=0)
    def compute(graphdef, params, rest, x, targets, key):
        bound, task = _task(graphdef, params, rest, rule, loss, targets, x, steps)
        run, grads = rule.schedule.gradients(task, bound.params, bound.carry, key)
        return (run.value, _aux(run)), grads, rest_of(bound, run.carry)

    def compute_for(net: nnx.Module, x: Any, *targets: Any, key: jax.Array | None = None):
        _check_call(net, x, steps, rule, key)
        result, grads, rest = compute(*_split(net), x, targets, key)
        nnx.update(net, rest)
        return result, grads

    return compute_for


class TrainStep:
    """A compiled training step; made by `train_step`."""

    def __init__(self, loss: Loss, rule: Rule, optimizer: Any, steps: int | None):
        _check_arguments(loss, rule, steps)
        self._optimizer, self._rule, self._steps = optimizer, rule, steps

        @functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3))
        def update(graphdef, params, rest, opt_state, x, targets, key):
            bound, task = _task(graphdef, params, rest, rule, loss, targets, x, steps)
            run, params, opt_state = rule.schedule.train(task, bound.params, bound.carry, key, optimizer, opt_state)
            return params, rest_of(bound, run.carry), opt_state, (run.value, _aux(run))

        self._update = update
        self._latest: Callable[[], nnx.Module | None] = lambda: None

    def init(self, net: nnx.Module) -> Any:
        """The optimizer's state for `net`."""
        return self._optimizer.init(_split(net)[1])

    def lower(self, net: nnx.Module, opt_state: Any, x: Any, *targets: Any, key: jax.Array | None = None) -> Any:
        """The lowered step, as of `jax.jit(f).lower(...)`: to read its memory and cost before running it."""
        graphdef, params, rest = _split(net)
        return self._update.lower(graphdef, params, rest, opt_state, x, targets, key)

    def __call__(
        self, net: nnx.Module, opt_state: Any, x: Any, *targets: Any, key: jax.Array | None = None
    ) -> tuple[nnx.Module, Any, tuple[jax.Array, Aux]]:
        """One step on one batch: (net, opt_state, x, *targets) ↦ (net, opt_state, (value, aux))."""
        _check_call(net, x, self._steps, self._rule, key)
        graphdef, params, rest = _split(net)
        if self._latest() is not net:
            # A net from elsewhere may share its arrays with others; only nets of our own making are used up.
            params, rest = jax.tree.map(jax.numpy.copy, (params, rest))
        params, rest, opt_state, result = self._update(graphdef, params, rest, opt_state, x, targets, key)
        net = nnx.merge(graphdef, params, rest)
        self._latest = weakref.ref(net)
        return net, opt_state, result


def train_step(loss: Loss, rule: Rule, optimizer: Any, steps: int | None = None) -> TrainStep:
    """A training step, one compiled call a batch.

        step = safjax.train_step(loss, rule, optax.adam(1e-3), steps=6)
        opt_state = step.init(net)
        for x, y in batches:
            net, opt_state, (value, aux) = step(net, opt_state, x, y)

    Rules with an update at every time step (`ottt_o`, `saf_e`) apply the optimizer T times a call, with the gradient of
    L[t] / T each time, all inside the compiled loop.

    A returned net and optimizer state are used up by the next call: their buffers then hold the newer ones. The first
    net passed in is copied and stays as it was.

    Args:
      loss, rule, steps: as of `value_and_grad`.
      optimizer: an `optax.GradientTransformation`.
    """
    return TrainStep(loss, rule, optimizer, steps)


def predict(net: nnx.Module, x: Any, steps: int | None = None) -> Any:
    """Plain spiking inference, whatever rule trained the net; dropout off.

    Args:
      net: a spiking net; left unchanged.
      x: a static image [B, ...] with `steps`, or a sequence [T, B, ...] without.
      steps: T, or None.

    Returns:
      The outputs of all steps, [T, B, ...]. A net trained on its last step is read at outputs[-1], one trained on every
      step as outputs.mean(0).
    """
    _check_call(net, x, steps, bptt(), None)
    return _simulate(*_evaluating(net), x, steps, False)[0]


def simulate(net: nnx.Module, x: Any, steps: int | None = None) -> Simulation:
    """As `predict`, and records the spikes of every neuron: for rasters and firing-rate plots."""
    _check_call(net, x, steps, bptt(), None)
    return Simulation(*_simulate(*_evaluating(net), x, steps, True))


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _simulate(graphdef, params, rest, x, steps, record):
    rule = bptt()
    observe = {"observe": lambda spikes: spikes} if record else {}
    bound, task = _task(graphdef, params, rest, rule, lambda output: 0.0, (), x, steps, **observe)
    _, outputs, observations = loops.simulate(task, bound.params, bound.carry)
    return outputs, observations


def _evaluating(net: nnx.Module):
    net = nnx.clone(net)
    net.eval()
    return _split(net)


def _split(net: nnx.Module):
    graphdef, params, rest = nnx.split(net, nnx.Param, ...)
    return graphdef, nnx.as_pure(params), nnx.as_pure(rest)


def _task(graphdef, params, rest, rule, loss, targets, x, steps, **observe) -> tuple[Bound, loops.Task]:
    net = nnx.merge(graphdef, params, rest)
    static = steps is not None
    example = jax.eval_shape(lambda x: x if static else jax.tree.map(lambda a: a[0], x), x)
    bound = bind(net, rule, example, static, **observe)
    length = steps if steps is not None else len(jax.tree.leaves(x)[0])
    task = loops.Task(bound.step, lambda output: loss(output, *targets), bound.constants, x, length, static)
    return bound, task


def _aux(run: loops.Run) -> Aux:
    return Aux(run.outputs, jax.tree.map(lambda rate: rate.mean(0), run.rates))


def _check_arguments(loss, rule, steps) -> None:
    if not callable(loss):
        raise TypeError(f"loss must be a function of (output, *targets), but was {loss!r}.")
    if not isinstance(rule, Rule):
        called = f" Write {rule.__name__}() to make one." if callable(rule) and hasattr(rule, "__name__") else ""
        raise TypeError(f"rule must be a safjax.rules.Rule such as safjax.rules.saf_f(), but was {rule!r}.{called}")
    _check_steps(steps)


def _check_steps(steps) -> None:
    if steps is None or (isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1):
        return
    raise ValueError(
        f"steps={steps!r}: expected a whole number ≥ 1, how often a static image x[B, ...] is presented, or None for a "
        "time-major sequence x[T, B, ...]."
    )


def _check_call(net, x, steps, rule, key) -> None:
    _check_steps(steps)
    if not isinstance(net, nnx.Module):
        raise TypeError(
            f"Expected the net, a flax.nnx.Module, as first argument, but was given a {type(net).__name__}."
        )
    lengths = {leaf.shape[0] if getattr(leaf, "ndim", 0) else None for leaf in jax.tree.leaves(x)}
    if steps is None and (len(lengths) != 1 or lengths & {0, None}):
        raise ValueError(
            f"Without steps, x must be a time-major sequence x[T, B, ...] with T ≥ 1, but its leading axes are "
            f"{sorted(lengths, key=str)}. For a static image x[B, ...] give steps=T."
        )
    if rule.schedule.draws and key is None:
        raise ValueError(
            f"The rule '{rule.name}' draws its time steps at random and needs a key: pass key=jax.random.key(...), a "
            "fresh one for every batch."
        )
