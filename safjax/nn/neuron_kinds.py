"""Neurons with more memory or more to learn than `LIF`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.neurons import AdaptiveCell, CurrentCell, LIFCell
from safjax.neurons.adaptive import check_raised_reset
from safjax.neurons.resets import Reset, check_decay_input, check_reset
from safjax.nn.neurons import LIF, Neuron
from safjax.nn.numbers import (
    DECAYS,
    STRENGTHS,
    THRESHOLDS,
    Interval,
    Number,
    checked_decay,
    checked_positive,
    checked_reset,
    checked_surrogate,
    decay_of,
    reset_of,
    value_of,
)
from safjax.surrogate import Sigmoid


class PLIF(LIF):
    """Parametric LIF: the decay is learned, λ = 1 / (1 + exp(−w)), one w for the layer or one for each neuron.

    Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural networks", 2021,
    Eq. (9), there with 1/τ = 1 − λ.

    Args:
      decay: λ ∈ (0, 1) at the start.
      shape: of w: () for one, (n,) or the shape of a sample for many.
      param_dtype: dtype of w.
      threshold, surrogate, reset, floor, max_spikes, scaled, decay_input: as of `LIF`.

    Raises:
      ValueError: decay outside (0, 1).

    Example:
      >>> from safjax.nn import PLIF
      >>> round(float(PLIF(decay=0.9).cell().decay), 3)
      0.9
    """

    intervals: ClassVar[Mapping[str, Interval]] = {"threshold": THRESHOLDS}

    def __init__(
        self,
        decay: float = 0.5,
        threshold: Number = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        shape: tuple[int, ...] = (),
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        **lif: Any,
    ):
        if not 0 < checked_decay(self, decay) < 1:
            raise ValueError(
                f"PLIF(decay={decay!r}): a learned decay is 1 / (1 + exp(−w)) and must start between 0 and 1, both "
                "excluded."
            )
        super().__init__(decay, threshold, surrogate, **lif)
        # In the place of the constant: whatever w is, λ lies between 0 and 1.
        self.decay = nnx.data(nnx.Param(jnp.full(shape, jnp.log(decay / (1 - decay)), param_dtype)))

    def cell(self) -> LIFCell:
        """`LIFCell` of the present constants."""
        return dataclasses.replace(self._lif(), decay=jax.nn.sigmoid(self.decay[...]))


class CurrentLIF(LIF):
    """Current-based LIF: a synaptic filter i[t] = α i[t−1] + I[t] before the membrane of `LIF`.

    With decayed input the membrane takes (1 − λ) i[t], and the filter I[t] as it is; where a filter has a gain too, as
    in NIR's `CubaLIF`, that is a number times what its synapse gives: `lif(0.5 * synapse(x))`.

    Args:
      synaptic_decay: α ∈ [0, 1].
      decay, threshold, surrogate, reset, floor, max_spikes, scaled, decay_input: as of `LIF`.

    Raises:
      ValueError: synaptic_decay outside [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import CurrentLIF, LeakyReadout
      >>> net = nnx.Sequential(CurrentLIF(synaptic_decay=0.5, decay=0.5), LeakyReadout())
      >>> pulse = jnp.zeros((6, 1, 1)).at[0].set(1.5)
      >>> safjax.simulate(net, pulse).spikes["layers.0"].ravel().astype(int).tolist()
      [1, 1, 0, 0, 0, 0]
    """

    intervals: ClassVar[Mapping[str, Interval]] = {**LIF.intervals, "synaptic_decay": DECAYS}

    def __init__(
        self,
        synaptic_decay: Number = 0.5,
        decay: Number = 0.5,
        threshold: Number = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        **lif: Any,
    ):
        super().__init__(decay, threshold, surrogate, **lif)
        self.synaptic_decay = checked_decay(self, synaptic_decay, "synaptic_decay")

    def cell(self) -> CurrentCell:  # type: ignore[override]
        """`CurrentCell` of the present constants."""
        return CurrentCell(self._lif(), value_of(self.synaptic_decay, DECAYS))


class ALIF(Neuron):
    """LIF neurons whose threshold rises with their own firing.

        b[t] = κ b[t−1] + s[t−1],   u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ − β b[t]),   m[t] = u[t] − ρθ s[t]

    Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons", 2020. With a raised
    reset, m[t] = u[t] − ρ (θ + β b[t]) s[t], as in the neurons of this name of sinabs and Spyx.

    Args:
      decay: λ ∈ [0, 1].
      threshold: θ > 0, at rest.
      adaptation_decay: κ ∈ [0, 1].
      strength: β > 0.
      surrogate, reset, decay_input: as of `LIF`; a reset counts in thresholds at rest.
      raised_reset: a reset counts in raised thresholds.

    Raises:
      ValueError: a decay outside [0, 1]; threshold, strength or reset not positive; `ResetTo` of a value not below the
        threshold; decayed input without leak; a raised reset that subtracts nothing.
      TypeError: surrogate is not callable.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = nnx.Sequential(safjax.nn.ALIF(decay=1.0, strength=0.5), safjax.nn.LeakyReadout(1.0))
      >>> run = safjax.simulate(net, jnp.array([[0.7]]), steps=10)
      >>> run.spikes["layers.0"].ravel().astype(int).tolist()
      [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    """

    intervals: ClassVar[Mapping[str, Interval]] = {
        **LIF.intervals,
        "adaptation_decay": DECAYS,
        "strength": STRENGTHS,
    }
    carried = ("reset", "adaptation_decay")

    def __init__(
        self,
        decay: Number = 0.5,
        threshold: Number = 1.0,
        adaptation_decay: Number = 0.9,
        strength: Number = 0.1,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        reset: Reset = 1.0,
        decay_input: bool = False,
        raised_reset: bool = False,
    ):
        self.decay = checked_decay(self, decay)
        self.adaptation_decay = checked_decay(self, adaptation_decay, "adaptation_decay")
        self.threshold = checked_positive(self, "threshold", threshold, "the firing threshold at rest")
        self.strength = checked_positive(
            self, "strength", strength, "what a past spike adds to the threshold", STRENGTHS
        )
        self.surrogate = checked_surrogate(self, surrogate)
        self.reset, self.decay_input, self.raised_reset = checked_reset(self, reset), decay_input, raised_reset
        check_reset(type(self).__name__, reset, threshold, decay)
        check_raised_reset(type(self).__name__, reset, raised_reset)
        check_decay_input(type(self).__name__, decay, decay_input)

    def cell(self) -> AdaptiveCell:
        """`AdaptiveCell` of the present constants."""
        decay, threshold = decay_of(self.decay, self.reset), value_of(self.threshold, THRESHOLDS)
        adaptation_decay, strength = value_of(self.adaptation_decay, DECAYS), value_of(self.strength, STRENGTHS)
        options = reset_of(self.reset), self.decay_input, self.raised_reset
        return AdaptiveCell(decay, threshold, adaptation_decay, strength, self.surrogate, *options)
