"""Neurons that need no loop over time, as Flax NNX modules."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.neurons import PSNCell, SlidingPSNCell, SPSNCell, masked_weight
from safjax.nn.dropout import SequenceKey, drawn
from safjax.nn.neurons import Neuron
from safjax.nn.numbers import (
    DECAYS,
    Interval,
    Number,
    checked_decay,
    checked_rngs,
    checked_surrogate,
    checked_whole,
    value_of,
)
from safjax.surrogate import Arctan


class MaskStrength(nnx.Variable[Any]):
    """ρ of a masked PSN; not learned, but raised from 0 to 1 by whoever trains."""


class PSN(Neuron):
    """Parallel spiking neurons: every step sees every step of the sequence, through learned weights over time.

        h[t] = Σ_j W[t, j] I[j] + b[t],   s[t] = H(h[t])

    Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term dependencies", 2023. For
    rules that go layer by layer: bptt(layerwise=True), exodus(), slayer(), which agree, there being no reset.

    Args:
      steps: T, the only length of sequence that the neurons take.
      order: k, to see the last k steps only (masked PSN); None for all.
      surrogate: the spike function.
      param_dtype: dtype of the weights.
      rngs: its stream "params" initialises W, uniform in ±1/√T.

    Attributes:
      strength: ρ of the mask, see `safjax.neurons.masked_weight`; 1 at the start. To raise it in training, set it:
        psn.strength.set_value(jnp.asarray(0.3)).

    Raises:
      ValueError: steps or order not whole numbers ≥ 1; when called, another length of sequence.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import PSN, LeakyReadout
      >>> net = nnx.Sequential(PSN(steps=6, rngs=nnx.Rngs(0)), LeakyReadout(0.5))
      >>> safjax.predict(net, jnp.ones((6, 2, 3))).shape
      (6, 2, 3)
    """

    stepwise = False

    def __init__(
        self,
        steps: int,
        order: int | None = None,
        surrogate: Callable[[jax.Array], jax.Array] = Arctan(),  # noqa: B008 (a frozen value)
        *,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        checked_whole(self, "steps", steps, "the length of the sequences")
        if order is not None:
            checked_whole(self, "order", order, "how many steps a neuron sees, or None for all")
        bound = 1 / steps**0.5
        self.weight = nnx.Param(
            jax.random.uniform(checked_rngs(self, rngs).params(), (steps, steps), param_dtype, -bound, bound)
        )
        self.bias = nnx.Param(jnp.full((steps,), -1.0, param_dtype))
        self.order, self.surrogate = order, checked_surrogate(self, surrogate)
        self.strength = MaskStrength(jnp.ones((), param_dtype))

    def cell(self) -> PSNCell:
        """`PSNCell` of the present weights."""
        weight = self.weight[...]
        if self.order is not None:
            weight = masked_weight(weight, self.order, self.strength[...])
        return PSNCell(weight, self.bias[...], self.surrogate)

    def _reasons(self, cell: PSNCell, current: Any) -> list[str]:
        found, steps, given = super()._reasons(cell, current), len(self.bias[...]), self.bound().course.all_steps
        if given != steps:
            found.append(
                f"PSN at '{self.bound().path}' is made for sequences of {steps} steps, but this one has T = {given}. "
                f"Make it with PSN(steps={given}), or take SlidingPSN, whose weights fit any length."
            )
        return found


class SlidingPSN(Neuron):
    """Parallel spiking neurons with one window of weights for all steps.

        h[t] = Σ_{i<k} w[i] I[t − k + 1 + i] + b,   s[t] = H(h[t]),   I[t] = 0 before the start

    As `PSN`, but causal and for sequences of any length; goes step by step under bptt() and sltt() too.

    Args:
      order: k.
      surrogate: the spike function.
      param_dtype: dtype of the weights, which start at (…, 1/4, 1/2, 1), the threshold −b at 1.

    Raises:
      ValueError: order not a whole number ≥ 1.
    """

    def __init__(
        self,
        order: int,
        surrogate: Callable[[jax.Array], jax.Array] = Arctan(),  # noqa: B008 (a frozen value)
        *,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        checked_whole(self, "order", order, "how many steps a neuron sees")
        self.weight = nnx.Param(0.5 ** jnp.arange(order - 1, -1, -1, param_dtype))
        self.bias = nnx.Param(jnp.asarray(-1.0, param_dtype))
        self.surrogate = checked_surrogate(self, surrogate)

    def cell(self) -> SlidingPSNCell:
        """`SlidingPSNCell` of the present weights."""
        return SlidingPSNCell(self.weight[...], self.bias[...], self.surrogate)


class SPSN(Neuron):
    """Stochastic parallelizable spiking neurons: two leaky filters without reset, and random spikes.

        i[t] = α i[t−1] + I[t],   v[t] = β v[t−1] + (1 − β) i[t],   s[t] ~ Bernoulli(1 / (1 + exp(−v[t])))

    Yarga & Wood, "Accelerating SNN training with stochastic parallelizable spiking neurons", 2023, with the
    straight-through gradient. For rules that go layer by layer. Every sequence draws anew, in evaluation too.

    Args:
      synaptic_decay, membrane_decay: α, β ∈ [0, 1]; an `nnx.Param` is learned.
      rngs: its stream "spikes" gives the keys.

    Raises:
      ValueError: a decay outside [0, 1].
    """

    stepwise = False

    intervals: ClassVar[Mapping[str, Interval]] = {"synaptic_decay": DECAYS, "membrane_decay": DECAYS}

    def __init__(self, synaptic_decay: Number = 0.95, membrane_decay: Number = 0.95, *, rngs: nnx.Rngs):
        self.synaptic_decay = checked_decay(self, synaptic_decay, "synaptic_decay")
        self.membrane_decay = checked_decay(self, membrane_decay, "membrane_decay")
        self.rngs = checked_rngs(self, rngs)["spikes"].fork()
        self.key = SequenceKey(self.rngs())

    def start_sequence(self) -> None:
        """Draws the key of the next sequence."""
        self.key.set_value(drawn(self.rngs))

    def cell(self) -> SPSNCell:
        """`SPSNCell` of the present constants."""
        decays = (value_of(decay, DECAYS) for decay in (self.synaptic_decay, self.membrane_decay))
        return SPSNCell(self.key.get_value(), *decays)
