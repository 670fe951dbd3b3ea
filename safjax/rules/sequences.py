"""Propagation of whole sequences: the net is computed layer by layer, all T steps at once.

A synapse has no memory, so time is folded into its batch, [T, B, ...] → [T·B, ...]: one large product in place of T
small ones. Only neurons run along time. A static image's first synapse stays at B; the first neuron spreads it over T.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from safjax.computed_after import zero_known_with
from safjax.messages import Kept, Sequence
from safjax.neurons import (
    CurrentCell,
    CurrentState,
    LIFCell,
    SPSNCell,
    fire,
    leaky_filter,
    lif_sequence,
    run_cell,
)
from safjax.neurons.firing import put_together, taken_apart
from safjax.neurons.recording import Pick, Recording, recorded_sequence
from safjax.neurons.resets import after_spikes
from safjax.precision import widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_closed_form
from safjax.rules.spikes import ReadoutState, SpikePropagation, height, spiking_readout
from safjax.segments import dear


@dataclasses.dataclass(frozen=True)
class Release:
    """((θ, height, what the surrogate learns), u) ↦ the spikes as they travel.

    A value: messages of like neurons are pytrees of one structure.

    Attributes:
      surrogate: the spike function without its arrays, see `taken_apart`.
      max_spikes: as of `fire`.
    """

    surrogate: tuple[Any, tuple[Any, ...]]
    max_spikes: int | None

    def __call__(self, constants: tuple[Any, Any, list[Any]], potentials: jax.Array) -> jax.Array:
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
    affine = False
    one_decay = False
    per_weight = False
    learns_neurons = True
    recalls = False
    whole_sequence = True
    one_map: ClassVar[str | None] = None

    @property
    def inference(self) -> SpikePropagation:
        return SpikePropagation()

    @property
    def refuses_as(self) -> "SequencePropagation":
        return SequencePropagation(self.closed_form)

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def refusal(self, cell: Any, current: Sequence | Kept, course: Course) -> str | None:
        del current
        if course.part_of is not None and not hasattr(cell, "step"):
            return (
                "computes these neurons over all steps of a sequence at once, but was told to go in segments; leave "
                "segments out, or use neurons that go step by step, such as LIF, ALIF or SlidingPSN"
            )
        if course.open and not hasattr(cell, "step"):
            return (
                "computes these neurons over all steps of a sequence at once, so they cannot go on from the state of "
                "an earlier call; give the net whole sequences, without state, or use neurons that go step by step, "
                "such as LIF, ALIF or SlidingPSN"
            )
        if course.padded and not hasattr(cell, "step") and not isinstance(cell, SPSNCell):
            return (
                "computes these neurons from all steps of a sequence at once, so that steps beyond a member's length "
                "would count; give the net sequences of one length, without lengths, or use neurons whose spikes "
                "depend on the steps before only, such as LIF, ALIF or SlidingPSN"
            )
        return only_closed_form(cell) if self.closed_form else None

    def follows(self, course: Course) -> bool:
        del course
        return True

    def encode(self, state: Any, x: jax.Array, course: Course) -> tuple[Any, Sequence]:
        if x.shape[0] == course.batch * course.steps:
            return state, Sequence(x.reshape(course.steps, course.batch, *x.shape[1:]), course.steps, False)
        if x.shape[0] == course.batch:
            return state, Sequence(x, course.steps, True)
        raise ValueError(
            f"A layer-by-layer rule met an array of shape {x.shape} before a spiking layer. With a batch of "
            f"{course.batch} and T = {course.steps} its leading axis must be {course.batch} or "
            f"{course.batch * course.steps}: layers before the spiking part must keep the batch axis."
        )

    def synapse(self, function: SynapseFn, weights: Any, *messages: Sequence | Kept) -> Sequence:
        given = [message for message in messages if isinstance(message, Sequence)]
        if len(given) == len(messages):
            steps = given[0].steps
            if all(message.still for message in given):
                return Sequence(function(weights, *(message.value for message in given)), steps, True)
            value = _over_time(function, weights, *(message.unrolled() for message in given))
            return Sequence(value, steps, False)
        quick = [message.to_be_kept() for message in messages]
        releases = tuple(message.release for message in quick)
        parts = [message.constants for message in quick], [message.kept for message in quick]
        value = _released_synapse(function, releases, weights, *parts)
        return Sequence(value, len(value), False)

    def start(self, current: Sequence | Kept, cell: Any, course: Course) -> Any:
        """As step by step; None where the sequence is computed from its start to its end in one call."""
        return cell.start(current.computed().first()) if course.open else None

    def neuron(self, state: Any, current: Sequence | Kept, cell: Any, pick: Pick | None = None) -> Fired:
        current = current.computed()
        if not (self.closed_form and isinstance(cell, CurrentCell)):
            return self._fired(state, current, cell, pick)
        before, membrane = (None, None) if state is None else state
        filtered = self._filter(current, cell.synaptic_decay, before)
        own = {"current": current.unrolled(), "synaptic_current": filtered.value}
        fired = self._fired(membrane, filtered, cell.lif, None if pick is None else lambda r: pick({**r, **own}))
        return fired if state is None else fired._replace(state=CurrentState(filtered.value[-1], fired.state))

    def unlearned(self, record: str) -> str | None:
        del record
        return None

    def _fired(self, state: Any, current: Sequence, cell: Any, pick: Pick | None) -> Fired:
        drop = height(cell)
        if self.closed_form and isinstance(cell, LIFCell):
            spikes, potentials, last = self._closed_form(current, cell, state)
            learned, surrogate = taken_apart(cell.surrogate)
            # Arrays, so that a layer's message can be carried by a loop over layers.
            constants = jax.tree.map(lambda a: jnp.asarray(a, potentials.dtype), (cell.threshold, drop))
            message = Kept(potentials, (*constants, learned), Release(surrogate, cell.max_spikes))
            records = {} if pick is None else pick(self._records(current, cell, potentials, spikes))
            return Fired(None if state is None else last, message, spikes, records)
        state, spikes, records = self._spikes(state, current, cell, pick)
        travelling = Sequence(spikes if drop is None else drop * spikes, current.steps, False)
        return Fired(state, travelling, spikes, records)

    def _records(self, current: Sequence, cell: LIFCell, potentials: jax.Array, spikes: jax.Array) -> dict[Any, Any]:
        reset = jax.lax.stop_gradient(spikes) if self.detach_reset else spikes
        membranes = after_spikes(potentials, reset, cell.release)
        return {"spikes": spikes, "current": current.unrolled(), "potential": potentials, "membrane": membranes}

    def _spikes(
        self, state: Any, current: Sequence, cell: Any, pick: Pick | None
    ) -> tuple[Any, jax.Array, dict[Any, Any]]:
        if state is None and hasattr(cell, "fire_sequence"):
            currents = current.unrolled()
            spikes = cell.fire_sequence(currents)
            return None, spikes, recorded_sequence(pick, cell, currents, spikes)
        steps, recording = current.still_steps, Recording(cell, pick)
        last, (spikes, records) = run_cell(recording, dear(current.value), steps, self.detach_reset, state)
        return None if state is None else last, spikes, records

    def _closed_form(self, current: Sequence, cell: LIFCell, membrane: jax.Array | None) -> tuple[Any, ...]:
        options = {"through_reset": not self.detach_reset, "parallel": self.parallel}
        return lif_sequence(current.value, cell, membrane, steps=current.still_steps, **options)

    def _filter(self, current: Sequence, decay: Any, before: jax.Array | None) -> Sequence:
        """i[t] = α i[t−1] + I[t], linear: autodiff gives its closed form."""
        currents = widened(dear(current.unrolled()))
        if before is not None:
            currents = currents.at[0].add(decay * before)

        def body(filtered: jax.Array, current: jax.Array) -> tuple[jax.Array, jax.Array]:
            filtered = decay * filtered + current
            return filtered, filtered

        if self.parallel:
            filtered = leaky_filter(currents, decay)
        else:
            filtered = jax.lax.scan(body, jnp.zeros_like(currents[0]), currents)[1]
        return Sequence(filtered, current.steps, False)

    def leaky_readout(
        self, state: ReadoutState | None, current: Sequence | Kept, decay: float, course: Course
    ) -> tuple[ReadoutState | None, jax.Array]:
        currents = widened(current.computed().unrolled())
        start = ReadoutState.start(currents[0], decay) if state is None else state
        last, means = jax.lax.scan(lambda state, current: spiking_readout(state, current, decay), start, currents)
        return last if course.open else None, _folded(means)

    def instant_readout(
        self, state: Any, current: Sequence | Kept, decay: float, course: Course
    ) -> tuple[Any, jax.Array]:
        del decay, course
        return state, _folded(widened(current.computed().unrolled()))

    def recall(self, state: Any, decay: float) -> Any:
        raise NotImplementedError("a layer that is computed over all steps has nothing from the step before")

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        return self.recall(state, decay)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _released_synapse(
    function: SynapseFn, releases: tuple[Any, ...], weights: Any, constants: list[Any], kept: list[jax.Array]
) -> jax.Array:
    """f(w, release(c, u), ...), for whose gradient u is kept and not the spikes: one sequence less in memory."""
    return _over_time(function, weights, *_released(releases, constants, kept))


def _released_forward(
    function: SynapseFn, releases: tuple[Any, ...], weights: Any, constants: list[Any], kept: list[jax.Array]
) -> tuple[jax.Array, tuple[Any, list[Any], list[jax.Array]]]:
    return _released_synapse(function, releases, weights, constants, kept), (weights, constants, kept)


def _released_backward(
    function: SynapseFn, releases: tuple[Any, ...], residuals: tuple[Any, list[Any], list[jax.Array]], error: jax.Array
) -> tuple[Any, ...]:
    weights, constants, kept = residuals
    # Or else the compiler would find the same spikes in the forward pass and keep those.
    late = [u + zero_known_with(error).astype(u.dtype) for u in kept]
    spikes, to_kept = jax.vjp(functools.partial(_released, releases), constants, late)
    _, to_inputs = jax.vjp(functools.partial(_over_time, function), weights, *spikes)
    to_weights, *to_spikes = to_inputs(error)
    return to_weights, *to_kept(to_spikes)


_released_synapse.defvjp(_released_forward, _released_backward)


def _released(releases: tuple[Any, ...], constants: list[Any], kept: list[Any]) -> list[jax.Array]:
    return [release(c, u) for release, c, u in zip(releases, constants, kept, strict=True)]


def _over_time(function: SynapseFn, weights: Any, *xs: jax.Array) -> jax.Array:
    y = function(weights, *map(_folded, xs))
    return y.reshape(*xs[0].shape[:2], *y.shape[1:])


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
