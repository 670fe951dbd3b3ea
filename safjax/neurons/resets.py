"""What a spike does to the membrane: subtract from it, set it to a value, or nothing."""

import dataclasses
import functools
import math
from numbers import Real
from typing import Any

import jax

Number = float | jax.Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["through"])
@dataclasses.dataclass(frozen=True)
class ResetTo:
    """A spike sets the membrane to a value: m[t] = (1 − s[t]) u[t] + s[t] v.

    What a spike subtracts is remembered by the sum of all spikes; a value that the membrane is set to is not, for it
    forgets by how much u was above the threshold. So rules that accumulate spikes cannot have it.

    Back through time the gradient takes dm/du = 1 − s − (u − v) σ, σ being the slope of the spike; or, where `through`
    is a number κ, 1 − s + κσ instead, which lets the error of later steps reach a neuron that fires. With κ = 0.2 and
    `safjax.surrogate.Reciprocal` this is the spatio-temporal adjustment BP-STA of Shen, Zhao & Zeng, "Backpropagation
    with biologically plausible spatio-temporal adjustment for training deep spiking neural networks", 2022
    (arXiv 2110.08858; κ is that of their code). Rules that detach the reset take 1 − s.

    Attributes:
      value: v, below the threshold. A number, or an array that broadcasts to a sample; in a layer an `nnx.Variable` of
        such, which is learned if it is an `nnx.Param`.
      through: κ, a number, or None.

    Raises:
      ValueError: κ is not a finite number.

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
    through: float | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.through, Real) and not isinstance(self.through, bool)
        if self.through is not None and not (number and math.isfinite(self.through)):
            raise ValueError(
                f"ResetTo(through={self.through!r}): expected a finite Python number κ, with which the slope of a "
                "spike passes the reset back through time, or None for the derivative of the reset itself."
            )


@dataclasses.dataclass(frozen=True)
class AfterDecay:
    """A spike subtracts ρθ from the decayed membrane: u[t+1] = λ u[t] − ρθ s[t] + I[t+1], m[t] = u[t] − (ρθ / λ) s[t].

    So the neurons of snnTorch and Spyx are reset. Where λ is a number the same is written as the number ρ / λ; this is
    for one that is learned.

    Attributes:
      times: ρ > 0, in units of the threshold.
    """

    times: float = 1.0


Reset = Number | ResetTo | AfterDecay | None
"""ρ, what a spike subtracts in thresholds, at once or `AfterDecay`; `ResetTo` a value; or None, no reset."""

SMALLEST_DECAY = 1e-3
"""λ that `AfterDecay` divides by, at the least."""


def released(reset: Reset, threshold: Number, decay: Number) -> Any:
    """What `after_spikes` takes: ρθ or ρθ / λ, which a spike subtracts, or a `ResetTo`."""
    if isinstance(reset, ResetTo):
        return reset
    if isinstance(reset, AfterDecay):
        return reset.times * threshold / decay
    return 0.0 if reset is None else reset * threshold


def after_spikes(potential: jax.Array, spikes: jax.Array, release: Any) -> jax.Array:
    """m[t] from u[t] and s[t]: u − ρθ s, or (1 − s) u + s v."""
    if isinstance(release, ResetTo) and release.through is not None:
        fixed = jax.lax.stop_gradient(spikes)
        # The last term is zero, and there for its derivative alone.
        return (1 - fixed) * potential + fixed * release.value + release.through * (spikes - fixed)
    if isinstance(release, ResetTo):
        return (1 - spikes) * potential + spikes * release.value
    return potential - release * spikes


def slope_after_spikes(potential: jax.Array, spikes: jax.Array, slope: Any, release: Any) -> Any:
    """dm/du of `after_spikes`, where ds/du is `slope`: 1 − ρθ σ, or 1 − s − (u − v) σ, or 1 − s + κσ."""
    if isinstance(release, ResetTo) and release.through is not None:
        return 1 - spikes + release.through * slope
    if isinstance(release, ResetTo):
        return 1 - spikes - (potential - release.value) * slope
    return 1 - release * slope


def check_reset(
    owner: str, reset: Reset, threshold: Any, decay: Any, max_spikes: int | None = 1, scaled: bool = False
) -> None:
    """Refuses a reset that goes with no other choice of the neuron.

    Raises:
      ValueError: a value that is not below the threshold, or goes with several spikes a step; spikes of the height of
        what they subtract, where that is no number of thresholds; a reset after a decay to 0.
    """
    if isinstance(reset, ResetTo) and max_spikes != 1:
        raise ValueError(
            f"{owner}(reset={reset}, max_spikes={max_spikes}): a spike that sets the membrane to a value leaves "
            "nothing for a second one in the same step. Write max_spikes=1, or reset=1.0, which subtracts the "
            "threshold for each spike."
        )
    if scaled and not isinstance(reset, Real):
        raise ValueError(
            f"{owner}(reset={reset}, scaled=True): scaled spikes have the height of what they subtract from the "
            "membrane, so the reset must be a number of thresholds. Write scaled=False, or a number as reset, such as "
            "1.0."
        )
    if isinstance(reset, AfterDecay) and isinstance(decay, Real) and decay < SMALLEST_DECAY:
        raise ValueError(
            f"{owner}(decay={decay}, reset={reset}): a membrane that keeps nothing has nothing to subtract from after "
            f"its decay. Write reset=None, or a decay of at least {SMALLEST_DECAY}."
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
