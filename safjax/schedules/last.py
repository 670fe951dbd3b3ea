"""Schedules that run T − 1 steps without any gradient and differentiate at the last."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from safjax.loops import all_but_last, differentiate, ended, prepare
from safjax.schedules.schedule import Schedule
from safjax.task import Carry, Params, Reports, Run, Task

Floats = list[jax.Array]
"""The real-valued arrays of a carry."""


@dataclasses.dataclass(frozen=True)
class LastStep(Schedule):
    """L = L[T]: T − 1 steps forward without any gradient, then one step differentiated. Memory O(1).

    As under every schedule that goes step by step, `task.start` gives the whole state of rest, since the first step of
    the loop reads arrays too (see `safjax.task.Task`).
    """

    @property
    def last_step_only(self) -> bool:
        return True

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        carry = task.start(params)
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        before = all_but_last(task, tick, weights, fixed, carry)
        (value, last), grads = differentiate(tick, task.last_loss)(before.weights, fixed, before.carry, before.at)
        return ended(task, before, value, *last), *pull_back(grads)


@dataclasses.dataclass(frozen=True)
class Equilibrium(Schedule):
    """L = L[T], the state before step T being taken for a fixed point of the step. Memory O(1).

    With c the carry, one step c′ = G(c, w) and L(c, w), the implicit function theorem at c = G(c, w) gives

        dL/dw = ∂L/∂w + βᵀ ∂G/∂w,   β = ∂L/∂c + (∂G/∂c)ᵀ β

    Attributes:
      iterations: the most iterations β ← (β + ∂L/∂c + (∂G/∂c)ᵀ β) / 2. The mean damps eigenvalues near −1.
    """

    iterations: int

    @property
    def last_step_only(self) -> bool:
        return True

    def gradients(self, task: Task, params: Params, key: jax.Array | None) -> tuple[Run, Params]:
        carry = task.start(params)
        prelude, tick = prepare(task, params, carry)
        weights, pull_back, fixed = jax.vjp(prelude, params, has_aux=True)
        before = all_but_last(task, tick, weights, fixed, carry)
        floats, rebuild = _floats(before.carry)

        def step(weights: Any, floats: Floats) -> tuple[tuple[jax.Array, Floats], tuple[Carry, Any, Reports]]:
            carry, output, reports = tick(weights, fixed, rebuild(floats), before.at)
            return (task.last_loss(output, reports.records, before.at), _floats(carry)[0]), (carry, output, reports)

        (value, after), pull, last = jax.vjp(step, before.weights, floats, has_aux=True)
        one, zero = jnp.ones_like(value), jnp.zeros_like(value)
        source = pull((one, [jnp.zeros_like(a) for a in after]))[1]
        error = _fixed_point(lambda error: pull((zero, error))[1], source, self.iterations)
        return ended(task, before, value, *last), *pull_back(pull((one, error))[0])


def _fixed_point(transposed: Callable[[Floats], Floats], source: Floats, iterations: int) -> Floats:
    """β = source + transposed(β), by damped iteration until it moves by rounding error only."""

    def going_on(state: tuple[jax.Array, Floats, jax.Array]) -> jax.Array:
        count, error, change = state
        size = _squared(error)
        epsilon = jnp.finfo(size.dtype).eps
        # A β that is not finite, of one example, must not end the iteration for the others.
        settled = (change <= (epsilon**2) * size) & (change < jnp.inf)
        return (count < iterations) & ~settled

    def body(state: tuple[jax.Array, Floats, jax.Array]) -> tuple[jax.Array, Floats, jax.Array]:
        count, error, _ = state
        new = [(e + s + j) / 2 for e, s, j in zip(error, source, transposed(error), strict=True)]
        return count + 1, new, _squared([a - b for a, b in zip(new, error, strict=True)])

    if not source:
        return source
    start = jnp.zeros((), jnp.int32), source, jnp.full((), jnp.inf, jnp.result_type(*source))
    return jax.lax.while_loop(going_on, body, start)[1]


def _squared(arrays: Floats) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.vdot(a, a) for a in arrays]))


def _floats(carry: Carry) -> tuple[Floats, Callable[[Floats], Carry]]:
    """The real-valued arrays of a carry, and a function that puts such ones back among its others."""
    leaves, structure = jax.tree.flatten(carry)
    real = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

    def rebuild(floats: Floats) -> Carry:
        values = iter(floats)
        mixed = [next(values) if r else leaf for leaf, r in zip(leaves, real, strict=True)]
        return jax.tree.unflatten(structure, mixed)

    return [leaf for leaf, r in zip(leaves, real, strict=True) if r], rebuild
