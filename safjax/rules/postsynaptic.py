"""Propagation of spikes with eligibilities that go on in time: online training with postsynaptic estimates (OTPE).

Summe, Schaefer & Joshi, "Estimating post-synaptic effects for online training of feed-forward SNNs", arXiv 2311.16151.
What a layer's spikes of earlier steps have left in the next membrane is estimated by that membrane's decay, λ:

    R̂[t] = λ R̂[t−1] + e[t],   σ̄[t] = (λ Λ[t−1] σ̄[t−1] + σ[t]) / Λ[t],   dW = Σ_t g[t] R̂[t]

and the error that goes on to the layer's current is σ̄[t] g[t]. An output layer, whose spikes the loss of a step reads
itself, has nothing behind it that integrates: it is given OSTL's e and σ.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.messages import Driven
from safjax.neurons import LIFCell
from safjax.precision import wide_zeros
from safjax.rules.eligibilities import MESSAGE, Step
from safjax.rules.per_weight import EligibilityPropagation, EligibilityState, filtered
from safjax.rules.propagation import Course


class Estimates(NamedTuple):
    """R̂ by each variable, σ̄, and the gain Λ."""

    filtered: tuple[jax.Array, ...]
    slope: jax.Array
    gain: Gain


@dataclasses.dataclass(frozen=True)
class EstimatingPropagation(EligibilityPropagation):
    """OTPE.

    Attributes:
      everywhere: give R̂ and σ̄ to the output layer, too.
    """

    everywhere: bool = False
    one_decay = True

    def refusal(self, cell: Any, current: Driven, course: Course) -> str | None:
        del current, course
        if type(cell) is LIFCell:
            return None
        return (
            "estimates what spikes leave in the next membrane by its decay, which is the whole memory of LIF and IF "
            "neurons only; use those, or ostl()"
        )

    def start(self, current: Driven, cell: Any, course: Course) -> EligibilityState:
        state = super().start(current, cell, course)
        zeros = tuple(jnp.zeros_like(trace) for trace, *_ in state.traces)
        estimates = Estimates(zeros, wide_zeros(current.value), Gain.start(current.value))
        return dataclasses.replace(state, ahead=estimates)

    def ahead(self, state: EligibilityState, step: Step, cell: LIFCell) -> tuple[Any, Any]:
        before = state.ahead
        gain, slope = before.gain.step(cell.decay), step.slopes[MESSAGE]
        estimates = filtered(before.filtered, cell.decay, step)
        mean = before.slope + (slope - before.slope) / gain.of(slope)
        return Estimates(estimates, mean, gain), (estimates, mean)

    def handed_on(
        self, step: Step, onward: Any, by: list[jax.Array], below: list[jax.Array], read: jax.Array
    ) -> Driven:
        message = super().handed_on(step, onward, by, below, read)
        return Driven.of(message.onward) if self.everywhere else message
