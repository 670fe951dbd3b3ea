"""The LIF neuron over a whole sequence, with its gradient in closed form.

With u the potential before the reset, σ[t] = ds[t]/du[t], g[t] = dL/ds[t], e[t] = dL/dI[t], and ρθ what a spike takes
from the membrane, or v the value that it sets it to, the gradient is one first-order recurrence per neuron, backward in
time:

    e[t] = σ[t] g[t] + J[t] e[t+1]       through the reset: EXODUS, the exact gradient
                                           J[t] = λ (1 − ρθ σ[t])                     m = u − ρθ s
                                           J[t] = λ (1 − s[t] − (u[t] − v) σ[t])      m = (1 − s) u + s v
                                         the reset's spike held constant: SLAYER
                                           J[t] = λ                                   m = u − ρθ s
                                           J[t] = λ (1 − s[t])                        m = (1 − s) u + s v

that is, J = λ (∂m/∂u + σ ∂m/∂s) and J = λ ∂m/∂u. Where the current is multiplied by 1 − λ, autodiff does that.

Bauer et al., "EXODUS: stable and efficient training of spiking neural networks", arXiv 2205.10242, where the implicit
function theorem gives the same result; Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.neurons.cells import LIFCell
from safjax.neurons.firing import fire, put_together, taken_apart
from safjax.neurons.resets import after_spikes, slope_after_spikes
from safjax.precision import widened
from safjax.segments import dear


class _Constants(NamedTuple):
    """λ, θ, what a spike does to the membrane and what the surrogate learns, in arrays that gradients may flow into."""

    decay: jax.Array
    threshold: jax.Array
    release: Any
    surrogate: list[jax.Array]


_Pair = tuple[jax.Array, jax.Array]
_Carry = tuple[jax.Array, _Constants]
"""An error, and the gradients of the constants until now."""

_Residuals = tuple[jax.Array, jax.Array, _Constants]
"""Potentials, the first membrane, and the constants."""

_Gradients = tuple[jax.Array, jax.Array, _Constants]
"""Those of the currents, of the first step's potential or membrane, and of the constants."""


@dataclasses.dataclass(frozen=True)
class _Form:
    """What is fixed when the program is made: a neuron without its numbers, and how to differentiate it."""

    surrogate: tuple[Any, tuple[Any, ...]]
    floor: float | None
    max_spikes: int | None
    steps: int | None
    through_reset: bool
    parallel: bool

    def cell(self, constants: _Constants) -> LIFCell:
        surrogate = put_together(constants.surrogate, self.surrogate)
        return LIFCell(constants.decay, constants.threshold, surrogate, None, self.floor, self.max_spikes)

    def fire(self, potential: jax.Array, threshold: jax.Array, learned: list[jax.Array]) -> jax.Array:
        return fire(potential, threshold, put_together(learned, self.surrogate), self.max_spikes)


def lif_sequence(
    currents: jax.Array,
    cell: LIFCell,
    membrane: jax.Array | None = None,
    *,
    steps: int | None = None,
    through_reset: bool = True,
    parallel: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """LIF neurons over a sequence; gradients for currents, membrane, λ, θ, ρθ and v in closed form.

    So are those of arrays that the surrogate holds, where it is a pytree.

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
      (s[T, B, ...], u[T, B, ...] before the reset, m[T]), of float32 or wider.

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.neurons import LIFCell, lif_sequence
      >>> from safjax.surrogate import Exponential
      >>> cell = LIFCell(decay=0.5, threshold=1.0, surrogate=Exponential())
      >>> spikes, potentials, membrane = lif_sequence(jnp.full((6, 1), 0.6), cell)
      >>> spikes.ravel().tolist()
      [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """
    currents = widened(cell.driven(currents))
    if membrane is None:
        membrane = cell.start(currents if steps is not None else currents[0])
    learned, surrogate = taken_apart(cell.surrogate)
    numbers = cell.decay, cell.threshold, cell.release
    decay, threshold, release = jax.tree.map(lambda number: jnp.asarray(number, currents.dtype), numbers)
    constants = _Constants(decay, threshold, release, learned)
    form = _Form(surrogate, cell.floor, cell.max_spikes, steps, through_reset, parallel)
    potentials = _potentials(form, currents, membrane, constants)
    spikes = cell.fire(potentials)
    last = spikes[-1] if through_reset else jax.lax.stop_gradient(spikes[-1])
    return spikes, potentials, after_spikes(potentials[-1], last, constants.release)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _potentials(form: _Form, currents: jax.Array, membrane: jax.Array, constants: _Constants) -> jax.Array:
    """u[T]. The spikes are a function of u that costs nothing to compute again, so u is all that need be kept."""
    cell = form.cell(constants)

    def step(potential: jax.Array, current: jax.Array) -> jax.Array:
        return cell.integrated(after_spikes(potential, cell.fire(potential), constants.release), current)

    def in_place(potential: jax.Array, t: Any, current: jax.Array) -> tuple[jax.Array, jax.Array]:
        potential = step(potential, current)
        return potential, potential

    first = cell.integrated(membrane, currents[0] if form.steps is None else currents)
    if form.steps is None:
        return _scan_in_place(in_place, first, currents.at[0].set(first), range(1, len(currents)))[1]
    _, later = jax.lax.scan(lambda u, _: in_place(u, None, currents), first, None, form.steps - 1)
    return jnp.concatenate([first[None], later])


def _forward(
    form: _Form, currents: jax.Array, membrane: jax.Array, constants: _Constants
) -> tuple[jax.Array, _Residuals]:
    potentials = _potentials(form, currents, membrane, constants)
    # Of one current for all steps they are had again without its synapse.
    potentials = dear(potentials) if form.steps is None else potentials
    return potentials, (potentials, membrane, constants)


def _backward(form: _Form, residuals: _Residuals, to_potentials: jax.Array) -> _Gradients:
    potentials, membrane, constants = residuals
    solve = _solve_in_parallel if form.parallel else _solve_in_order
    errors, first, gradients = solve(form, potentials, membrane, constants, to_potentials)
    return errors, constants.decay * first, gradients


_potentials.defvjp(_forward, _backward)


def _solve_in_order(
    form: _Form, potentials: jax.Array, membrane: jax.Array, constants: _Constants, to_potentials: jax.Array
) -> _Gradients:
    """One scan backward in time. The surrogate is recomputed in its body: storing σ and J first costs more than it
    saves, in time and in memory."""

    zero = jnp.zeros(membrane.shape, potentials.dtype)
    start = zero, jax.tree.map(jnp.zeros_like, constants)

    def body(carry: _Carry, t: jax.Array, to_potential: jax.Array) -> tuple[_Carry, jax.Array]:
        later, gradients = carry
        error, gradients = _step(form, constants, later, gradients, _at(potentials, t), to_potential)
        return (error, gradients), error

    def summed(carry: tuple[jax.Array, _Carry], t: jax.Array) -> tuple[tuple[jax.Array, _Carry], None]:
        total, state = carry
        state, error = body(state, t, _at(to_potentials, t))
        return (total + error, state), None

    if form.steps is not None:
        backwards = jnp.arange(form.steps - 1, -1, -1)
        (errors, (first, gradients)), _ = jax.lax.scan(summed, (zero, start), backwards)
    else:
        (first, gradients), errors = _scan_in_place(body, start, to_potentials, range(len(potentials) - 1, -1, -1))
    decay = gradients.decay + _sum_to(first * membrane, constants.decay.shape)
    return errors, first, gradients._replace(decay=decay)


def _step(
    form: _Form,
    constants: _Constants,
    later: jax.Array,
    gradients: _Constants,
    potential: jax.Array,
    to_potential: jax.Array,
) -> _Carry:
    """e[t] from e[t+1], and what step t adds to the gradients of the constants (λ: its share of step t + 1)."""
    spikes, pull_back = jax.vjp(form.fire, potential, constants.threshold, constants.surrogate)
    membrane, pull_through = jax.vjp(after_spikes, potential, spikes, constants.release)
    kept, to_spikes, to_release = pull_through(constants.decay * later)
    error = to_potential + kept
    to_threshold, to_surrogate = _nothing(constants)
    if form.through_reset:
        by_reset, to_threshold, to_surrogate = pull_back(to_spikes)
        error = error + by_reset
    if form.floor is not None:
        error = jnp.where(potential <= form.floor, 0, error)
    return error, _Constants(
        gradients.decay + _sum_to(later * membrane, constants.decay.shape),
        gradients.threshold + to_threshold,
        *jax.tree.map(jnp.add, (gradients.release, gradients.surrogate), (to_release, to_surrogate)),
    )


def _solve_in_parallel(
    form: _Form, potentials: jax.Array, membrane: jax.Array, constants: _Constants, to_potentials: jax.Array
) -> _Gradients:
    """All steps at once; the recurrence by an associative scan over its coefficients."""
    spikes, pull_back = jax.vjp(form.fire, potentials, constants.threshold, constants.surrogate)
    slope = pull_back(jnp.ones_like(spikes))[0] if form.through_reset else 0.0
    by_potentials = slope_after_spikes(potentials, spikes, slope, constants.release)
    factor = jnp.broadcast_to(constants.decay * by_potentials, potentials.shape)
    source = to_potentials
    if form.floor is not None:
        factor, source = (jnp.where(potentials <= form.floor, 0, x) for x in (factor, source))
    _, errors = jax.lax.associative_scan(_compose, (factor, source), reverse=True)
    to_membranes = constants.decay * jnp.concatenate([errors[1:], jnp.zeros_like(errors[:1])])
    membranes, pull_through = jax.vjp(after_spikes, potentials, spikes, constants.release)
    before = jnp.concatenate([membrane[None], membranes[:-1]])
    _, to_spikes, to_release = pull_through(to_membranes)
    to_threshold, to_surrogate = _nothing(constants)
    if form.through_reset:
        _, to_threshold, to_surrogate = pull_back(to_spikes)
    decay = _sum_to(errors * before, constants.decay.shape)
    gradients = _Constants(decay, to_threshold, to_release, to_surrogate)
    return errors.sum(0) if form.steps is not None else errors, errors[0], gradients


def _nothing(constants: _Constants) -> tuple[jax.Array, list[jax.Array]]:
    """The gradients of threshold and surrogate through a reset that is held constant."""
    return jnp.zeros_like(constants.threshold), jax.tree.map(jnp.zeros_like, constants.surrogate)


def _scan_in_place(
    body: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]], carry: Any, xs: jax.Array, steps: range
) -> tuple[Any, jax.Array]:
    """As `lax.scan` of body(carry, t, x[t]) ↦ (carry, y[t]) over the given steps, y being written over x.

    This saves an array of [T, ...]. For y to be written without a copy of the whole, it must be part of the new carry.
    """

    def step(state: tuple[Any, jax.Array], t: jax.Array) -> tuple[tuple[Any, jax.Array], None]:
        carry, buffer = state
        carry, y = body(carry, t, _at(buffer, t))
        return (carry, jax.lax.dynamic_update_index_in_dim(buffer, y, t, 0)), None

    return jax.lax.scan(step, (carry, xs), jnp.asarray(steps, jnp.int32))[0]


def _at(xs: jax.Array, t: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(xs, t, 0, keepdims=False)


def _compose(later: _Pair, earlier: _Pair) -> _Pair:
    (a, b), (c, d) = later, earlier
    return a * c, d + c * b


def _sum_to(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The sum of x over all axes along which an array of `shape` was broadcast to it."""
    leading = x.ndim - len(shape)
    x = x.sum(tuple(range(leading)))
    return x.sum(tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1), keepdims=True)
