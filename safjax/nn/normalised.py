"""Neurons that fire by their batch-normalised potential, as a Flax NNX module."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import Message
from safjax.neurons.normalised import NormalisedCell
from safjax.neurons.recording import Records
from safjax.neurons.resets import Reset, ResetTo
from safjax.nn.batch_norm import BatchNorm
from safjax.nn.layout import Layout
from safjax.nn.neurons import LIF
from safjax.nn.numbers import Number
from safjax.nn.wrappers import unwrapped
from safjax.surrogate import Sigmoid

NO_LEVEL = 1e-30
"""In the place of a threshold of 0."""


class NormalisedLIF(LIF):
    """LIF neurons whose potential is batch-normalised before it fires (MPBN).

        u[t] = λ m[t−1] + I[t],      û[t] = γ (u[t] − μ[t]) / √(σ²[t] + ε) + β
        s[t] = H(û[t] − θ),          m[t] = u[t] − ρθ s[t], or with reset=ResetTo(0.0) (1 − s[t]) u[t]

    μ[t] and σ²[t] are those of u[t], over batch and space, for each feature, the last axis; with those of one step it
    trains under bptt(), sltt() and bptt(layerwise=True), alike. Running statistics follow at every step, as of
    `BatchNorm`, and take their place after `net.eval()`. Then the neurons are plain LIF neurons with a threshold of
    each feature, θ̃ = (θ − β) √(v + ε) / γ + m, and `fold_batch_norms` makes them such.

    Guo et al., "Membrane potential batch normalization for spiking neural networks", ICCV 2023. There a spike sets
    the membrane to zero, reset=ResetTo(0.0). The membrane itself is not normalised.

    Args:
      features: size of the last axis.
      decay, threshold, surrogate, reset, decay_input: as of `LIF`; threshold and surrogate are those of û.
      momentum, epsilon, param_dtype: as of `BatchNorm`.

    Attributes:
      norm: a `BatchNorm` that holds γ, β and the running statistics m, v; None where it is folded.
      level: θ̃ [features] where it is folded; then θ only says what a spike subtracts.

    Raises:
      ValueError: arguments as of `LIF` and `BatchNorm`; when a rule meets the net: an input of another number of
        features, or in training of a single value of each; a rule other than those.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LeakyReadout, NormalisedLIF, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), NormalisedLIF(2), LeakyReadout())
      >>> loss_and_grad = safjax.value_and_grad(jnp.mean, safjax.rules.bptt())
      >>> (value, aux), grads = loss_and_grad(net, jnp.arange(60.0).reshape(5, 3, 4) % 7)
      >>> bool(jnp.all(net.layers[1].norm.mean[...] != 0))
      True
    """

    own_records: ClassVar[tuple[str, ...]] = ("batch_mean", "batch_var")

    def __init__(
        self,
        features: int,
        decay: Number = 0.5,
        threshold: Number = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        reset: Reset = 1.0,
        decay_input: bool = False,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        super().__init__(decay, threshold, surrogate, reset=reset, decay_input=decay_input)
        norm = BatchNorm(features, over="step", momentum=momentum, epsilon=epsilon, param_dtype=param_dtype)
        self.norm: BatchNorm | None = nnx.data(norm)
        self.level: nnx.Variable[Any] | None = nnx.data(None)

    def cell(self) -> Any:
        """`NormalisedCell` of the present constants; `LIFCell` where the normalisation is folded."""
        lif, norm = self._lif(), self.norm
        if norm is None:
            assert self.level is not None
            level = self.level[...]
            if lif.reset is None or isinstance(lif.reset, ResetTo):
                return dataclasses.replace(lif, threshold=level)
            # What a spike subtracts is a multiple of the threshold in `LIFCell`.
            return dataclasses.replace(lif, threshold=level, reset=lif.drop / level)
        running = (norm.mean[...], norm.var[...]) if norm.use_running_average else None
        assert norm.scale is not None and norm.bias is not None
        return NormalisedCell(lif, norm.scale[...], norm.bias[...], norm.epsilon, running)

    def fold(self) -> None:
        """Puts the normalisation, with its running statistics, into a threshold θ̃ of each feature, of either sign.

        Raises:
          ValueError: γ is not positive, so that neurons fire below a threshold.
        """
        lif, norm = self._lif(), self.norm
        if norm is None:
            return
        assert norm.scale is not None and norm.bias is not None
        scale, mean, var = norm.scale[...], norm.mean[...], norm.var[...]
        level = (lif.threshold - norm.bias[...]) * jnp.sqrt(var + norm.epsilon) / scale + mean
        wrong = int(jnp.sum((scale <= 0) | ~jnp.isfinite(level)))
        if wrong:
            raise ValueError(
                f"has a scale γ that is not positive for {wrong} of its {level.size} features, whose neurons fire "
                "below a threshold and not above one"
            )
        if isinstance(self.threshold, nnx.Param):
            self.threshold = nnx.data(nnx.Variable(lif.threshold))
        self.level = nnx.data(nnx.Variable(jnp.where(jnp.abs(level) < NO_LEVEL, NO_LEVEL, level)))
        self.norm = nnx.data(None)

    def _own(self) -> tuple[str, ...]:
        return () if self.norm is None or self.norm.use_running_average else self.own_records

    def _followed(self, records: Records) -> None:
        if self.norm is not None and records:
            mean, var = (records[name].reshape(-1, self.norm.features) for name in self.own_records)
            # In tables NNX puts wrappers around methods, which take and return arrays only.
            unwrapped(type(self.norm).follow)(self.norm, mean, var, Layout(1, 1))

    def _reasons(self, cell: Any, current: Any) -> list[str]:
        if self.norm is not None:
            shape = current.step_shape if isinstance(current, Message) else current.shape
            where = f"NormalisedLIF(features={self.norm.features}) at '{self.bound().path}'"
            if len(shape) < 2 or shape[-1] != self.norm.features:
                wanted = f"[B, ..., {self.norm.features}]"
                raise ValueError(f"{where} was given currents of shape {list(shape)}, but expected is {wanted}.")
            if not self.norm.use_running_average and math.prod(shape[:-1]) == 1:
                raise ValueError(
                    f"{where} is in training and has a single value of each feature in a step, which has no variance. "
                    "Give it a larger batch, or call net.eval() before."
                )
        return super()._reasons(cell, current)
