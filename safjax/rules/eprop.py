"""Propagation of spikes by which nothing but the readouts' errors teaches: e-prop.

Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", Nature Communications
2020. Of back-propagation through time it leaves out what a spike does to other neurons, and its own reset; what a
neuron remembers of its weights, its adaptation too, is kept. With e of `safjax.rules.eligibilities`, κ the decay of the
net's leaky readouts, and L[t] the error of a step at a layer's spikes, through readouts alone,

    ē[t] = κ ē[t−1] + e[t],   dW = Σ_t L[t] ē[t]
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from safjax.messages import Driven
from safjax.rules.eligibilities import Step
from safjax.rules.per_weight import EligibilityPropagation, EligibilityState, filtered
from safjax.rules.propagation import Course


@dataclasses.dataclass(frozen=True)
class BroadcastPropagation(EligibilityPropagation):
    """e-prop."""

    detach_reset: bool = True

    def refusal(self, cell: Any, current: Driven, course: Course) -> str | None:
        if course.readout is None:
            return (
                "filters eligibilities by the decay of the net's leaky readouts, which must be one number that is not "
                "learned; give all of them the same"
            )
        return super().refusal(cell, current, course)

    def start(self, current: Driven, cell: Any, course: Course) -> EligibilityState:
        state = super().start(current, cell, course)
        if not course.readout:
            # Nothing goes on with spikes in later steps.
            return state
        zeros = tuple(jnp.zeros_like(trace) for trace, *_ in state.traces)
        return dataclasses.replace(state, ahead=zeros, ahead_decay=course.readout)

    def below(self, current: Driven) -> list[jax.Array]:
        del current
        return []

    def ahead(self, state: EligibilityState, step: Step, cell: Any) -> tuple[Any, Any]:
        del cell
        if state.ahead is None:
            return None, None
        assert state.ahead_decay is not None
        after = filtered(state.ahead, state.ahead_decay, step)
        return after, (after, None)
