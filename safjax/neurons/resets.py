"""What a spike does to the membrane: subtract from it, set it to a value, or nothing."""

import dataclasses
import functools
from numbers import Real
from typing import Any

import jax

Number = float | jax.Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class ResetTo:
    """A spike sets the membrane to a value: m[t] = (1 − s[t]) u[t] + s[t] v.

    What a spike subtracts is remembered by the sum of all spikes; a value that the membrane is set to is not, for it
    forgets by how much u was above the threshold. So rules that accumulate spikes cannot have it.

    Attributes:
      value: v, below the threshold. A number, or an array that broadcasts to a sample; in a layer an `nnx.Variable` of
        such, which is learned if it is an `nnx.Param`.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, ResetTo
      >>> net = nnx.Sequential(LIF(decay=0.5, reset=ResetTo(0.0)), LeakyReadout())
      >>> run = safjax.simulate(net, jnp.array([[1.6]]), steps=3, record=("potential",))
      >>> run.records["potential"]["layers.0"].ravel().tolist()
      [1.600000023841858, 1.600000023841858, 1.600000023841858]
    """

    value: Number


Reset = float | ResetTo | None
"""ρ, what a spike subtracts in units of the threshold; the value that it sets the membrane to; or None, no reset."""


def released(reset: Reset, threshold: Number) -> Any:
    """What `after_spikes` takes: ρθ, which a spike subtracts, or a `ResetTo`."""
    if isinstance(reset, ResetTo):
        return reset
    return 0.0 if reset is None else reset * threshold


def after_spikes(potential: jax.Array, spikes: jax.Array, release: Any) -> jax.Array:
    """m[t] from u[t] and s[t]: u − ρθ s, or (1 − s) u + s v."""
    if isinstance(release, ResetTo):
        return (1 - spikes) * potential + spikes * release.value
    return potential - release * spikes


def slope_after_spikes(potential: jax.Array, spikes: jax.Array, slope: Any, release: Any) -> Any:
    """dm/du of `after_spikes`, where ds/du is `slope`: 1 − ρθ σ, or 1 − s − (u − v) σ."""
    if isinstance(release, ResetTo):
        return 1 - spikes - (potential - release.value) * slope
    return 1 - release * slope


def check_reset(owner: str, reset: Reset, threshold: Any, max_spikes: int | None = 1, scaled: bool = False) -> None:
    """Refuses a reset that goes with no other choice of the neuron.

    Raises:
      ValueError: a value that is not below the threshold, or goes with several spikes a step; spikes of the height of
        what they subtract, where they subtract nothing.
    """
    if isinstance(reset, ResetTo) and max_spikes != 1:
        raise ValueError(
            f"{owner}(reset={reset}, max_spikes={max_spikes}): a spike that sets the membrane to a value leaves "
            "nothing for a second one in the same step. Write max_spikes=1, or reset=1.0, which subtracts the "
            "threshold for each spike."
        )
    if scaled and (reset is None or isinstance(reset, ResetTo)):
        raise ValueError(
            f"{owner}(reset={reset}, scaled=True): scaled spikes have the height of what they subtract from the "
            "membrane, and with this reset they subtract nothing. Write scaled=False, or a number as reset, such as "
            "1.0."
        )
    value = reset.value if isinstance(reset, ResetTo) else None
    if isinstance(value, Real) and isinstance(threshold, Real) and value >= threshold:
        raise ValueError(
            f"{owner}(threshold={threshold}, reset={reset}): a membrane that is set to its threshold, or above it, "
            "fires for ever. The value of a reset lies below the threshold; the usual one is 0.0."
        )


def check_decay_input(owner: str, decay: Any, decay_input: bool) -> None:
    """Refuses a current that would be multiplied by 1 − λ = 0.

    Raises:
      ValueError: λ is the number 1.
    """
    if decay_input and isinstance(decay, Real) and decay == 1:
        raise ValueError(
            f"{owner}(decay=1.0, decay_input=True): without leak a decayed input is 1 − λ = 0 times the current, so "
            "that these neurons would never fire. Write decay_input=False, or a decay below 1."
        )
