"""Propagation of whole sequences: the net is computed layer by layer, all T steps at once.

A synapse has no memory, so time is folded into its batch, [T, B, ...] → [T·B, ...]: one large product in place of T
small ones. Only neurons run along time. A static image's first synapse stays at B; the first neuron spreads it over T.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from safjax.late import zero_known_with
from safjax.messages import Kept, Sequence
from safjax.neurons import CurrentCell, LIFCell, fire, gain_step, leaky_filter, lif_sequence, run_cell
from safjax.neurons.firing import put_together, taken_apart
from safjax.precision import widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_closed_form
from safjax.rules.spikes import height


@dataclasses.dataclass(frozen=True)
class Release:
    """((θ, height, what the surrogate learns), u) ↦ the spikes as they travel.

    A value: messages of like neurons are pytrees of one structure.

    Attributes:
      surrogate: the spike function without its arrays, see `taken_apart`.
      max_spikes: as of `fire`.
    """

    surrogate: tuple[Any, tuple]
    max_spikes: int | None

    def __call__(self, constants: tuple[Any, Any, list], potentials: jax.Array) -> jax.Array:
        threshold, drop, learned = constants
        spikes = fire(potentials, threshold, put_together(learned, self.surrogate), self.max_spikes)
        return spikes if drop is None else drop * spikes


@dataclasses.dataclass(frozen=True)
class SequencePropagation:
    """Messages are `Sequence`s.

    Attributes:
      closed_form: differentiate neurons by `lif_sequence` (EXODUS, SLAYER) instead of autodiff through their loop.
      detach_reset: leave the reset's spike out of the gradient (SLAYER).
      parallel: as of `lif_sequence`.
    """

    closed_form: bool = False
    detach_reset: bool = False
    parallel: bool = False
    accumulates = False
    whole_sequence = True

    def refusal(self, cell: Any, current: Sequence | Kept, course: Course) -> str | None:
        del current, course
        return only_closed_form(cell) if self.closed_form else None

    def follows(self, course: Course) -> bool:
        del course
        return True

    def encode(self, state: Any, x: jax.Array, course: Course) -> tuple[Any, Sequence]:
        if len(x) == course.batch * course.steps:
            return state, Sequence(x.reshape(course.steps, course.batch, *x.shape[1:]), course.steps, False)
        if len(x) == course.batch:
            return state, Sequence(x, course.steps, True)
        raise ValueError(
            f"A layer-by-layer rule met an array of shape {x.shape} before a spiking layer. With a batch of "
            f"{course.batch} and T = {course.steps} its leading axis must be {course.batch} or "
            f"{course.batch * course.steps}: layers before the spiking part must keep the batch axis."
        )

    def synapse(self, function: SynapseFn, weights: Any, message: Sequence | Kept) -> Sequence:
        if isinstance(message, Kept):
            value = _released_synapse(function, message.release, weights, message.constants, message.kept)
            return Sequence(value, len(value), False)
        if message.still:
            return dataclasses.replace(message, value=function(weights, message.value))
        return dataclasses.replace(message, value=_over_time(function, weights, message.value))

    def start(self, current: Sequence | Kept, cell: Any) -> None:
        """Each sequence is computed from its start in one call: nothing is kept between calls."""

    def neuron(self, state: Any, current: Sequence | Kept, cell: Any) -> Fired:
        current = current.computed()
        if self.closed_form and isinstance(cell, CurrentCell):
            current, cell = self._filter(current, cell.synaptic_decay), cell.lif
        drop = height(cell)
        if self.closed_form and isinstance(cell, LIFCell):
            spikes, potentials = self._closed_form(current, cell)
            learned, surrogate = taken_apart(cell.surrogate)
            # Arrays, so that a layer's message can be carried by a loop over layers.
            constants = jax.tree.map(lambda a: jnp.asarray(a, potentials.dtype), (cell.threshold, drop))
            message = Kept(potentials, (*constants, learned), Release(surrogate, cell.max_spikes))
            return Fired(state, message, spikes)
        spikes = self._spikes(current, cell)
        return Fired(state, Sequence(spikes if drop is None else drop * spikes, current.steps, False), spikes)

    def _spikes(self, current: Sequence, cell: Any) -> jax.Array:
        if hasattr(cell, "fire_sequence"):
            return cell.fire_sequence(current.unrolled())
        return run_cell(cell, current.value, current.steps if current.still else None, self.detach_reset)[1]

    def _closed_form(self, current: Sequence, cell: LIFCell) -> tuple[jax.Array, jax.Array]:
        steps, through_reset = current.steps if current.still else None, not self.detach_reset
        return lif_sequence(current.value, cell, steps=steps, through_reset=through_reset, parallel=self.parallel)[:2]

    def _filter(self, current: Sequence, decay: Any) -> Sequence:
        """i[t] = α i[t−1] + I[t], linear: autodiff gives its closed form."""
        currents = widened(current.unrolled())

        def body(filtered, current):
            filtered = decay * filtered + current
            return filtered, filtered

        if self.parallel:
            filtered = leaky_filter(currents, decay)
        else:
            filtered = jax.lax.scan(body, jnp.zeros_like(currents[0]), currents)[1]
        return Sequence(filtered, current.steps, False)

    def leaky_readout(self, state: Any, current: Sequence | Kept, decay: float) -> tuple[Any, jax.Array]:
        def body(carry, current):
            membrane, gain = carry
            membrane, gain = decay * membrane + current, gain_step(gain, decay)
            return (membrane, gain), membrane / gain

        currents = widened(current.computed().unrolled())
        start = jnp.zeros_like(currents[0]), jnp.zeros(jnp.shape(decay), currents.dtype)
        return state, _folded(jax.lax.scan(body, start, currents)[1])

    def instant_readout(self, state: Any, current: Sequence | Kept, decay: float) -> tuple[Any, jax.Array]:
        del decay
        return state, _folded(widened(current.computed().unrolled()))

    def recall(self, state: Any, decay: float) -> Any:
        raise NotImplementedError("a layer that is computed over all steps has nothing from the step before")

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        return self.recall(state, decay)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _released_synapse(function, release, weights, constants, kept):
    """f(w, release(c, u)), for whose gradient u is kept and not the spikes: one sequence less in memory."""
    return _over_time(function, weights, release(constants, kept))


def _released_forward(function, release, weights, constants, kept):
    return _released_synapse(function, release, weights, constants, kept), (weights, constants, kept)


def _released_backward(function, release, residuals, error):
    weights, constants, kept = residuals
    # Or else the compiler would find the same spikes in the forward pass and keep those.
    late = zero_known_with(error).astype(kept.dtype)
    spikes, to_kept = jax.vjp(release, constants, kept + late)
    _, to_inputs = jax.vjp(functools.partial(_over_time, function), weights, spikes)
    to_weights, to_spikes = to_inputs(error)
    return to_weights, *to_kept(to_spikes)


_released_synapse.defvjp(_released_forward, _released_backward)


def _over_time(function: SynapseFn, weights: Any, x: jax.Array) -> jax.Array:
    y = function(weights, x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _folded(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])


def unfold(output: Any, course: Course) -> jax.Array:
    """One leaf of a net's output, a `Sequence` or a folded array, as [T, B, ...].

    Raises:
      ValueError: its leading axis is neither the batch nor the batch times T.
    """
    if isinstance(output, Sequence | Kept):
        return output.computed().unrolled()
    lead = output.shape[0] if output.ndim else None
    if lead == course.batch * course.steps:
        return output.reshape(course.steps, course.batch, *output.shape[1:])
    if lead == course.batch:
        return jnp.broadcast_to(output, (course.steps, *output.shape))
    raise ValueError(
        f"The net returned an array of shape {output.shape}. Layer by layer its outputs must keep the batch as their "
        f"leading axis, {course.batch} or, with T = {course.steps} folded in, {course.batch * course.steps}."
    )
