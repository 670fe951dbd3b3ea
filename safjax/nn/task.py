"""From a net, a rule and a batch to the task that a time loop runs; and the checks of what users hand in."""

from typing import Any

import jax
from flax import nnx

from safjax import loops
from safjax.losses import SequenceLoss, timed_in
from safjax.nn.binding import Bound, bind
from safjax.nn.graphs import Graph
from safjax.nn.wrappers import take_off
from safjax.rules import RULES, Rule


def make_task(
    graph: Graph,
    params: Any,
    rest: Any,
    rule: Rule,
    loss: Any,
    targets: tuple,
    x: Any,
    steps: int | None,
    **observe: Any,
) -> tuple[Bound, loops.Task]:
    """Binds a copy of the net to the rule for inputs like x; returns it with the task of running it over x."""
    net = graph.merge(params, rest)
    static = steps is not None
    example = jax.eval_shape(lambda x: x if static else jax.tree.map(lambda a: a[0], x), x)
    length = steps if steps is not None else len(jax.tree.leaves(x)[0])
    _check_targets(targets, length)
    bound = bind(net, rule, example, length, static, **observe)
    return bound, loops.Task(bound.start, bound.step, loss, targets, bound.constants, x, length, static)


def check_arguments(loss: Any, rule: Any, steps: Any) -> None:
    """Refuses a loss, a rule or a number of steps that is none."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of (output, *targets), but was {loss!r}.")
    if not isinstance(rule, Rule):
        name = getattr(rule, "__name__", None) if callable(rule) else rule
        called = f" Write {name}() to make one." if isinstance(name, str) and name in RULES else ""
        raise TypeError(f"rule must be a safjax.rules.Rule such as safjax.rules.saf_f(), but was {rule!r}.{called}")
    if isinstance(loss, SequenceLoss) and not rule.schedule.sees_all_steps:
        raise ValueError(
            f"The loss looks at the whole output sequence, but the rule '{rule.name}' takes its loss step by step and "
            "never sees all outputs at once. Give it a loss of one step, (output[B, ...], *targets), with "
            "safjax.losses.Timed targets if they change in time; or train with exodus(), slayer() or bptt()."
        )
    _check_steps(steps)


def check_optimizer(optimizer: Any) -> None:
    """Refuses what is no optax optimizer."""
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(
            f"optimizer must be an optax.GradientTransformation such as optax.adam(1e-3), but was {optimizer!r}."
        )


def _check_targets(targets: tuple, steps: int) -> None:
    for target in timed_in(targets):
        for leaf in jax.tree.leaves(target.value):
            if not leaf.ndim or leaf.shape[0] != steps:
                raise ValueError(
                    f"A Timed target has an array of shape {leaf.shape}, but the sequence has T = {steps} steps: its "
                    "leading axis must be time."
                )


def _check_steps(steps) -> None:
    if steps is None or (isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1):
        return
    raise ValueError(
        f"steps={steps!r}: expected a whole number ≥ 1 (a Python int), how often a static image x[B, ...] is "
        "presented, or None for a time-major sequence x[T, B, ...]."
    )


def check_net(net: Any) -> None:
    """Refuses what is no net."""
    take_off()
    if not isinstance(net, nnx.Module):
        given = f"the class {net.__name__}" if isinstance(net, type) else f"a {type(net).__name__}"
        raise TypeError(f"Expected the net, a flax.nnx.Module, as first argument, but was given {given}.")


def check_call(net: Any, x: Any, steps: Any, rule: Rule, key: Any) -> None:
    """Refuses a net or an input that does not fit the number of steps, and a missing random key."""
    _check_steps(steps)
    check_net(net)
    _check_arrays(x)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(x)}
    if steps is None and (len(lengths) != 1 or lengths & {0, None}):
        raise ValueError(
            f"Without steps, x must be a time-major sequence x[T, B, ...] with T ≥ 1, but its leading axes are "
            f"{sorted(lengths, key=str)}. For a static image x[B, ...] give steps=T."
        )
    if any(leaf.size == 0 for leaf in jax.tree.leaves(x)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        raise ValueError(f"x is empty, {shapes}: expected one example or more, since a mean over none is not defined.")
    if rule.schedule.draws and key is None:
        raise ValueError(
            f"The rule '{rule.name}' draws its time steps at random and needs a key: pass key=jax.random.key(...), a "
            "fresh one for every batch."
        )


def _check_arrays(x: Any) -> None:
    others = [type(leaf).__name__ for leaf in jax.tree.leaves(x) if not hasattr(leaf, "ndim")]
    if others or not jax.tree.leaves(x):
        raise TypeError(
            f"x must be an array or a pytree of arrays, but {f'holds a {others[0]}' if others else 'holds none'}. Make "
            "it one by jnp.asarray(x)."
        )
