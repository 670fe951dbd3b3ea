"""Propagation of spikes with a derivative for each weight and member: online spatio-temporal learning (OSTL).

Bohnstingl, Woźniak, Pantazi & Eleftheriou, "Online spatio-temporal learning in deep neural networks", 2022. With the
eligibilities e of `safjax.rules.eligibilities` and σ[t] = ds[t]/dI[t], an error g[t] at a layer's spikes gives

    dW = Σ_t g[t] e[t],   and goes on to its current as σ[t] g[t]

So the layer's own memory is in the gradient as it is, reset included, and what is left out is that spikes of earlier
steps act on later layers. A neuron's state holds ε, of the size of the batch times that of the weights.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.messages import Driven, Source
from safjax.neurons.recording import Pick
from safjax.owners import owner_axes, slopes_of
from safjax.precision import wide_zeros, widened
from safjax.rules.eligibilities import MESSAGE, Step, Traces, advanced, differentiated, variables, zero_traces
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_apart
from safjax.rules.spikes import ReadoutState, spiking_readout


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["neuron", "traces", "ahead"], meta_fields=["ahead_decay"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class EligibilityState:
    """State of neurons, their eligibilities, and what of those goes on in time.

    Attributes:
      neuron: the cell's.
      traces: ε.
      ahead: what a rule keeps for those who go on with the spikes in later steps; None of OSTL.
      ahead_decay: the decay with which they do so.
    """

    neuron: Any
    traces: Traces
    ahead: Any = None
    ahead_decay: float | None = None


@dataclasses.dataclass(frozen=True)
class EligibilityPropagation:
    """Messages are `Driven`; OSTL, and the base of rules that have its eligibilities.

    Attributes:
      detach_reset: leave the reset's spike out of the gradient.
    """

    detach_reset: bool = False
    accumulates = True
    one_decay = False
    affine = False
    per_weight = True
    learns_neurons = True
    recalls = True
    whole_sequence = False
    one_map: ClassVar[str | None] = None

    @property
    def inference(self) -> "EligibilityPropagation":
        return type(self)()

    @property
    def refuses_as(self) -> "EligibilityPropagation":
        return type(self)()

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def refusal(self, cell: Any, current: Driven, course: Course) -> str | None:
        del current, course
        return only_apart(cell)

    def follows(self, course: Course) -> bool:
        # Weights in front of the first synapse drive many neurons, through many weights.
        del course
        return False

    def encode(self, state: Any, x: jax.Array, course: Course) -> tuple[Any, Driven]:
        del course
        return state, Driven.of(x)

    def synapse(self, function: SynapseFn, weights: list[jax.Array], *messages: Driven) -> Driven:
        fixed, read = jax.lax.stop_gradient(weights), [message.value for message in messages]
        onward = [message.onward for message in messages]
        now = function(fixed, *read)
        later = now if all(a is b for a, b in zip(read, onward, strict=True)) else function(fixed, *onward)
        return Driven(now, later, tuple(_sources(function, weights, read)))

    def start(self, current: Driven, cell: Any, course: Course) -> EligibilityState:
        del course
        neuron = cell.start(current.value)
        return EligibilityState(neuron, zero_traces(neuron, current, cell))

    def neuron(self, state: EligibilityState, current: Driven, cell: Any, pick: Pick | None = None) -> Fired:
        step = advanced(state.neuron, state.traces, current, cell, self.detach_reset, pick)
        by, below = variables(current, cell), self.below(current)

        def seen(name: str) -> jax.Array:
            through = [(step.slopes[name], x) for x in below]
            return differentiated(step.values[name], step.eligibilities[name], by, *through)

        ahead, onward = self.ahead(state, step, cell)
        message = self.handed_on(step, onward, by, below, seen(MESSAGE))
        recorded = {name: x for name, x in step.values.items() if name != MESSAGE}
        records = {name: seen(name) if name in step.slopes else x for name, x in recorded.items()}
        after = dataclasses.replace(state, neuron=step.state, traces=step.traces, ahead=ahead)
        return Fired(after, message, step.spikes, records)

    def below(self, current: Driven) -> list[jax.Array]:
        """What the error at the spikes is handed down to."""
        return [widened(current.onward)]

    def ahead(self, state: EligibilityState, step: Step, cell: Any) -> tuple[Any, Any]:
        """(what is kept of the spikes for later steps, the (eligibilities, slope) of those who go on with them)."""
        del state, step, cell
        return None, None

    def handed_on(
        self, step: Step, onward: Any, by: list[jax.Array], below: list[jax.Array], read: jax.Array
    ) -> Driven:
        """The message of the spikes, where the loss of this step sees them as `read`."""
        if onward is None:
            return Driven.of(read)
        eligibilities, slope = onward
        through = [(slope, x) for x in below]
        return Driven(read, differentiated(step.values[MESSAGE], eligibilities, by, *through))

    def unlearned(self, record: str) -> str | None:
        del record
        return None

    def recall(self, state: jax.Array, decay: float) -> Driven:
        del decay
        return Driven.of(state)

    def keep(self, state: Any, message: Driven, decay: float) -> jax.Array:
        del state, decay
        return message.value

    def leaky_readout(
        self, state: "ReadoutTraces | None", current: Driven, decay: Any, course: Course
    ) -> tuple["ReadoutTraces", jax.Array]:
        del course
        before = ReadoutTraces.start(current, decay) if state is None else state
        after, output = before.advanced(current, decay)
        by = [source.weights for source in current.sources] + ([decay] if before.leak else [])
        onward = widened(current.onward)
        eligibilities = (*after.traces, *after.leak[:1])
        return after, differentiated(output, eligibilities, by, (1 / after.readout.gain.of(onward), onward))

    def instant_readout(self, state: Any, current: Driven, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        by, slopes = ([getattr(s, name) for s in current.sources] for name in ("weights", "slopes"))
        read = widened(current.value)
        return state, differentiated(read, tuple(slopes), by, (jnp.ones_like(read), read))


def filtered(before: tuple[jax.Array, ...], decay: Any, step: Step) -> tuple[jax.Array, ...]:
    """y[t] = decay · y[t−1] + e[t] by each variable, of what neurons hand on."""
    pairs = zip(before, step.eligibilities[MESSAGE], strict=True)
    return tuple(decay * old + eligibility for old, eligibility in pairs)


class ReadoutTraces(NamedTuple):
    """A leaky readout o, do/dw by each weight that drives it, and (do/dλ, dΛ/dλ) of a learned decay."""

    readout: ReadoutState
    traces: tuple[jax.Array, ...]
    leak: tuple[jax.Array, ...]

    @classmethod
    def start(cls, current: Driven, decay: Any) -> "ReadoutTraces":
        """Before the first of such currents."""
        zeros = wide_zeros(current.value)
        traces = tuple(wide_zeros(source.slopes) for source in current.sources)
        return cls(ReadoutState.start(current.value, decay), traces, (zeros,) * (2 * isinstance(decay, jax.Array)))

    def advanced(self, current: Driven, decay: Any) -> tuple["ReadoutTraces", jax.Array]:
        """(that of the next step, o[t]), both constants: o[t] = o[t−1] + (I[t] − o[t−1]) / Λ[t]."""
        value, slopes, decay = jax.lax.stop_gradient((current.value, [s.slopes for s in current.sources], decay))
        after, output = spiking_readout(self.readout, value, decay)
        pairs = zip(self.traces, slopes, strict=True)
        traces = tuple(trace + (slope - trace) / after.gain.of(trace) for trace, slope in pairs)
        leak: tuple[jax.Array, ...] = ()
        if self.leak:
            by_decay, of_gain = self.leak
            gain, change = after.gain.of(value), value - self.readout.mean
            of_gain = self.readout.gain.of(value) + decay * of_gain
            leak = (by_decay - by_decay / gain - change * of_gain / gain**2, of_gain)
        return jax.lax.stop_gradient((ReadoutTraces(after, traces, leak), output))


def _sources(function: SynapseFn, weights: list[jax.Array], xs: list[jax.Array]) -> Iterator[Source]:
    """The weights that drive one neuron each; where they drive several, the rule is refused by the layer's name."""
    if not weights:
        return
    axes = owner_axes(function, weights, xs)
    known = [axis for axis in axes if axis is not None]
    if len(known) < len(axes):
        return
    slopes = slopes_of(function, *jax.lax.stop_gradient((weights, xs)), known)
    for weight, slope, axis in zip(weights, slopes, known, strict=True):
        yield Source(jnp.moveaxis(weight, axis, -1), jax.lax.stop_gradient(slope))
