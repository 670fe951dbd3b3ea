"""What all schedules have in common."""

import abc
import inspect
from collections.abc import Callable
from typing import Any

import jax

from safjax.task import Params, Run, Task


class Schedule(abc.ABC):
    """When along the sequence loss, gradient and update are taken."""

    @property
    def draws(self) -> bool:
        """Whether `gradients` needs a random key."""
        return False

    @property
    def counts(self) -> bool:
        """Whether it matters to the gradient which step of a sequence a step is, so that it cannot come in chunks."""
        return False

    @property
    def last_step_only(self) -> bool:
        """Whether the loss is that of the last step; then that step's output is the net's answer."""
        return False

    @property
    def sees_all_steps(self) -> bool:
        """Whether all outputs are at hand when the loss is taken, so that it may be one of the whole sequence."""
        return False

    @property
    def of_mean_output(self) -> bool:
        """Whether the loss is that of the mean output; outputs are then one affine function of readouts for all T."""
        return False

    def part(self, steps: int) -> int | None:
        """How many of so many steps a net that is called for all of them is called for at once; None for all."""
        del steps
        return None

    def updates(self, steps: int) -> int:
        """How often `train` applies the optimizer in a sequence of so many steps: what an optax schedule counts."""
        del steps
        return 1

    @abc.abstractmethod
    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        """Runs the sequence at the given parameters; returns the run and the gradient."""

    def train(
        self, task: Task, params: Params, key: jax.Array | None, optimizer: Any, opt_state: Any
    ) -> tuple[Run, Params, Any]:
        """Runs the sequence and learns from it: one update of the optax optimizer by default.

        Returns the run, the new parameters and the optimizer's new state.
        """

        def value_and_grad(params: Params) -> tuple[jax.Array, Params]:
            run, grads = self.gradients(task, params, key)
            return run.value, grads

        run, grads = self.gradients(task, params, key)
        extra = for_optimizers(run.value, grads, with_gradient(value_and_grad))
        params, opt_state = update(optimizer, grads, opt_state, params, **extra)
        return run, params, opt_state


def with_gradient(value_and_grad: Callable[[Params], tuple[jax.Array, Params]]) -> Callable[[Params], jax.Array]:
    """params ↦ value, with the gradient that `value_and_grad` says it has, whatever autodiff would."""

    @jax.custom_vjp
    def value_of(params: Params) -> jax.Array:
        return value_and_grad(params)[0]

    def backward(grads: Params, error: jax.Array) -> tuple[Params]:
        return (jax.tree.map(lambda g: (error * g).astype(g.dtype), grads),)

    value_of.defvjp(value_and_grad, backward)
    return value_of


def for_optimizers(value: jax.Array, grads: Params, value_of: Callable[[Params], jax.Array]) -> dict[str, Any]:
    """What optax optimizers may ask for beside the gradient, by the names that they give it.

    Args:
      value: the loss at the present parameters.
      grads: its gradient.
      value_of: params ↦ the loss of the same batch, differentiable; its gradient at the present parameters is `grads`.
    """
    return {"value": value, "grad": grads, "value_fn": value_of}


def update(optimizer: Any, grads: Params, opt_state: Any, params: Params, **extra: Any) -> tuple[Params, Any]:
    """One step of an optax optimizer, given what it takes of `extra`: (new parameters, its new state)."""
    accepted = inspect.signature(optimizer.update).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        extra = {name: value for name, value in extra.items() if name in accepted}
    updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
    return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state
