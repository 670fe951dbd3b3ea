"""Propagation of spikes together with their traces: online training through time (OTTT).

With δ[t] the error at a synapse's output at step t, found by spatial back-propagation only (Xiao et al., "Online
training through time for spiking neural networks", 2022, Sec. 4), a synapse I = W s + b has the gradients

    dW = Σ_t δ[t] ⊗ a[t],   db = Σ_t Λ[t] δ[t],   e[t] = Wᵀ δ[t],   a[t] = λ a[t−1] + s[t]

that is: forward f(w, s), error through f at s, weight gradient through w ↦ Λ f(w, a/Λ). As a custom VJP this costs one
forward product; the trace needs none.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.messages import Traced
from safjax.neurons import LIFCell, gain_step
from safjax.precision import wide_dtype, wide_zeros, widened
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import only_lif
from safjax.rules.spikes import height, spiking_readout


class TracedState(NamedTuple):
    """Membrane m, trace a of the neuron's own spikes, gain Λ."""

    membrane: jax.Array
    trace: jax.Array
    gain: jax.Array


class InputState(NamedTuple):
    """Trace of the input, a scalar zero where the input is static and needs none, and gain Λ."""

    trace: jax.Array
    gain: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def traced_synapse(
    function: SynapseFn, trace_bias: bool, weights: Any, value: jax.Array, trace: jax.Array, gain: jax.Array
) -> jax.Array:
    """f(w, s), whose weight gradient is taken at the trace: of w ↦ Λ f(w, a/Λ), or of w ↦ f(w, a) without bias trace.

    Args:
      function: f(w, x), affine in x.
      trace_bias: whether additive weights gather Λ δ (exact) or δ (as in the published OTTT code).
      weights: w, any pytree.
      value: s[t], [B, ...].
      trace: a[t], same shape; a constant of differentiation.
      gain: Λ[t], a scalar.
    """
    del trace_bias, trace, gain
    return function(weights, value)


def _traced_forward(function, trace_bias, weights, value, trace, gain):
    return traced_synapse(function, trace_bias, weights, value, trace, gain), (weights, value, trace, gain)


def _traced_backward(function, trace_bias, residuals, error):
    weights, value, trace, gain = residuals
    _, to_input = jax.vjp(lambda x: function(weights, x), value)
    at, scale = (trace / gain, gain) if trace_bias else (trace, 1)
    _, to_weights = jax.vjp(lambda w: function(w, at), weights)
    return (
        *to_weights((scale * error).astype(error.dtype)),
        *to_input(error),
        jnp.zeros_like(trace),
        jnp.zeros_like(gain),
    )


traced_synapse.defvjp(_traced_forward, _traced_backward)


@jax.custom_vjp
def scale_error(x: jax.Array, gain: jax.Array) -> jax.Array:
    """x forward; Λ times the incoming error backward."""
    del gain
    return x


scale_error.defvjp(
    lambda x, gain: (x, gain), lambda gain, error: ((gain * error).astype(error.dtype), jnp.zeros_like(gain))
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Presented(Traced):
    """A static image at one step. Its trace Λ x is the image times a number, and so is every gradient it causes."""

    image: jax.Array

    @classmethod
    def at(cls, image: jax.Array, gain: jax.Array) -> "Presented":
        """The image at the step of gain Λ."""
        return cls(scale_error(image, gain), gain * image, gain, image)

    @property
    def peers(self):
        return Traced

    def map_linear(self, function, *others):
        if all(isinstance(other, Presented) for other in others):
            return Presented.at(function(self.image, *(o.image for o in others)), self.gain)
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
    whole_sequence = False

    def refusal(self, cell: Any, current: Traced, course: Course) -> str | None:
        del current, course
        return only_lif(cell)

    def follows(self, course: Course) -> bool:
        # A trace is a constant; only as a multiple of one image does its gradient stand. An untraced input has it all.
        return not self.trace_input or (course.static and self.trace_bias)

    def encode(self, state: InputState | None, x: jax.Array, course: Course) -> tuple[InputState, Traced]:
        decay, static = course.decay, course.static
        if state is None:
            zero = jnp.zeros((), wide_dtype(x))
            state = InputState(zero if static else wide_zeros(x), zero)
        gain = gain_step(state.gain, decay)
        if static and self.trace_input == self.trace_bias:
            factor = gain if self.trace_input else jnp.ones_like(gain)
            return InputState(state.trace, gain), Presented.at(x, factor)
        trace = gain * x if static else decay * state.trace + x
        kept = state.trace if static else trace
        return InputState(kept, gain), Traced(x, trace if self.trace_input else x, gain)

    def synapse(self, function: SynapseFn, weights: Any, message: Traced) -> Traced:
        if isinstance(message, Presented):
            value = function(weights, message.image)
            return Traced(scale_error(value, message.gain), message.gain * value, message.gain)
        stopped = jax.lax.stop_gradient((weights, message.trace, message.gain))
        frozen_weights, trace, gain = stopped
        value = traced_synapse(function, self.trace_bias, weights, message.value, trace, gain)
        # The trace of the current. Where no synapse follows before the next neuron it is unused, and the compiler
        # drops its product.
        at, scale = (trace / gain, gain) if self.trace_bias else (trace, 1)
        return Traced(value, scale * function(frozen_weights, at), gain)

    def start(self, current: Traced, cell: LIFCell) -> TracedState:
        zeros = wide_zeros(current.value)
        return TracedState(zeros, zeros, jnp.zeros((), zeros.dtype))

    def neuron(self, state: TracedState, current: Traced, cell: LIFCell) -> Fired:
        value = current.value
        membrane, spikes = cell.step(state.membrane, value + _past_resets(state, cell))
        trace = cell.decay * state.trace + jax.lax.stop_gradient(spikes)
        gain = gain_step(state.gain, cell.decay)
        message, drop = Traced(spikes, trace, gain), height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        return Fired(TracedState(membrane, trace, gain), message, spikes)

    def recall(self, state: Traced, decay: float) -> Traced:
        return Traced(state.value, state.trace, gain_step(state.gain, decay))

    def keep(self, state: Any, message: Traced, decay: float) -> Traced:
        del state, decay
        return Traced(message.value, message.trace, message.gain)

    def leaky_readout(self, state: Any, current: Traced, decay: float) -> tuple[Any, jax.Array]:
        return spiking_readout(state, current.value, decay)

    def instant_readout(self, state: Any, current: Traced, decay: float) -> tuple[Any, jax.Array]:
        del decay
        return state, widened(current.value)


def _past_resets(state: TracedState, cell: LIFCell) -> jax.Array | float:
    """Zero, with the gradient −λ a[t−1] for a learned ρθ: the trace of the resets, du[t]/dρθ = −Σ λ^{t−τ} s[τ]."""
    if not isinstance(cell.drop, jax.Array):
        return 0.0
    return -cell.decay * state.trace * (cell.drop - jax.lax.stop_gradient(cell.drop))
