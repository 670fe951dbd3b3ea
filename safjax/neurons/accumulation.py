"""The LIF neuron followed by its accumulated spikes instead of its membrane, and readouts.

`accumulation_step` follows only the running sum of the neuron's own spikes, a[t] = λ a[t−1] + s[t], and is fed with the
input's running sum instead of the input: spike accumulation forwarding (SAF, Saiin et al., arXiv 2310.02772). It fires
the spikes of `LIFCell`.
"""

import jax
import jax.numpy as jnp

from safjax.held import held
from safjax.neurons.cells import LIFCell
from safjax.neurons.resets import Number
from safjax.precision import widened
from safjax.standing_in import with_gradient_of


def gain_step(gain: jax.Array, decay: float | jax.Array) -> jax.Array:
    """Λ[t] = λ Λ[t−1] + 1: the weighted number of steps so far, Σ λᵏ."""
    return decay * gain + 1


def accumulation_step(
    accumulation: jax.Array, gain: jax.Array, potential: jax.Array, cell: LIFCell
) -> tuple[jax.Array, jax.Array]:
    """The LIF neuron, driven by accumulated input (SAF, arXiv 2310.02772, Sec. 4.1).

        s[t] = H(Λ[t] v[t] − ρθ λ a[t−1] − θ),   a[t] = λ a[t−1] + s[t]

    Λ v − ρθ λ a[t−1] is the membrane potential u[t] of `LIFCell`, so both fire alike. Where u meets θ exactly, as it
    does for events, pooled spikes and weights that are sums of powers of two, rounding of Λ (a / Λ) would take the
    spike away; so u is compared with θ less the `slack` that rounding may have taken.

    Args:
      accumulation: a[t−1], the neuron's own weighted spike count.
      gain: Λ[t].
      potential: v[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t], the weighted mean current, in the number format it came in; the
        cell's `decay_input` is applied to it here.
      cell: λ, θ, ρ and the spike function; without floor, and not reset to a value.

    Returns:
      (a[t], s[t]).
    """
    kept = cell.decay * jax.lax.stop_gradient(accumulation)
    lost = jax.lax.stop_gradient(slack(potential, gain, cell))
    membrane = gain * widened(cell.driven(potential)) - cell.drop * kept + lost
    # The slope is taken of the membrane as it lies in memory: made again of a[t−1], that would have to be copied first.
    spikes = with_gradient_of(cell.fire(membrane), cell.fire(held(membrane)))
    return kept + spikes, spikes


def resolution(dtype: jnp.dtype, decay: Number) -> float:
    """The rounding error of a potential Λ v that meets the threshold, as a part of Λ θ.

    ε/2 of a narrow format (bfloat16), in which rate and current are rounded once each while products add up in
    float32; and of the wide one 2 ε, or 6 ε without leak, where many more potentials meet the threshold. Of 5.2 million
    spikes for each λ (events, pooled events, events times whole quarters and eighths, generic weights; T = 200,
    float32) 498 are wrong at λ = 1 with 2 ε and 12 with 6 ε; 4, 4 and 25 at λ = 0.75, 0.9, 0.97 with 2 ε. A larger
    margin there adds spikes just below the threshold.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    rounded = wide != dtype and jnp.issubdtype(dtype, jnp.inexact)
    narrow = float(jnp.finfo(dtype).eps) / 2 if rounded else 0.0
    without_leak = isinstance(decay, int | float) and decay == 1
    return narrow + (6 if without_leak else 2) * float(jnp.finfo(wide).eps)


def slack(potential: jax.Array, gain: jax.Array, cell: LIFCell) -> jax.Array:
    """What rounding may have taken from Λ v where it meets the threshold: resolution · Λ · max(|v|, θ)."""
    part = resolution(potential.dtype, cell.decay)
    return part * gain * jnp.maximum(jnp.abs(widened(cell.driven(potential))), cell.threshold)


def leaky_readout_step(
    mean: jax.Array, lost: jax.Array, gain: jax.Array, current: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A membrane that never fires, read as a weighted mean of its current, which is all that is kept of it.

        o[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t] = o[t−1] + (I[t] − o[t−1]) / Λ[t]

    The sum itself would grow without bound where λ = 1, and in float32 soon no longer change by what is added to it.
    What is added to the mean grows small instead, so what rounding takes of it is added to the next (Kahan, "Further
    remarks on reducing truncation errors", 1965). Relative errors in float32, λ = 1, currents of two values, after 10⁶
    and 10⁷ steps: 6e-3 and 9e-2 of the sum, 5e-4 and 3e-2 of the mean, 4e-8 and 3e-8 of the mean with what was lost.

    Args:
      mean: o[t−1]; 0 at the start.
      lost: what rounding has added to o[t−1]; 0 at the start.
      gain: Λ[t].
      current: I[t].

    Returns:
      (o[t], what rounding has added to it).
    """
    added = (current - mean) / gain - lost
    after = mean + added
    return after, jax.lax.stop_gradient((after - mean) - added)
