"""What a neuron has to tell of a step beside its spikes: potentials, and states by their names."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

Records = Mapping[str, jax.Array]
Pick = Callable[[Records], dict[str, jax.Array]]
"""Takes, of all that a neuron can tell, what is to be recorded."""

EVERY_NEURON = ("spikes", "current", "rate")
"""Names that no cell may give to something else."""


def recorded(
    pick: Pick | None, cell: Any, before: Any, current: jax.Array, after: Any, spikes: jax.Array
) -> dict[str, jax.Array]:
    """What is picked of one step: spikes s[t], input current I[t], and what the cell's own method `records` names.

    Args:
      pick: None records nothing.
      cell: the neuron.
      before, current, after, spikes: state[t−1], I[t], state[t], s[t].

    Raises:
      ValueError: the cell gives a name that stands for something else.
    """
    if pick is None:
        return {}
    own = cell.records(before, current, after, spikes) if hasattr(cell, "records") else {}
    return pick(_all(cell, current, spikes, own))


def recorded_sequence(pick: Pick | None, cell: Any, currents: jax.Array, spikes: jax.Array) -> dict[str, jax.Array]:
    """As `recorded`, of all steps at once, [T, B, ...], of a cell with `fire_sequence`."""
    if pick is None:
        return {}
    own = cell.sequence_records(currents, spikes) if hasattr(cell, "sequence_records") else {}
    return pick(_all(cell, currents, spikes, own))


def _all(cell: Any, current: jax.Array, spikes: jax.Array, own: Records) -> dict[str, jax.Array]:
    if taken := [name for name in own if name in EVERY_NEURON]:
        raise ValueError(
            f"{type(cell).__name__} records something of its own as '{taken[0]}', but of every neuron 'spikes' are its "
            "spikes, 'current' its input current and 'rate' its firing rate. Give it another name."
        )
    return {"spikes": spikes, "current": current, **own}


@dataclasses.dataclass(frozen=True)
class Recording:
    """A cell whose step returns (state, (spikes, records)), for `run_cell`."""

    cell: Any
    pick: Pick | None

    def start(self, current: jax.Array) -> Any:
        """As of the cell."""
        return self.cell.start(current)

    def step(self, state: Any, current: jax.Array, detach_reset: bool = False) -> tuple[Any, Any]:
        """(state[t−1], I[t]) ↦ (state[t], (s[t], records[t]))."""
        after, spikes = self.cell.step(state, current, detach_reset)
        return after, (spikes, recorded(self.pick, self.cell, state, current, after, spikes))
