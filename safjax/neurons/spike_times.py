"""The gradient of spike times (EventProp), on a grid of time steps."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from safjax.neurons.current import CurrentCell
from safjax.neurons.resets import ResetTo
from safjax.precision import widened


class Dynamics(NamedTuple):
    """The numbers of a `CurrentCell` that its equations between spikes are made of.

    Attributes:
      decay, synaptic_decay: λ, α.
      share: c, what of the synaptic current a step adds to the membrane.
      threshold: θ.
      fall: by how much a spike lowers the membrane, θ − v where it sets it to v.
    """

    decay: float
    synaptic_decay: float
    share: float
    threshold: float
    fall: float

    @classmethod
    def of(cls, cell: CurrentCell) -> "Dynamics":
        """Those of a cell whose numbers are Python numbers."""
        lif, reset = cell.lif, cell.lif.reset
        fall = lif.threshold - reset.value if isinstance(reset, ResetTo) else lif.drop
        share = 1 - lif.decay if lif.decay_input else 1.0
        numbers = lif.decay, cell.synaptic_decay, share, lif.threshold, fall
        return cls(*map(float, numbers))

    @property
    def leak(self) -> float:
        """1 − λ: θ times it is what the leak takes from a membrane at its threshold in a step."""
        return 1 - self.decay


def rises_at_spikes(spikes: jax.Array, filtered: jax.Array, dynamics: Dynamics, slowest: float) -> jax.Array:
    """u̇ just before each spike, in a step, c i − (1 − λ) θ, and not less than `slowest` (1 − λ) θ; 0 without spike."""
    rise = dynamics.share * filtered - dynamics.leak * dynamics.threshold
    least = slowest * dynamics.leak * dynamics.threshold
    return jnp.where(spikes > 0, jnp.maximum(rise, least), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_spike_times(dynamics: Dynamics, currents: jax.Array, spikes: jax.Array, rises: jax.Array) -> jax.Array:
    """Spikes whose gradient is that of their times: moved by dt, each changes the loss by what it would at t + dt.

    With g[t] = dL/ds[t], also where there is no spike, the loss changes with the time of a spike at t by ġ[t]. By the
    implicit function theorem dt/du = −1/u̇⁻, u̇⁻ being the slope of the membrane just before the spike and u̇⁺ that after
    its reset; so, with p = dL/du and q = dL/di, backward in time,

        p[t] = λ p[t+1],  and where a spike is  p[t] = (u̇⁺ λ p[t+1] − ġ[t]) / u̇⁻
        q[t] = α q[t+1] + c p[t],    dL/dI[t] = q[t]

    which are λᵤ = −p/τ_m and λ_I = −q/τ_s of Wunderlich & Pehle, "Event-based backpropagation can compute exact
    gradients for spiking neural networks", 2021, Table 1, in steps of time; there ġ is a layer's w (λᵤ − λ_I), which is
    the slope of q. Here it is the mean of the slopes to the step before and to the next, which for a loss that is
    quadratic in a readout with jumps is exact.

    Args:
      dynamics: of the neurons.
      currents: I[T, B, ...].
      spikes: s[T, B, ...] of these currents.
      rises: `rises_at_spikes`.

    Returns:
      The spikes.
    """
    del dynamics, currents, rises
    return spikes


def _forward(
    dynamics: Dynamics, currents: jax.Array, spikes: jax.Array, rises: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Of the currents their format alone.
    return with_spike_times(dynamics, currents, spikes, rises), (rises, jnp.zeros((), currents.dtype))


def _backward(
    dynamics: Dynamics, residuals: tuple[jax.Array, jax.Array], error: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    rises, like = residuals
    moved = _slope_in_time(widened(error))

    def body(
        state: tuple[jax.Array, jax.Array], at: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        after, current = state
        rise, moved = at
        fired = rise > 0
        slope = jnp.where(fired, rise, 1)
        potential = jnp.where(fired, ((rise + dynamics.leak * dynamics.fall) * after - moved) / slope, after)
        current = dynamics.synaptic_decay * current + dynamics.share * potential
        return (dynamics.decay * potential, current), current

    start = jnp.zeros_like(moved[0]), jnp.zeros_like(moved[0])
    errors = jax.lax.scan(body, start, (rises.astype(moved.dtype), moved), reverse=True)[1]
    return errors.astype(like.dtype), jnp.zeros_like(error), jnp.zeros_like(rises)


with_spike_times.defvjp(_forward, _backward)


def _slope_in_time(error: jax.Array) -> jax.Array:
    """(g[t+1] − g[t−1]) / 2, and at both ends the difference to the only neighbour."""
    steps = error[1:] - error[:-1]
    return jnp.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
