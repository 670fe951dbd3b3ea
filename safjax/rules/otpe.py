"""Propagation of Approx-OTPE: traces of traces, and mean slopes, for what spikes do through the next membrane.

Online training with postsynaptic estimates (Summe, Schaefer & Joshi, "Estimating post-synaptic effects for online
training of feed-forward SNNs", arXiv 2311.16151). A layer's past spikes still act through the
membrane behind it, which forgets them with λ. With g[t] the error at the spikes, x a synapse's input and σ the slope of
the neurons behind it, its approximation of rank one is

    a[t] = λ a[t−1] + x[t],   z[t] = λ z[t−1] + a[t],   σ̄[t] = (Σ_{τ≤t} λ^{t−τ} σ[τ]) / Λ[t]
    dW = Σ_t (σ̄ g)[t] ⊗ z[t],   db = Σ_t (σ̄ g)[t],   e[t] = Wᵀ (σ̄ g)[t]         where the spikes go on to a membrane
    dW = Σ_t (σ g)[t] ⊗ a[t],   db = Σ_t (σ g)[t],   e[t] = Wᵀ (σ g)[t]         where the loss of step t reads them

So spikes have two passes, `onward` to membranes and `read` by an instantaneous readout, and currents a port for each of
the traces a and z. A leaky readout is a membrane; its own weights are learned at a, as by OTTT.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.messages import Ported
from safjax.messages.ported import differentiated_as
from safjax.neurons import LIFCell
from safjax.neurons.recording import Pick, recorded
from safjax.precision import wide_zeros
from safjax.rules.ports import PortPropagation, Traces, slope
from safjax.rules.propagation import Course, Fired
from safjax.rules.refusals import exact, longest_trace, only_lif
from safjax.rules.spikes import height


class InputState(NamedTuple):
    """Traces (a, z) of an input, and gain Λ."""

    traces: Traces
    gain: Gain


class OTPEState(NamedTuple):
    """Membrane m, traces (a, z) of the neuron's own spikes, sum Λ σ̄ of its slopes, and gain Λ."""

    membrane: jax.Array
    traces: Traces
    slopes: jax.Array
    gain: Gain


@dataclasses.dataclass(frozen=True)
class ApproxOTPEPropagation(PortPropagation):
    """Passes `onward` and `read`, traces a and z."""

    passes = ("onward", "read")
    traces = ("a", "z")
    leaky = ("onward", "a")
    instant = ("read", "a")
    one_decay = True
    learns_neurons = False

    @property
    def inference(self) -> "ApproxOTPEPropagation":
        return self

    @property
    def refuses_as(self) -> "ApproxOTPEPropagation":
        return self

    def longest(self, decay: Any, dtype: jnp.dtype) -> float | None:
        return longest_trace(decay, dtype)

    def refusal(self, cell: Any, current: Ported, course: Course) -> str | None:
        del current, course
        return only_lif(cell)

    def encode(self, state: InputState | None, x: jax.Array, course: Course) -> tuple[InputState, Ported]:
        state = InputState((wide_zeros(x),) * 2, Gain.start(x)) if state is None else state
        gain = state.gain.step(course.decay)
        traces = self._advanced(state.traces, x, gain, course.decay)
        return InputState(traces, gain), self.message(x, traces)

    def _advanced(self, traces: Traces, x: jax.Array, gain: Gain, decay: Any) -> Traces:
        a = decay * traces[0] + jax.lax.stop_gradient(x)
        a = exact(a, gain, self.longest(decay, a.dtype))
        return a, decay * traces[1] + a

    def start(self, current: Ported, cell: LIFCell, course: Course) -> OTPEState:
        del cell, course
        zeros = wide_zeros(current.value)
        return OTPEState(zeros, (zeros, zeros), zeros, Gain.start(zeros))

    def neuron(self, state: OTPEState, current: Ported, cell: LIFCell, pick: Pick | None = None) -> Fired:
        now, gain = current.read("onward", "a"), state.gain.step(cell.decay)
        membrane, spikes = cell.step(state.membrane, now)
        slopes = cell.decay * state.slopes + slope(cell, state.membrane, current.value)
        onward = differentiated_as(spikes, slopes / gain.of(slopes) * current.read("onward", "z"))
        traces = self._advanced(state.traces, spikes, gain, cell.decay)
        message, drop = self.message(spikes, traces, onward=onward, read=spikes), height(cell)
        if drop is not None:
            message = self.synapse(lambda drop, x: drop * x, drop, message)
        records = recorded(pick, cell, state.membrane, now, membrane, spikes)
        return Fired(OTPEState(membrane, traces, slopes, gain), message, spikes, records)

    def unlearned(self, record: str) -> str | None:
        if record != "current":
            return None
        return (
            "gives weights the gradient of all that their synapse has passed on until now, which moves the potential, "
            "but not the current of this step; take 'potential'"
        )
