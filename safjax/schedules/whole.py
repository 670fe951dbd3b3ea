"""Schedules that differentiate the whole sequence. Their memory grows with T."""

import dataclasses

import jax

from safjax.loops import at_once, forward, in_parts, prepare, run_of_all
from safjax.schedules.schedule import Schedule
from safjax.task import Params, Run, Task


@dataclasses.dataclass(frozen=True)
class WholeSequence(Schedule):
    """L = (1/T) Σ_t L[t], differentiated through all steps at once. Memory O(T).

    Attributes:
      remat: keep the carry of each step only and compute the step again in the backward pass.
      segments: keep the carry at the beginning of each of so many segments only and compute them again in the backward
        pass, one at a time; None keeps all.
    """

    remat: bool = False
    segments: int | None = None

    @property
    def sees_all_steps(self) -> bool:
        return True

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        prelude, tick = prepare(task, params, task.start(params))
        tick = jax.checkpoint(tick) if self.remat else tick

        def objective(params: Params) -> tuple[jax.Array, Run]:
            weights, fixed = prelude(params)
            carry, outputs, reports = forward(task, tick, weights, fixed, task.start(params), self.segments)
            value = task.sequence_loss(outputs, reports.records)
            return value, run_of_all(task, value, carry, outputs, reports)

        (_, run), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return run, grads


@dataclasses.dataclass(frozen=True)
class LayerByLayer(Schedule):
    """As `WholeSequence`, the net being called once with time folded into the batch. Memory O(T).

    Attributes:
      segments: call it for one of so many parts of the sequence after the other, and compute the parts again in the
        backward pass, one at a time; None calls it for all steps.
      remat: compute all of a part again; else what takes synapses to compute is kept.
    """

    segments: int | None = None
    remat: bool = False

    @property
    def sees_all_steps(self) -> bool:
        return True

    def part(self, steps: int) -> int | None:
        return None if self.segments is None else -(-steps // self.segments)

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        part = self.part(task.steps)

        def objective(params: Params) -> tuple[jax.Array, Run]:
            if part is None:
                carry, outputs, reports = at_once(task, params)
            else:
                carry, outputs, reports = in_parts(task, params, part, not self.remat)
            value = task.sequence_loss(outputs, reports.records)
            return value, run_of_all(task, value, carry, outputs, reports)

        (_, run), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return run, grads
