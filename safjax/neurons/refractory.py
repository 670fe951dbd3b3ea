"""Neurons that may not fire for some steps after a spike."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class RefractoryState(NamedTuple):
    """The neuron's own state, and for how many steps more it may not fire."""

    neuron: Any
    remaining: jax.Array


@dataclasses.dataclass(frozen=True)
class RefractoryCell:
    """A neuron that after a spike may not fire for n steps.

    With r[t] the steps that remain, r[0] = 0, a step is that of the neuron where r[t−1] = 0. Where r[t−1] > 0, s[t] = 0
    and

        m[t] = m[t−1]   held: the membrane stays as the spike left it, and its current is lost
        m[t] = u[t]     not held: the membrane integrates its current, and spikes alone are suppressed

    r[t] = n where s[t] > 0, else max(r[t−1] − 1, 0); in gradients it is a constant. Synaptic filters and adaptation go
    on in any case. Held is the neuron of norse (`LIFRefracCell`); not held is that of Bellec et al., "A solution to the
    learning dilemma for recurrent networks of spiking neurons", 2020.

    Attributes:
      cell: the neuron, which has a method `silent`.
      steps: n ≥ 1.
      held: whether the membrane is held.
    """

    cell: Any
    steps: int
    held: bool = True

    @property
    def surrogate(self) -> Any:
        """The neuron's spike function."""
        return getattr(self.cell, "surrogate", None)

    @property
    def scaled(self) -> bool:
        """Whether spikes travel with the height `drop`."""
        return getattr(self.cell, "scaled", False)

    @property
    def drop(self) -> Any:
        """ρθ, as of the neuron."""
        return self.cell.drop

    def start(self, current: jax.Array) -> RefractoryState:
        """The neuron's start, r[0] = 0."""
        return RefractoryState(self.cell.start(current), jnp.zeros(current.shape, jnp.int32))

    def step(
        self, state: RefractoryState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[RefractoryState, jax.Array]:
        """((state, r)[t−1], I[t]) ↦ ((state, r)[t], s[t])."""
        resting = state.remaining > 0
        active, spikes = self.cell.step(state.neuron, current, detach_reset)
        silent = self.cell.silent(state.neuron, current, self.held)
        after = jax.tree.map(lambda a, b: jnp.where(resting, a, b), silent, active)
        spikes = jnp.where(resting, 0, spikes)
        remaining = jnp.where(spikes > 0, self.steps, jnp.maximum(state.remaining - 1, 0))
        return RefractoryState(after, remaining), spikes

    def records(
        self, before: RefractoryState, current: jax.Array, after: RefractoryState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """Those of the neuron, u[t] = m[t] where it may not fire; and r[t−1] as "refractory"."""
        own = self.cell.records(before.neuron, current, after.neuron, spikes) if hasattr(self.cell, "records") else {}
        resting = before.remaining > 0
        if "potential" in own and "membrane" in own:
            own = {**own, "potential": jnp.where(resting, own["membrane"], own["potential"])}
        return {**own, "refractory": before.remaining}
