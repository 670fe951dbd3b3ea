"""Propagation of whole sequences: the net is computed layer by layer, all T steps at once.

A synapse has no memory, so time is folded into its batch, [T, B, ...] → [T·B, ...]: one large product in place of T
small ones. Only neurons run along time. A static image's first synapse stays at B; the first neuron spreads it over T.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from safjax.messages import Sequence
from safjax.neurons import CurrentCell, LIFCell, gain_step, leaky_filter, lif_sequence, run_cell
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_closed_form
from safjax.rules.spikes import height
from safjax.schedules import SPIKES


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

    def refusal(self, cell: Any) -> str | None:
        return only_closed_form(cell) if self.closed_form else None

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

    def synapse(self, function: SynapseFn, weights: Any, message: Sequence) -> Sequence:
        x = message.value
        if message.still:
            return dataclasses.replace(message, value=function(weights, x))
        y = function(weights, x.reshape(-1, *x.shape[2:]))
        return dataclasses.replace(message, value=y.reshape(*x.shape[:2], *y.shape[1:]))

    def neuron(self, state: Any, current: Sequence, cell: Any) -> Fired:
        # The name is for rematerialisation, which keeps the spikes and computes the rest again.
        spikes = checkpoint_name(self._fire(current, cell), SPIKES)
        drop = height(cell)
        return Fired(state, Sequence(spikes if drop is None else drop * spikes, current.steps, False), spikes)

    def _fire(self, current: Sequence, cell: Any) -> jax.Array:
        steps = current.steps if current.still else None
        if hasattr(cell, "fire_sequence"):
            return cell.fire_sequence(current.unrolled())
        if not self.closed_form:
            return run_cell(cell, current.value, steps, self.detach_reset)[1]
        if isinstance(cell, CurrentCell):
            return self._closed_form(self._filter(current, cell.synaptic_decay), cell.lif, None)
        return self._closed_form(current.value, cell, steps)

    def _closed_form(self, currents: jax.Array, cell: LIFCell, steps: int | None) -> jax.Array:
        through_reset = not self.detach_reset
        return lif_sequence(currents, cell, steps=steps, through_reset=through_reset, parallel=self.parallel)[0]

    def _filter(self, current: Sequence, decay: Any) -> jax.Array:
        """i[t] = α i[t−1] + I[t], linear: autodiff gives its closed form."""
        currents = current.unrolled()
        if self.parallel:
            return leaky_filter(currents, decay)

        def body(filtered, current):
            filtered = decay * filtered + current
            return filtered, filtered

        return jax.lax.scan(body, jnp.zeros_like(currents[0]), currents)[1]

    def leaky_readout(self, state: Any, current: Sequence, decay: float) -> tuple[Any, jax.Array]:
        def body(carry, current):
            membrane, gain = carry
            membrane, gain = decay * membrane + current, gain_step(gain, decay)
            return (membrane, gain), membrane / gain

        currents = current.unrolled()
        start = jnp.zeros_like(currents[0]), jnp.zeros((), currents.dtype)
        return state, _folded(jax.lax.scan(body, start, currents)[1])

    def instant_readout(self, state: Any, current: Sequence, decay: float) -> tuple[Any, jax.Array]:
        del decay
        return state, _folded(current.unrolled())

    def recall(self, state: Any, decay: float) -> Any:
        raise NotImplementedError("a layer that is computed over all steps has nothing from the step before")

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        return self.recall(state, decay)


def _folded(x: jax.Array) -> jax.Array:
    return x.reshape(-1, *x.shape[2:])


def unfold(output: Any, course: Course) -> jax.Array:
    """One leaf of a net's output, a `Sequence` or a folded array, as [T, B, ...].

    Raises:
      ValueError: its leading axis is neither the batch nor the batch times T.
    """
    if isinstance(output, Sequence):
        return output.unrolled()
    lead = output.shape[0] if output.ndim else None
    if lead == course.batch * course.steps:
        return output.reshape(course.steps, course.batch, *output.shape[1:])
    if lead == course.batch:
        return jnp.broadcast_to(output, (course.steps, *output.shape))
    raise ValueError(
        f"The net returned an array of shape {output.shape}. Layer by layer its outputs must keep the batch as their "
        f"leading axis, {course.batch} or, with T = {course.steps} folded in, {course.batch * course.steps}."
    )
