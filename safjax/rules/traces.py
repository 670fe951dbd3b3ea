"""Propagation of spikes together with their traces: online training through time (OTTT).

With δ[t] the error at a synapse's output at step t, found by spatial back-propagation only (Xiao et al., "Online
training through time for spiking neural networks", 2022, Sec. 4), a synapse I = W s + b has the gradients

    dW = Σ_t δ[t] ⊗ a[t],   db = Σ_t Λ[t] δ[t],   e[t] = Wᵀ δ[t],   a[t] = λ a[t−1] + s[t]

that is: forward f(w, s), error through f at s, weight gradient through w ↦ Λ f(w, a/Λ). As a custom VJP this costs one
forward product; the trace needs none. Of several inputs, s and a are those of each, and f is affine in all of them
together: Λ f(w, a₁/Λ, a₂/Λ) is then the sum over time of f(w, s₁, s₂).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.messages import Traced
from safjax.neurons import LIFCell
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_zeros, widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import exact, longest_trace, only_lif
from safjax.rules.spikes import height, spiking_readout


class TracedState(NamedTuple):
    """Membrane m, trace a of the neuron's own spikes, gain Λ."""

    membrane: jax.Array
    trace: jax.Array
    gain: Gain


class InputState(NamedTuple):
    """Trace of the input, None where the input is static and needs none, and gain Λ."""

    trace: jax.Array | None
    gain: Gain


Arrays = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def traced_synapse(
    function: SynapseFn, trace_bias: bool, weights: Any, values: Arrays, traces: Arrays, gain: Gain
) -> jax.Array:
    """f(w, *s), whose weight gradient is taken at the traces: of w ↦ Λ f(w, *a/Λ), or w ↦ f(w, *a) without bias trace.

    Args:
      function: f(w, *x), affine in all x together.
      trace_bias: whether additive weights gather Λ δ (exact) or δ (as in the published OTTT code).
      weights: w, any pytree.
      values: s[t] of each input, [B, ...].
      traces: a[t] of each, same shapes; constants of differentiation.
      gain: Λ[t].
    """
    del trace_bias, traces, gain
    return function(weights, *values)


def _traced_forward(
    function: SynapseFn, trace_bias: bool, weights: Any, values: Arrays, traces: Arrays, gain: Gain
) -> tuple[jax.Array, tuple[Any, Arrays, Arrays, Gain]]:
    return traced_synapse(function, trace_bias, weights, values, traces, gain), (weights, values, traces, gain)


def _traced_backward(
    function: SynapseFn, trace_bias: bool, residuals: tuple[Any, Arrays, Arrays, Gain], error: jax.Array
) -> tuple[Any, ...]:
    weights, values, traces, gain = residuals
    _, to_inputs = jax.vjp(lambda xs: function(weights, *xs), values)
    at, scale = (over(traces, gain), gain.of(error)) if trace_bias else (traces, 1)
    _, to_weights = jax.vjp(lambda w: function(w, *at), weights)
    nothing = jax.tree.map(jnp.zeros_like, (traces, gain))
    return *to_weights((scale * error).astype(error.dtype)), *to_inputs(error), *nothing


def over(traces: Arrays, gain: Gain) -> Arrays:
    """a / Λ of each."""
    return tuple(trace / gain.of(trace) for trace in traces)


traced_synapse.defvjp(_traced_forward, _traced_backward)


@jax.custom_vjp
def scale_error(x: jax.Array, gain: Gain) -> jax.Array:
    """x forward; Λ times the incoming error backward."""
    del gain
    return x


scale_error.defvjp(
    lambda x, gain: (x, gain),
    lambda gain, error: ((gain.of(error) * error).astype(error.dtype), jax.tree.map(jnp.zeros_like, gain)),
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Presented(Traced):
    """A static image at one step. Its trace Λ x is the image times a number, and so is every gradient it causes."""

    image: jax.Array

    @classmethod
    def at(cls, image: jax.Array, gain: Gain) -> "Presented":
        """The image at the step of gain Λ."""
        return cls(scale_error(image, gain), gain.of(image) * image, gain, image)

    @property
    def peers(self) -> type:
        return Traced

    def map_linear(self, function: Callable[..., jax.Array], *others: Traced) -> Traced:
        images = [other.image for other in others if isinstance(other, Presented)]
        if len(images) == len(others):
            return Presented.at(function(self.image, *images), self.gain)
        return super().map_linear(function, *others)


@dataclasses.dataclass(frozen=True)
class TracePropagation:
    """Messages are `Traced` pairs; synapses are `traced_synapse`.

    Attributes:
      trace_bias: False gives biases the untraced error, db = Σ δ[t].
      trace_input: False gives the first synapse the untraced input, dW = Σ δ[t] ⊗ x[t].
    """

    trace_bias: bool = True
    trace_input: bool = True
    accumulates = True
    affine = True
    one_decay = True
    per_weight = False
    learns_neurons = True
    recalls = True
    whole_sequence = False
    one_map: ClassVar[str | None] = None

    @property
    def inference(self) -> "TracePropagation":
        return TracePropagation()

    @property
    def refuses_as(self) -> "TracePropagation":
        return self

    def longest(self, decay: Any, dtype: jnp.dtype) -> float | None:
        return longest_trace(decay, dtype)

    def refusal(self, cell: Any, current: Traced, course: Course) -> str | None:
        del current, course
        return only_lif(cell)

    def follows(self, course: Course) -> bool:
        # A trace is a constant; only as a multiple of one image does its gradient stand. An untraced input has it all.
        return not self.trace_input or (course.static and self.trace_bias)

    def encode(self, state: InputState | None, x: jax.Array, course: Course) -> tuple[InputState, Traced]:
        decay, static = course.decay, course.static
        if state is None:
            state = InputState(None if static else wide_zeros(x), Gain.start(x))
        gain = state.gain.step(decay)
        if static and self.trace_input == self.trace_bias:
            factor = gain if self.trace_input else Gain(jnp.ones_like(gain.value), gain.apart)
            return InputState(state.trace, gain), Presented.at(x, factor)
        trace = gain.of(x) * x if state.trace is None else decay * state.trace + x
        if course.open:
            trace = exact(trace, gain, self.longest(decay, trace.dtype))
        kept = state.trace if static else trace
        return InputState(kept, gain), Traced(x, trace if self.trace_input else x, gain)

    def synapse(self, function: SynapseFn, weights: Any, *messages: Traced) -> Traced:
        images = [message.image for message in messages if isinstance(message, Presented)]
        # Those of one step have one gain; only an untraced image's is another, where none is looked at.
        gain = messages[0].gain
        if len(images) == len(messages):
            value = function(weights, *images)
            return Traced(scale_error(value, gain), gain.of(value) * value, gain)
        values, traces = (tuple(parts) for parts in zip(*((m.value, m.trace) for m in messages), strict=True))
        frozen_weights, traces, gain = jax.lax.stop_gradient((weights, traces, gain))
        value = traced_synapse(function, self.trace_bias, weights, values, traces, gain)
        # The trace of the current. Where no synapse follows before the next neuron it is unused, and the compiler
        # drops its product.
        if not self.trace_bias:
            return Traced(value, function(frozen_weights, *traces), gain)
        return Traced(value, gain.of(value) * function(frozen_weights, *over(traces, gain)), gain)

    def start(self, current: Traced, cell: LIFCell, course: Course) -> TracedState:
        del cell, course
        zeros = wide_zeros(current.value)
        return TracedState(zeros, zeros, Gain.start(zeros))

    def neuron(self, state: TracedState, current: Traced, cell: LIFCell, pick: Pick | None = None) -> Fired:
        before = state.membrane + _past_resets(state, cell)
        membrane, spikes = cell.step(before, current.value)
        gain = state.gain.step(cell.decay)
        trace = cell.decay * state.trace + jax.lax.stop_gradient(spikes)
        trace = exact(trace, gain, self.longest(cell.decay, trace.dtype))
        message, drop = Traced(spikes, trace, gain), height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        records = recorded(pick, cell, before, current.value, membrane, spikes)
        return Fired(TracedState(membrane, trace, gain), message, spikes, records)

    def unlearned(self, record: str) -> str | None:
        if record != "current":
            return None
        return (
            "gives weights the gradient of all that their synapse has passed on until now, which moves the potential, "
            "but not the current of this step; take 'potential'"
        )

    def recall(self, state: Traced, decay: float) -> Traced:
        return Traced(state.value, state.trace, state.gain.step(decay))

    def keep(self, state: Any, message: Traced, decay: float) -> Traced:
        del state, decay
        return Traced(message.value, message.trace, message.gain)

    def leaky_readout(self, state: Any, current: Traced, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del course
        return spiking_readout(state, current.value, decay)

    def instant_readout(self, state: Any, current: Traced, decay: float, course: Course) -> tuple[Any, jax.Array]:
        del decay, course
        return state, widened(current.value)


def _past_resets(state: TracedState, cell: LIFCell) -> jax.Array | float:
    """Zero, with the gradient −a[t−1] for a learned ρθ: that of the resets so far, dm[t−1]/dρθ = −Σ λ^{t−1−τ} s[τ]."""
    if not isinstance(cell.drop, jax.Array):
        return 0.0
    return -state.trace * (cell.drop - jax.lax.stop_gradient(cell.drop))
