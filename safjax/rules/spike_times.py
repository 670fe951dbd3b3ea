"""Propagation of whole sequences of spikes, differentiated by their times (EventProp)."""

import dataclasses
from numbers import Real
from typing import Any

import jax

from safjax.messages import Kept, Sequence
from safjax.neurons import CurrentCell, run_cell
from safjax.neurons.firing import taken_apart
from safjax.neurons.recording import Pick, Recording, Records
from safjax.neurons.resets import AfterDecay, ResetTo
from safjax.neurons.spike_times import Dynamics, rises_at_spikes, with_spike_times
from safjax.rules.propagation import Course, Fired
from safjax.rules.sequences import SequencePropagation

_FILTERED = " "
"""The synaptic current among what is recorded for the gradient; no cell's own name."""


@dataclasses.dataclass(frozen=True)
class SpikeTimePropagation(SequencePropagation):
    """Messages are `Sequence`s; neurons are differentiated by the times of their spikes.

    Attributes:
      slowest: the least slope of a membrane at its threshold that is divided by, τ u̇ / θ.
    """

    slowest: float = 0.01
    affine = True
    learns_neurons = False
    one_map = "differentiates the times of spikes"

    @property
    def refuses_as(self) -> "SpikeTimePropagation":
        return SpikeTimePropagation()

    def refusal(self, cell: Any, current: Sequence | Kept, course: Course) -> str | None:
        del current
        return only_events(cell, course)

    def neuron(self, state: Any, current: Sequence | Kept, cell: CurrentCell, pick: Pick | None = None) -> Fired:
        currents = current.computed().unrolled()

        def picked(records: Records) -> dict[str, jax.Array]:
            return {**({} if pick is None else pick(records)), _FILTERED: records["synaptic_current"]}

        _, fired = run_cell(Recording(cell, picked), jax.lax.stop_gradient(currents))
        spikes, records = jax.lax.stop_gradient(fired)
        dynamics = Dynamics.of(cell)
        rises = rises_at_spikes(spikes, records.pop(_FILTERED), dynamics, self.slowest)
        spikes = with_spike_times(dynamics, currents, spikes, rises)
        if "spikes" in records:
            records["spikes"] = spikes
        return Fired(state, Sequence(spikes, len(spikes), False), spikes, records)

    def unlearned(self, record: str) -> str | None:
        if record == "spikes":
            return None
        return (
            "differentiates the times of spikes and not the potentials that neurons have between them; take 'spikes', "
            "or train with exodus() or bptt()"
        )


def only_events(cell: Any, course: Course) -> str | None:
    """Why such neurons have no spike times whose gradient is meant."""
    if course.open or course.padded:
        return (
            "moves spikes to earlier and later steps, which a sequence must have before its first end: give it whole "
            "sequences of one length, without state and without lengths"
        )
    if course.steps < 2:
        return "moves spikes to earlier and later steps, of which a sequence of one step has none; give it more steps"
    if type(cell) is not CurrentCell:
        return (
            "needs membranes that rise to their threshold with a slope, as currents do that decay by themselves; input "
            "to other neurons makes their membrane jump. Use CurrentLIF"
        )
    return _numbers(cell) or _of_one_kind(cell)


def _numbers(cell: CurrentCell) -> str | None:
    lif = cell.lif
    reset = lif.reset.value if isinstance(lif.reset, ResetTo) else 1.0 if lif.reset is None else lif.reset
    reset = reset.times if isinstance(reset, AfterDecay) else reset
    named = {"synaptic_decay": cell.synaptic_decay, "decay": lif.decay, "threshold": lif.threshold, "reset": reset}
    for name, number in named.items():
        if not isinstance(number, Real):
            return (
                f"has a gradient of weights and inputs only, but the neurons hold an array as '{name}'; give a number"
            )
    if taken_apart(lif.surrogate)[0]:
        return "uses no surrogate, but that of the neurons holds arrays, which may be learned; use one without"
    if not 0 < lif.decay < 1 or not 0 < cell.synaptic_decay <= 1:
        return (
            f"is that of a leaky membrane behind a synaptic current, but the decays are {lif.decay} and "
            f"{cell.synaptic_decay} (synaptic_decay); give decays between 0 and 1"
        )
    return None


def _of_one_kind(cell: CurrentCell) -> str | None:
    lif = cell.lif
    if lif.reset is None:
        return "needs a reset, without which a membrane stays above its threshold; write reset=1.0"
    if isinstance(lif.reset, ResetTo) and lif.reset.through is not None:
        return "has the derivative of spike times, and none to put through a reset; write ResetTo without 'through'"
    if lif.floor is not None:
        return "follows a membrane between spikes by its leak alone, which a floor breaks; write floor=None"
    if lif.max_spikes != 1:
        return "is that of single spikes, of which no two are at one time; write max_spikes=1"
    if lif.scaled:
        return "differentiates the times of spikes and not their height; write scaled=False"
    return None
