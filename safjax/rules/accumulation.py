"""Propagation of accumulated spikes: spike accumulation forwarding (SAF) and spike representation (SR).

Messages are weighted rates r[t] = a[t] / Λ[t] ∈ [0, 1], and an affine synapse maps the rate of its input to the rate of
its current, v[t] = f(r[t]): bias, pooling and sums of streams need no special treatment, and no spike ever travels
(arXiv 2310.02772, Sec. 4.1). A static image is its own rate.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.messages import Rate
from safjax.neurons import Cell, accumulation_step, gain_step
from safjax.rules.propagation import Fired, SynapseFn


class Accumulation(NamedTuple):
    """A running sum and its gain: all the state there is."""

    total: jax.Array
    gain: jax.Array


def _start(like: jax.Array) -> Accumulation:
    return Accumulation(jnp.zeros_like(like), jnp.zeros((), like.dtype))


@jax.custom_vjp
def clamp_rate(rate: jax.Array, potential: jax.Array, threshold: float) -> jax.Array:
    """r forward; backward the slope of the rate's limit, r = clamp(v/θ, 0, 1):  dr/dv = 1[0 < v < θ] / θ.

    Meng et al., "Training high-performance low-latency SNNs by differentiation on spike representation", 2022, Sec. 4.
    """
    del potential, threshold
    return rate


def _clamp_forward(rate, potential, threshold):
    return rate, (potential, threshold)


def _clamp_backward(residuals, error):
    potential, threshold = residuals
    inside = jnp.logical_and(potential > 0, potential < threshold)
    return jnp.zeros_like(error), jnp.where(inside, error / threshold, 0), None


clamp_rate.defvjp(_clamp_forward, _clamp_backward)


@dataclasses.dataclass(frozen=True)
class RatePropagation:
    """Messages are `Rate`s; a synapse is an ordinary function of them.

    Attributes:
      clamp: take the neuron's gradient from `clamp_rate` instead of its surrogate.
    """

    clamp: bool = False
    accumulates = True

    def encode(
        self, state: Accumulation | None, x: jax.Array, decay: float, static: bool
    ) -> tuple[Accumulation | None, Rate]:
        if static:
            return None, Rate(x)
        state = _start(x) if state is None else state
        gain = gain_step(state.gain, decay)
        total = decay * jax.lax.stop_gradient(state.total) + x
        return Accumulation(total, gain), Rate(total / gain)

    def synapse(self, function: SynapseFn, weights: Any, message: Rate) -> Rate:
        return Rate(function(weights, message.value))

    def neuron(self, state: Accumulation | None, current: Rate, cell: Cell) -> Fired:
        potential = current.value
        state = _start(potential) if state is None else state
        gain = gain_step(state.gain, cell.decay)
        total, spikes = accumulation_step(state.total, gain, potential, cell)
        rate = total / gain
        if self.clamp:
            rate = clamp_rate(jax.lax.stop_gradient(rate), potential, cell.threshold)
        return Fired(Accumulation(total, gain), Rate(rate), spikes)

    def leaky_readout(self, state: Any, current: Rate, decay: float) -> tuple[Any, jax.Array]:
        del decay
        return state, current.value

    def instant_readout(
        self, state: Accumulation | None, current: Rate, decay: float
    ) -> tuple[Accumulation, jax.Array]:
        state = _start(current.value) if state is None else state
        gain = gain_step(state.gain, decay)
        total = gain * current.value
        return Accumulation(total, gain), total - decay * jax.lax.stop_gradient(state.total)
