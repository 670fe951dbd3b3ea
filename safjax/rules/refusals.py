"""Which neurons a rule is defined for."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from safjax.neurons import CurrentCell, LIFCell
from safjax.neurons.accumulation import resolution
from safjax.rules.propagation import Course

MOST_ROUNDING = 1 / 8
"""How far, in thresholds, rounding may move a potential that is the difference of two sums over time."""

_ANY = (
    "train this net with bptt() or sltt(), which take any neuron that goes step by step, or with bptt(layerwise=True), "
    "which takes any without feedback"
)


def only_lif(cell: Any) -> str | None:
    """Rules that accumulate follow Σ λᵏ s, which is the neuron's whole memory for `LIFCell` without a floor only."""
    # Not isinstance: a cell derived from it may step otherwise.
    if type(cell) is not LIFCell:
        return (
            "sums spikes over time with the membrane's decay, which is the whole memory of LIF and IF neurons only; "
            f"use those, or {_ANY}"
        )
    if cell.floor is not None:
        return (
            "sums spikes over time, but a membrane with a floor forgets what lies below it, so no such sum follows it; "
            f"write floor=None, or {_ANY}"
        )
    return None


def only_closed_form(cell: Any) -> str | None:
    """The closed form is a scalar recurrence for each neuron."""
    if hasattr(cell, "fire_sequence") or type(cell) in (LIFCell, CurrentCell):
        return None
    return (
        "has its gradient in closed form for LIF, IF, PLIF and CurrentLIF only, whose memory is one number behind a "
        "linear filter; use those, or train this net with bptt(layerwise=True), which takes any neuron"
    )


def lost_in_rounding(current: jax.Array, course: Course) -> str | None:
    """A potential that is a difference of sums over time has their rounding error, which grows with Λ[T]."""
    decay, steps = course.decay, course.steps
    gain = steps if decay == 1 else (1 - decay**steps) / (1 - decay)
    error = resolution(current.dtype, decay) * gain
    if error <= MOST_ROUNDING:
        return None
    wider = "" if current.dtype.itemsize >= 4 else "let the synapses before it compute in float32 (dtype=jnp.float32), "
    return (
        f"sums spikes over time, here {gain:.4g} at most (decay {decay}, {steps} steps), and in {current.dtype} the "
        f"rounding of such a sum moves the potential by up to {error:.2g} thresholds; {wider}take a smaller decay or "
        "fewer steps, or train this net with ottt_a() or ottt_o(), which follow the membrane itself"
    )


def not_again(rule: str, results: Any) -> Any:
    """The results of a rule that accumulates, as they are, but not to be differentiated.

    What such a rule holds constant in its gradient, traces and sums, depends on parameters and input all the same. A
    derivative of its gradient, or of its loss, would need just that.
    """
    real = functools.partial(_not_again, rule)
    return jax.tree.map(lambda x: real(x) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x, results)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _not_again(rule: str, x: jax.Array) -> jax.Array:
    del rule
    return x


@_not_again.defjvp
def _refused(rule, primals, tangents):
    raise TypeError(
        f"What the rule '{rule}' returned was differentiated by JAX, but this rule's gradient takes sums over time for "
        "constants, so a derivative of it, or of the loss with respect to the input, would lack what they depend on. "
        "Use bptt() or sltt(), whose second derivatives are exact; or, where no derivative is meant, give "
        "the rule what has none: jax.lax.stop_gradient((net, x))."
    )
