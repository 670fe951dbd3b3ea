"""What all schedules have in common."""

import abc
from typing import Any

import jax

from safjax.loops import Carry, Params, Run, Task


class Schedule(abc.ABC):
    """When along the sequence loss, gradient and update are taken."""

    @property
    def draws(self) -> bool:
        """Whether `gradients` needs a random key."""
        return False

    @property
    def last_step_only(self) -> bool:
        """Whether the loss is that of the last step; then that step's output is the net's answer."""
        return False

    @property
    def sees_all_steps(self) -> bool:
        """Whether all outputs are at hand when the loss is taken, so that it may be one of the whole sequence."""
        return False

    def updates(self, steps: int) -> int:
        """How often `train` applies the optimizer in a sequence of so many steps: what an optax schedule counts."""
        del steps
        return 1

    @abc.abstractmethod
    def gradients(self, task: Task, params: Params, carry: Carry, key: jax.Array | None) -> tuple[Run, Params]:
        """Runs the sequence at the given parameters; returns the run and the gradient."""

    def train(
        self, task: Task, params: Params, carry: Carry, key: jax.Array | None, optimizer: Any, opt_state: Any
    ) -> tuple[Run, Params, Any]:
        """Runs the sequence and learns from it: one update of the optax optimizer by default.

        Returns the run, the new parameters and the optimizer's new state.
        """
        run, grads = self.gradients(task, params, carry, key)
        params, opt_state = update(optimizer, grads, opt_state, params)
        return run, params, opt_state


def update(optimizer: Any, grads: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
    """One step of an optax optimizer: (new parameters, its new state)."""
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates), opt_state
