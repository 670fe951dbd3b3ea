"""LIF neurons behind a synaptic filter."""

import dataclasses
from typing import NamedTuple

import jax

from safjax.neurons.cells import LIFCell
from safjax.neurons.firing import Surrogate
from safjax.neurons.resets import Number
from safjax.precision import wide_zeros


class CurrentState(NamedTuple):
    """Synaptic current and membrane."""

    current: jax.Array
    membrane: jax.Array


@dataclasses.dataclass(frozen=True)
class CurrentCell:
    """Current-based LIF: a synaptic filter before the membrane.

        i[t] = α i[t−1] + I[t],   then `LIFCell` on i[t]

    With decayed input the membrane takes (1 − λ) i[t]; the filter takes I[t] as it is in any case.

    Attributes:
      lif: the membrane.
      synaptic_decay: α ∈ [0, 1].
    """

    lif: LIFCell
    synaptic_decay: Number

    @property
    def surrogate(self) -> Surrogate:
        """The spike function of the membrane."""
        return self.lif.surrogate

    @property
    def scaled(self) -> bool:
        """Whether spikes travel with the height `drop`."""
        return self.lif.scaled

    @property
    def drop(self) -> Number:
        """ρθ, as of the membrane."""
        return self.lif.drop

    def filtered(self, before: jax.Array, current: jax.Array) -> jax.Array:
        """i[t] from i[t−1] and I[t]."""
        return self.synaptic_decay * before + current

    def start(self, current: jax.Array) -> CurrentState:
        """i[0] = m[0] = 0."""
        return CurrentState(wide_zeros(current), self.lif.start(current))

    def step(
        self, state: CurrentState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[CurrentState, jax.Array]:
        """((i, m)[t−1], I[t]) ↦ ((i, m)[t], s[t])."""
        filtered = self.filtered(state.current, current)
        membrane, spikes = self.lif.step(state.membrane, filtered, detach_reset)
        return CurrentState(filtered, membrane), spikes

    def silent(self, state: CurrentState, current: jax.Array, held: bool) -> CurrentState:
        """As of the membrane; the filter goes on in any case."""
        filtered = self.filtered(state.current, current)
        return CurrentState(filtered, self.lif.silent(state.membrane, filtered, held))

    def records(
        self, before: CurrentState, current: jax.Array, after: CurrentState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """i[t] as "synaptic_current", and those of the membrane."""
        del current
        own = self.lif.records(before.membrane, after.current, after.membrane, spikes)
        return {"synaptic_current": after.current, **own}
