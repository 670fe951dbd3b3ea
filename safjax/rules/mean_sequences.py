"""Rate-based back-propagation layer by layer: spikes of all steps at once, and a gradient through their means alone.

The numbers are those of `MeanPropagation`, of which one layer after the other runs over time. A batch normalisation may
stand between them, as published: spikes' currents are normalised by the statistics of all steps, and so is their mean,
where the gradient goes through mean and variance of the mean current.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from safjax.messages import AveragedSequence
from safjax.neurons import LIFCell
from safjax.neurons.recording import Pick, recorded
from safjax.passes import two_passes
from safjax.precision import widened
from safjax.rules.means import MeanState, advanced, mean_of, started, unlearned
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_mean
from safjax.rules.sequences import SequencePropagation
from safjax.rules.spikes import SpikePropagation, height
from safjax.standing_in import with_gradient_of

_SPIKES = SequencePropagation()
"""What becomes of the spikes themselves."""


@dataclasses.dataclass(frozen=True)
class MeanSequencePropagation:
    """Messages are `AveragedSequence`s; only the mean is differentiated.

    Attributes:
      detach_reset: as of `MeanPropagation`.
    """

    detach_reset: bool = True
    accumulates = False
    affine = True
    one_decay = False
    per_weight = False
    learns_neurons = True
    recalls = False
    whole_sequence = True
    one_map = "differentiates the mean over all steps"

    @property
    def inference(self) -> SpikePropagation:
        return SpikePropagation()

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def follows(self, course: Course) -> bool:
        del course
        return True

    def start(self, current: Any, cell: Any, course: Course) -> None:
        """None: the sequence is computed from its start to its end in one call."""
        del current, cell, course

    def recall(self, state: Any, decay: float) -> Any:
        raise NotImplementedError("of a mean over time nothing is handed to the next step")

    def keep(self, state: Any, message: Any, decay: float) -> Any:
        return self.recall(state, decay)

    @property
    def refuses_as(self) -> "MeanSequencePropagation":
        return MeanSequencePropagation()

    def refusal(self, cell: Any, current: AveragedSequence, course: Course) -> str | None:
        del current
        if course.padded:
            return (
                "takes means over all steps at once, so that steps beyond a member's length would count; give it "
                "sequences of one length, without lengths, or write rate_backprop(), which goes step by step"
            )
        return only_mean(cell, course)

    def encode(self, state: Any, x: jax.Array, course: Course) -> tuple[Any, AveragedSequence]:
        state, values = _SPIKES.encode(state, x, course)
        mean = values.value if values.still else jnp.mean(values.value, 0)
        return state, AveragedSequence.of(values, mean)

    def synapse(self, function: SynapseFn, weights: Any, *messages: AveragedSequence) -> AveragedSequence:
        with two_passes() as passes:
            values = _SPIKES.synapse(function, jax.lax.stop_gradient(weights), *(m.values() for m in messages))
            passes.of_mean = True
            return AveragedSequence.of(values, function(weights, *(message.mean for message in messages)))

    def neuron(self, state: Any, current: AveragedSequence, cell: LIFCell, pick: Pick | None = None) -> Fired:
        values = jax.lax.stop_gradient(current.values())

        def body(state: MeanState, value: Any) -> tuple[MeanState, tuple[jax.Array, dict[str, jax.Array]]]:
            value = values.value if values.still else value
            after, spikes = advanced(state, value, cell, self.detach_reset)
            return after, (spikes, recorded(pick, cell, state.membrane, value, after.membrane, spikes))

        over = (None, values.steps) if values.still else (values.value, None)
        after, (spikes, records) = jax.lax.scan(body, started(values.first(), cell), *over)
        message = AveragedSequence(spikes, values.steps, False, mean_of(after, current.mean, cell))
        drop = height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        return Fired(state, message, spikes, records)

    def unlearned(self, record: str) -> str | None:
        return unlearned(record)

    def leaky_readout(self, state: Any, current: AveragedSequence, decay: float, course: Course) -> tuple[Any, Any]:
        state, outputs = _SPIKES.leaky_readout(state, current.values(), decay, course)
        return state, _learning_of(outputs, current)

    def instant_readout(self, state: Any, current: AveragedSequence, decay: float, course: Course) -> tuple[Any, Any]:
        state, outputs = _SPIKES.instant_readout(state, current.values(), decay, course)
        return state, _learning_of(outputs, current)


def _learning_of(outputs: jax.Array, current: AveragedSequence) -> jax.Array:
    """Outputs o[T · B, ...], each differentiated as the mean current."""
    # Wide before it is spread: its gradient is a sum over all steps.
    mean = widened(current.mean).astype(outputs.dtype)
    return with_gradient_of(outputs, jnp.broadcast_to(mean, (current.steps, *mean.shape)).reshape(outputs.shape))
