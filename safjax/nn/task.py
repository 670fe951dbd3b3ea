"""From a net, a rule and a batch to the task that a time loop runs; and the checks of what users hand in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.losses import is_of_sequence, records_for, timed_in
from safjax.nn.bound import Bound
from safjax.nn.carrying import begun, check_form, check_state, handed_on
from safjax.nn.graphs import Graph
from safjax.nn.padding import check_lengths, check_padded
from safjax.nn.recording import check_record, refuse_loss
from safjax.nn.shapes import check_labels, explained_loss, reading
from safjax.nn.verdicts import Trial, bound_or_advised, bound_to
from safjax.nn.wrappers import take_off
from safjax.rules import RULES, Rule
from safjax.state import State
from safjax.tally import Kept
from safjax.task import Reports, StepFn, Task


def make_task(
    graph: Graph,
    params: Any,
    rest: Any,
    rule: Rule,
    loss: Any,
    targets: tuple[Any, ...],
    x: Any,
    steps: int | None,
    *,
    over: int | None = None,
    keep: Kept = "all",
    record: tuple[str, ...] = (),
    rates: bool = True,
    state: State | None = None,
    lengths: jax.Array | None = None,
    training: bool = True,
) -> tuple[Bound, Task]:
    """Binds a copy of the net to the rule for inputs like x; returns it with the task of running it over x.

    Where the rule refuses the net, and it is for `training`, the error names the rules that train it.
    """
    static, length = steps is not None, steps if steps is not None else jax.tree.leaves(x)[0].shape[0]
    _check_targets(targets, length)
    one = one_step(x, static)
    if lengths is not None:
        check_padded(rule, loss, targets, one, state)
        # Inside a compiled function nobody could look at them: a member has no more steps than there are.
        lengths = jnp.clip(lengths, 0, length)
    read, told = reading(x, steps), tuple(dict.fromkeys((*record, *(records_for(loss) or ()))))
    trial = Trial(lambda: graph.merge(params, rest), one, length, static, state is not None, lengths is not None)
    bound = (bound_or_advised if training else bound_to)(trial, rule, read, told)
    refuse_loss(loss, rule, bound.stacked, lengths is not None)
    if not is_of_sequence(loss):
        check_labels(targets, read)
    if state is not None:
        check_form(state, jax.eval_shape(lambda: started(bound)), x)
    constants = begun(bound, bound.params, state)[1]
    task = Task(
        start=lambda params: begun(bound, params, state)[0],
        step=bound.step if rates else _without_rates(bound.step),
        rest=bound.rest if rates or bound.rest is None else _without_rates(bound.rest),
        loss=explained_loss(loss, read),
        targets=targets,
        constants=constants,
        inputs=x,
        steps=length,
        static=static,
        over=over,
        keep=keep,
        lengths=lengths,
        record=record,
        rates=rates,
    )
    return bound, task


def task_maker(
    loss: Any, rule: Rule, steps: int | None, over: int | None, outputs: Any, record: Any, rates: bool
) -> Callable[..., tuple[Bound, Task]]:
    """((graph, params, rest), (x, targets, state, lengths)) ↦ what `make_task` makes of them, for training."""
    keep, names = check_kept(outputs, rule), check_record(record)

    def task_of(parts: tuple[Any, ...], given: tuple[Any, ...]) -> tuple[Bound, Task]:
        (graph, params, rest), (x, targets, state, lengths) = parts, given
        options = {"over": over, "keep": keep, "record": names, "rates": rates, "state": state, "lengths": lengths}
        return make_task(graph, params, rest, rule, loss, targets, x, steps, **options)

    return task_of


def _without_rates(step: StepFn) -> StepFn:
    """The step that says nothing of firing rates: what only they need is then not computed."""

    def silent(*arguments: Any) -> tuple[Any, Any, Reports]:
        carry, output, reports = step(*arguments)
        return carry, output, reports._replace(rates={})

    return silent


def one_step(x: Any, static: bool) -> Any:
    """The shapes of one step's input."""
    return jax.eval_shape(lambda x: x if static else jax.tree.map(lambda a: a[0], x), x)


def started(bound: Bound) -> State:
    """The state of rest of a bound net."""
    return handed_on(bound, begun(bound, bound.params, None)[0], bound.params, None)


def check_kept(outputs: Any, rule: Rule) -> Kept:
    """What is kept of the outputs, as it was asked for; the default is the net's answer under the rule.

    Raises:
      ValueError: outputs is none of "all", "last", "mean" and None.
    """
    if outputs is None:
        return "last" if rule.schedule.last_step_only else "mean"
    if outputs in ("all", "last", "mean"):
        return outputs
    raise ValueError(
        f"outputs={outputs!r}: expected 'all' for the outputs of every step, [T, B, ...], 'last' or 'mean' for those "
        "of the last step or their mean, [B, ...], or None for the one of these two that the rule's loss looks at."
    )


def check_over(mean_over: Any, loss: Any) -> None:
    """Refuses a number of steps for the mean of the loss that is none."""
    if mean_over is None:
        return
    if is_of_sequence(loss):
        raise ValueError(
            f"mean_over={mean_over!r} says over how many steps the mean of a loss of one step goes, but the loss is a "
            "SequenceLoss, which sees all steps of a call at once and weighs them itself. Leave mean_over out."
        )
    if not isinstance(mean_over, int) or isinstance(mean_over, bool) or mean_over < 1:
        raise ValueError(
            f"mean_over={mean_over!r}: expected a whole number ≥ 1, the steps over which the loss is averaged (of a "
            "sequence that comes in chunks, its whole length; 1 takes each step's loss as it is), or None for those of "
            "the call."
        )


def check_arguments(loss: Any, rule: Any, steps: Any) -> None:
    """Refuses a loss, a rule or a number of steps that is none."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of (output, *targets), but was {loss!r}.")
    check_rule(rule)
    if is_of_sequence(loss) and not rule.schedule.sees_all_steps:
        raise ValueError(
            f"The loss looks at the whole output sequence, but the rule '{rule.name}' takes its loss step by step and "
            "never sees all outputs at once. Give it a loss of one step, (output[B, ...], *targets), with "
            "safjax.losses.Timed targets if they change in time; or take a rule that sees them all, exodus(), slayer() "
            "or bptt(): safjax.check(net, x) says which of them train the net."
        )
    _check_steps(steps)


def check_rule(rule: Any) -> None:
    """Refuses what is no rule."""
    if not isinstance(rule, Rule):
        name = getattr(rule, "__name__", None) if callable(rule) else rule
        called = f" Write {name}() to make one." if isinstance(name, str) and name in RULES else ""
        raise TypeError(f"rule must be a safjax.rules.Rule such as safjax.rules.saf_f(), but was {rule!r}.{called}")


def check_optimizer(optimizer: Any) -> None:
    """Refuses what is no optax optimizer."""
    if isinstance(optimizer, nnx.Optimizer):
        raise TypeError(
            "optimizer must be an optax.GradientTransformation such as optax.adam(1e-3), but was an nnx.Optimizer. "
            "Write train_step(loss, rule, optax.adam(1e-3)), whose state is opt_state = step.init(net); an "
            "nnx.Optimizer goes with safjax.value_and_grad: optimizer.update(net, grads)."
        )
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(
            f"optimizer must be an optax.GradientTransformation such as optax.adam(1e-3), but was {optimizer!r}."
        )


def _check_targets(targets: tuple[Any, ...], steps: int) -> None:
    for target in timed_in(targets):
        for leaf in jax.tree.leaves(target.value):
            if not leaf.ndim or leaf.shape[0] != steps:
                raise ValueError(
                    f"A Timed target has an array of shape {leaf.shape}, but the sequence has T = {steps} steps: its "
                    "leading axis must be time."
                )


def _check_steps(steps: Any) -> None:
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


def check_call(net: Any, x: Any, steps: Any, rule: Rule, key: Any, state: Any = None, lengths: Any = None) -> None:
    """Refuses a net or an input that does not fit the number of steps, and a missing random key."""
    _check_steps(steps)
    check_net(net)
    check_arrays(x)
    leading = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(x)}
    if steps is None and (len(leading) != 1 or leading & {0, None}):
        raise ValueError(
            f"Without steps, x must be a time-major sequence x[T, B, ...] with T ≥ 1, but its leading axes are "
            f"{sorted(leading, key=str)}. For a static image x[B, ...] give steps=T."
        )
    if any(leaf.size == 0 for leaf in jax.tree.leaves(x)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        raise ValueError(f"x is empty, {shapes}: expected one example or more, since a mean over none is not defined.")
    length = steps if steps is not None else jax.tree.leaves(x)[0].shape[0]
    check_state(state, rule, length)
    if lengths is not None:
        check_lengths(lengths, length, jax.tree.leaves(x)[0].shape[steps is None], state is not None)
    if rule.schedule.draws and key is None:
        raise ValueError(
            f"The rule '{rule.name}' draws its time steps at random and needs a key: pass key=jax.random.key(...), a "
            "fresh one for every batch."
        )


def check_arrays(x: Any) -> None:
    """Refuses an input that holds something else than arrays of numbers."""
    leaves = jax.tree.leaves(x)
    others = [type(leaf).__name__ for leaf in leaves if not (isinstance(leaf, jax.Array) or _is_numpy(leaf))]
    if others or not leaves:
        raise TypeError(
            f"x must be an array or a pytree of arrays, but {f'holds a {others[0]}' if others else 'holds none'}. Make "
            "it one by jnp.asarray(x), of a PyTorch tensor jnp.asarray(x.numpy())."
        )
    for leaf in leaves:
        if not isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jnp.number) and leaf.dtype != bool:
            raise TypeError(
                f"x must hold numbers, but an array of it is of dtype {leaf.dtype}. One of dtype object comes of rows "
                "of different lengths: fill them up to one length, and make an array of numbers, x.astype('float32')."
            )


def _is_numpy(leaf: Any) -> bool:
    return any(base.__module__ == "numpy" for base in type(leaf).__mro__)
