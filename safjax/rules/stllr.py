"""Propagation of S-TLLR: a three-factor rule with a causal and a non-causal trace.

Spatio-temporal local learning rule (Apolinario & Roy, "S-TLLR: STDP-inspired temporal local learning rule for spiking
neural networks", 2025). With x a synapse's input, σ = ds/dI the slope of the neurons behind it, and g the error at
their spikes, which is back-propagated within the step,

    p[t] = λ₊ p[t−1] + x[t],   q[t+1] = λ₋ q[t] + σ[t],   q[1] = 0
    dW = Σ_t α₊ (σ g)[t] ⊗ p[t] + α₋ (q g)[t] ⊗ x[t],   db = Σ_t (σ g)[t],   e[t] = Wᵀ (σ g)[t]

Traces are of what enters weights: what is not affine, a maximum or a product of streams, has none of its own, and the
traces of its result begin anew. So neither one decay nor affine synapses are needed. What an affine synapse gives
without input, f(w, 0), is its bias.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.affine import at_zero
from safjax.messages import Ported
from safjax.messages.ported import differentiated_as
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_zeros
from safjax.rules.ports import PortPropagation, Traces, slope
from safjax.rules.propagation import Course, Fired, SynapseFn
from safjax.rules.refusals import longest_trace, only_single
from safjax.rules.spikes import height


class STLLRState(NamedTuple):
    """The neuron's own state, q, and the traces of its spikes: p, and that of readouts where they have another."""

    neuron: Any
    slopes: jax.Array
    traces: Traces


@dataclasses.dataclass(frozen=True)
class STLLRPropagation(PortPropagation):
    """One pass, `back`; weights take errors at x itself, at the trace p, and of readouts at r.

    Attributes:
      pre_decay: λ₊, of the trace p of a synapse's input.
      post_decay: λ₋, of the trace q of slopes.
      causal: α₊.
      noncausal: α₋.
      readout_decay: of the trace at which the weights of a leaky readout are learned; None takes p.
    """

    pre_decay: float
    post_decay: float
    causal: float
    noncausal: float
    readout_decay: float | None = None
    passes = ("back",)
    instant = ("back", "x")
    one_decay = False
    affine = False
    learns_neurons = False

    def __post_init__(self) -> None:
        decays = {"pre_decay": self.pre_decay, "post_decay": self.post_decay}
        if self.readout_decay is not None:
            decays["readout_decay"] = self.readout_decay
        for name, decay in decays.items():
            if not isinstance(decay, int | float) or not 0 <= decay <= 1:
                raise ValueError(f"stllr({name}={decay!r}): expected the decay of a trace, a number from 0 to 1.")
        for name, factor in {"causal": self.causal, "noncausal": self.noncausal}.items():
            if not isinstance(factor, int | float) or not math.isfinite(factor):
                raise ValueError(f"stllr({name}={factor!r}): expected the factor of a term, a finite number.")

    @property
    def traces(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("x", "p") if self.readout_decay is None else ("x", "p", "r")

    @property
    def leaky(self) -> tuple[str, ...]:  # type: ignore[override]
        return "back", self.traces[-1]

    @property
    def inference(self) -> "STLLRPropagation":
        return dataclasses.replace(self, causal=1.0, noncausal=0.0)

    @property
    def refuses_as(self) -> "STLLRPropagation":
        return STLLRPropagation(0.0, 0.0, 1.0, 0.0)

    def longest(self, decay: Any, dtype: jnp.dtype) -> None:
        del decay, dtype

    def refusal(self, cell: Any, current: Ported, course: Course) -> str | None:
        del current, course
        return only_single(cell)

    def encode(self, state: Traces | None, x: jax.Array, course: Course) -> tuple[Traces, Ported]:
        del course
        traces = self._advanced(state, x)
        return traces, self.message(x, (x, *traces))

    def _advanced(self, traces: Traces | None, x: jax.Array) -> Traces:
        decays = [self.pre_decay] if self.readout_decay is None else [self.pre_decay, self.readout_decay]
        traces = (wide_zeros(x),) * len(decays) if traces is None else traces
        x = jax.lax.stop_gradient(x)
        return tuple(_decayed(trace, decay) + x for trace, decay in zip(traces, decays, strict=True))

    def synapse(self, function: SynapseFn, weights: Any, *messages: Ported) -> Ported:
        made = super().synapse(function, weights, *messages)
        values = tuple(message.value for message in messages)
        additive = at_zero(lambda w, xs: function(w, *xs), weights, values)
        ports = {
            name: differentiated_as(made.value, port + additive if name in self.passes else port - additive)
            for name, port in made.ports.items()
        }
        return Ported.of(ports, made.traces)

    def start(self, current: Ported, cell: Any, course: Course) -> STLLRState:
        del course
        zeros = wide_zeros(current.value)
        return STLLRState(cell.start(current.value), zeros, (zeros,) * (len(self.traces) - 1))

    def neuron(self, state: STLLRState, current: Ported, cell: Any, pick: Pick | None = None) -> Fired:
        now, slopes = current.read("back"), slope(cell, state.neuron, current.value)
        after, spikes = cell.step(state.neuron, now)
        errors = spikes
        for factor, trace, port in ((self.causal, slopes, "p"), (self.noncausal, state.slopes, "x")):
            # A port that is multiplied by zero would still be read.
            errors = errors + factor * trace * current.read(port) if factor else errors
        traces = self._advanced(state.traces, spikes)
        fired = differentiated_as(spikes, errors)
        message, drop = self.message(fired, (spikes, *traces)), height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        records = recorded(pick, cell, state.neuron, now, after, fired)
        later = _decayed(state.slopes, self.post_decay) + slopes
        return Fired(STLLRState(after, later, traces), message, fired, records)

    def unlearned(self, record: str) -> str | None:
        if record == "spikes":
            return None
        return "learns weights from errors of spikes alone; take 'spikes'"


def _decayed(trace: jax.Array, decay: float) -> jax.Array:
    """What remains of a trace; not a number where it has no leak and no longer changes by the 1 that a spike adds."""
    longest = longest_trace(float(decay), trace.dtype)
    return decay * trace if longest is None else jnp.where(jnp.abs(trace) > longest, jnp.nan, trace)
