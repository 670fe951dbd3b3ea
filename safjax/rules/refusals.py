"""Which neurons a rule is defined for."""

import functools
import math
from numbers import Real
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.neurons import AdaptiveCell, CurrentCell, LIFCell, RefractoryCell, ResetTo
from safjax.neurons.accumulation import resolution
from safjax.rules.propagation import Course

MOST_ROUNDING = 1 / 8
"""How far, in thresholds, rounding may move a potential that is the difference of two sums over time."""


def only_lif(cell: Any, clamp: bool = False) -> str | None:
    """Rules that accumulate follow Σ λᵏ s: the whole memory of `LIFCell` without floor or value of reset only.

    Args:
      cell: the neurons.
      clamp: whether the gradient is that of the rate's limit, which is there only where a spike subtracts something.
    """
    # Not isinstance: a cell derived from it may step otherwise.
    if type(cell) is not LIFCell:
        return (
            "sums spikes over time with the membrane's decay, which is the whole memory of LIF and IF neurons only; "
            "use those"
        )
    if cell.floor is not None:
        return (
            "sums spikes over time, but a membrane with a floor forgets what lies below it, so no such sum follows it; "
            "write floor=None"
        )
    if isinstance(cell.reset, ResetTo):
        return (
            "sums spikes over time, but a membrane that spikes set to a value forgets by how much it was above its "
            "threshold, so no such sum follows it; write reset=1.0, which subtracts the threshold"
        )
    if clamp and cell.reset is None:
        return (
            "takes the gradient of the limit of a neuron's rate, which comes of what spikes subtract, but without "
            "reset they subtract nothing; write reset=1.0, which subtracts the threshold"
        )
    return None


def only_apart(cell: Any) -> str | None:
    """Rules that keep a derivative of each neuron's own memory need neurons that do not see one another."""
    own = cell.cell if type(cell) is RefractoryCell else cell
    if type(own) in (LIFCell, CurrentCell, AdaptiveCell):
        return None
    return (
        "keeps the derivatives of each neuron's own memory by its weights, and knows those of LIF, IF, PLIF, "
        "CurrentLIF and ALIF, also with a refractory period; use those"
    )


def only_mean(cell: Any, course: Course) -> str | None:
    """Rules of mean rates follow how a membrane answers to a constant current, over a sequence from its start."""
    if type(cell) is not LIFCell:
        return "is defined for LIF and IF neurons, whose mean rate answers to their mean current; use those"
    if course.open:
        return (
            "takes means over all steps of a sequence, from its start to its end; give it whole sequences, without "
            "state"
        )
    return None


def only_single(cell: Any) -> str | None:
    """Rules that take the slope of each neuron need neurons that do not see one another."""
    if type(getattr(cell, "cell", cell)) in (LIFCell, CurrentCell, AdaptiveCell):
        return None
    return (
        "keeps a trace of the slope of each neuron by itself; use LIF, IF, CurrentLIF or ALIF, which may be Refractory"
    )


def only_closed_form(cell: Any) -> str | None:
    """The closed form is a scalar recurrence for each neuron."""
    if hasattr(cell, "fire_sequence") or type(cell) in (LIFCell, CurrentCell):
        return None
    return (
        "has its gradient in closed form for LIF, IF, PLIF and CurrentLIF only, whose memory is one number behind a "
        "linear filter; use those"
    )


def longest_gain(decay: float, dtype: jnp.dtype) -> float:
    """The gain at which rounding moves a potential that is a difference of sums over time by `MOST_ROUNDING`."""
    return MOST_ROUNDING / resolution(dtype, decay)


def lost_in_rounding(cell: Any, current: jax.Array, course: Course) -> str | None:
    """A potential that is a difference of sums over time has their rounding error, which grows with Λ[T]."""
    decays = [decay for decay in (getattr(cell, "decay", None), course.decay) if isinstance(decay, Real)]
    if not decays:
        return None
    decay, steps, narrow = float(max(decays)), course.steps, current.dtype.itemsize < 4
    longest = longest_gain(decay, current.dtype)
    if course.open and decay == 1:
        # How long it will go on is not known; `exact` watches the gain, but not those of single layers.
        gain, length = (math.inf if narrow else 0.0), "any number of steps"
    elif course.open:
        gain, length = 1 / (1 - decay), "any number of steps"
    else:
        gain, length = (steps if decay == 1 else (1 - decay**steps) / (1 - decay)), f"{steps} steps"
    if gain <= longest:
        return None
    wider = "let the synapses before it compute in float32 (dtype=jnp.float32), " if narrow else ""
    return (
        f"sums spikes over time, here {gain:.4g} at most (decay {decay}, {length}), and in {current.dtype} the "
        f"rounding of such a sum moves the potential by up to {gain / longest * MOST_ROUNDING:.2g} thresholds; {wider}"
        "take a smaller decay or fewer steps"
    )


def longest_trace(decay: Any, dtype: jnp.dtype) -> float | None:
    """The gain from which on a sum of spikes no longer changes by the 1 that a spike adds; None with a leak."""
    return 1 / float(jnp.finfo(dtype).eps) if isinstance(decay, float) and decay == 1 else None


def exact(sums: jax.Array, gain: Gain, longest: float | None) -> jax.Array:
    """Sums over time as long as they are exact; not a number for members whose gain has become larger than that.

    Where no value can be looked at, inside a compiled loop, a wrong number is to be seen; `safjax.nn.carrying` refuses
    such a state by words where it can.
    """
    return sums if longest is None else jnp.where(gain.of(sums) > longest, jnp.nan, sums)


SUMS = (
    "this rule's gradient takes sums over time, or times of spikes, for constants, so a derivative of it, or of the "
    "loss with respect to the input, would lack what they depend on. Use bptt() or sltt(), whose second derivatives "
    "are exact"
)
SEGMENTS = (
    "in segments it computes gradients layer by layer within a loop over time, through which JAX carries no derivative "
    "of them. Leave segments out, or use bptt(segments=K)"
)


def not_again(rule: str, why: str, results: Any) -> Any:
    """The results of a rule as they are, but not to be differentiated.

    What a rule that accumulates holds constant in its gradient, traces and sums, depends on parameters and input all
    the same. A derivative of its gradient, or of its loss, would need just that.

    Args:
      rule: its name.
      why: `SUMS` or `SEGMENTS`.
    """
    real = functools.partial(_not_again, rule, why)
    return jax.tree.map(lambda x: real(x) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x, results)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _not_again(rule: str, why: str, x: jax.Array) -> jax.Array:
    del rule, why
    return x


@_not_again.defjvp
def _refused(rule: str, why: str, primals: Any, tangents: Any) -> NoReturn:
    raise TypeError(
        f"What the rule '{rule}' returned was differentiated by JAX, but {why}; or, where no derivative is meant, give "
        "the rule what has none: jax.lax.stop_gradient((net, x))."
    )
