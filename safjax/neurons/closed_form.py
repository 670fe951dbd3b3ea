"""The LIF neuron over a whole sequence, with its gradient in closed form.

With u the potential before the reset, σ[t] = ds[t]/du[t], g[t] = dL/ds[t], e[t] = dL/dI[t], and ρθ what a spike takes
from the membrane, the gradient is one first-order recurrence per neuron, backward in time:

    e[t] = σ[t] g[t] + J[t] e[t+1]       J[t] = λ (1 − ρθ σ[t])   through the reset: EXODUS, the exact gradient
                                         J[t] = λ                 reset held constant: SLAYER

Bauer et al., "EXODUS: stable and efficient training of spiking neural networks", arXiv 2205.10242, where the implicit
function theorem gives the same result; Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from safjax.neurons.cells import LIFCell


class _Constants(NamedTuple):
    """λ, θ and ρθ, as arrays: what a gradient may flow into."""

    decay: jax.Array
    threshold: jax.Array
    drop: jax.Array


@dataclasses.dataclass(frozen=True)
class _Form:
    """What is fixed when the program is made: a neuron without its numbers, and how to differentiate it."""

    surrogate: object
    floor: float | None
    max_spikes: int | None
    steps: int | None
    through_reset: bool
    parallel: bool

    def cell(self, constants: _Constants) -> LIFCell:
        return LIFCell(constants.decay, constants.threshold, self.surrogate, 1.0, self.floor, self.max_spikes)  # type: ignore[arg-type]


def lif_sequence(
    currents: jax.Array,
    cell: LIFCell,
    membrane: jax.Array | None = None,
    *,
    steps: int | None = None,
    through_reset: bool = True,
    parallel: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """LIF neurons over a sequence; gradients for currents, membrane, λ, θ and ρθ in closed form.

    A long sequence may be cut into chunks: the membrane that one call returns goes into the next, and gradients flow
    back through it.

    Args:
      currents: I[T, B, ...], or one I[B, ...] for all steps.
      cell: the neuron.
      membrane: m[0], [B, ...]; None is at rest.
      steps: T where `currents` is one for all steps, else None.
      through_reset: EXODUS's gradient, which is the exact one; False gives SLAYER's.
      parallel: solve the recurrence by an associative scan, of O(log T) depth and several times the memory, instead of
        step by step. Slower on a CPU.

    Returns:
      (s[T, B, ...], u[T, B, ...] before the reset, m[T]).

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.neurons import LIFCell, lif_sequence
      >>> from safjax.surrogate import Exponential
      >>> cell = LIFCell(decay=0.5, threshold=1.0, surrogate=Exponential())
      >>> spikes, potentials, membrane = lif_sequence(jnp.full((6, 1), 0.6), cell)
      >>> spikes.ravel().tolist()
      [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """
    dtype = currents.dtype
    if membrane is None:
        membrane = cell.start(currents if steps is not None else currents[0])
    constants = _Constants(*(jnp.asarray(c, dtype) for c in (cell.decay, cell.threshold, cell.drop)))
    form = _Form(cell.surrogate, cell.floor, cell.max_spikes, steps, through_reset, parallel)
    spikes, potentials = _sequence(form, currents, membrane, constants)
    last = spikes[-1] if through_reset else jax.lax.stop_gradient(spikes[-1])
    return spikes, potentials, potentials[-1] - constants.drop * last


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sequence(form: _Form, currents, membrane, constants: _Constants):
    cell = form.cell(constants)

    def body(membrane, current):
        potential = cell.clamped(cell.decay * membrane + (current if form.steps is None else currents))
        spikes = cell.fire(potential)
        return potential - constants.drop * spikes, (spikes, potential)

    return jax.lax.scan(body, membrane, currents if form.steps is None else None, form.steps)[1]


def _forward(form, currents, membrane, constants):
    # With symbolic zeros every argument comes with a mark of whether it is differentiated.
    currents, membrane = currents.value, membrane.value
    constants = _Constants(*(c.value for c in constants))
    spikes, potentials = _sequence(form, currents, membrane, constants)
    return (spikes, potentials), (potentials, membrane, constants)


def _backward(form, residuals, cotangents):
    potentials, membrane, constants = residuals
    to_spikes, to_potentials = (None if isinstance(c, SymbolicZero) else c for c in cotangents)
    if to_spikes is None:
        to_spikes = jnp.zeros_like(potentials)
    solve = _solve_in_parallel if form.parallel else _solve_in_order
    errors, first, gradients = solve(form, potentials, membrane, constants, to_spikes, to_potentials)
    return errors, constants.decay * first, gradients


_sequence.defvjp(_forward, _backward, symbolic_zeros=True)


def _solve_in_order(form, potentials, membrane, constants, to_spikes, to_potentials):
    """One scan backward in time. The surrogate is recomputed in its body: storing σ and J first costs more than it
    saves, in time and in memory."""
    shape = membrane.shape

    def body(carry, at):
        later, total, gradients = carry
        potential, to_spike, to_potential = at
        error, gradients = _step(form, constants, potential, later, to_spike, to_potential, gradients)
        if form.steps is not None:
            return (error, total + error, gradients), None
        return (error, total, gradients), error

    zero = jnp.zeros(shape, potentials.dtype)
    total = zero if form.steps is not None else jnp.zeros((), potentials.dtype)
    start = zero, total, jax.tree.map(jnp.zeros_like, constants)
    carry, errors = jax.lax.scan(body, start, (potentials, to_spikes, to_potentials), reverse=True)
    first, total, gradients = carry
    decay = gradients.decay + _sum_to(first * membrane, constants.decay.shape)
    return total if form.steps is not None else errors, first, gradients._replace(decay=decay)


def _step(form, constants, potential, later, to_spike, to_potential, gradients):
    """e[t] from e[t+1], and what step t adds to the gradients of the constants (λ: its share of step t + 1)."""
    spikes, pull_back = jax.vjp(lambda u, threshold: _fire(form, u, threshold), potential, constants.threshold)
    to_membrane = constants.decay * later
    fired = to_spike - constants.drop * to_membrane if form.through_reset else to_spike
    error, to_threshold = pull_back(fired)
    error = error + to_membrane if to_potential is None else error + to_membrane + to_potential
    if form.floor is not None:
        error = jnp.where(potential > form.floor, error, 0)
    membrane = potential - constants.drop * spikes
    return error, _Constants(
        gradients.decay + _sum_to(later * membrane, constants.decay.shape),
        gradients.threshold + to_threshold,
        gradients.drop - _sum_to(to_membrane * spikes, constants.drop.shape),
    )


def _solve_in_parallel(form, potentials, membrane, constants, to_spikes, to_potentials):
    """All steps at once; the recurrence by an associative scan over its coefficients."""
    spikes, pull_back = jax.vjp(lambda u, threshold: _fire(form, u, threshold), potentials, constants.threshold)
    slope = pull_back(jnp.ones_like(spikes))[0]
    factor = constants.decay * (1 - constants.drop * slope) if form.through_reset else constants.decay
    factor = jnp.broadcast_to(factor, potentials.shape)
    source = slope * to_spikes if to_potentials is None else slope * to_spikes + to_potentials
    if form.floor is not None:
        factor, source = (jnp.where(potentials > form.floor, x, 0) for x in (factor, source))
    _, errors = jax.lax.associative_scan(_compose, (factor, source), reverse=True)
    membranes = potentials - constants.drop * spikes
    to_membranes = constants.decay * jnp.concatenate([errors[1:], jnp.zeros_like(errors[:1])])
    before = jnp.concatenate([membrane[None], membranes[:-1]])
    fired = to_spikes - constants.drop * to_membranes if form.through_reset else to_spikes
    gradients = _Constants(
        _sum_to(errors * before, constants.decay.shape),
        pull_back(fired)[1],
        -_sum_to(to_membranes * spikes, constants.drop.shape),
    )
    return errors.sum(0) if form.steps is not None else errors, errors[0], gradients


def _compose(later, earlier):
    (a, b), (c, d) = later, earlier
    return a * c, d + c * b


def _fire(form: _Form, potential, threshold):
    return LIFCell(0.0, threshold, form.surrogate, max_spikes=form.max_spikes).fire(potential)  # type: ignore[arg-type]


def _sum_to(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The sum of x over all axes along which an array of `shape` was broadcast to it."""
    leading = x.ndim - len(shape)
    x = x.sum(tuple(range(leading)))
    return x.sum(tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1), keepdims=True)
