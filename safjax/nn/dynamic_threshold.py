"""LIF neurons whose threshold follows the distribution of their potentials, as a Flax NNX module."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
from flax import nnx

from safjax.messages import Message
from safjax.neurons.dynamic import DynamicThresholdCell
from safjax.neurons.resets import Reset
from safjax.nn.neurons import LIF
from safjax.nn.numbers import DECAYS, Interval, Number
from safjax.surrogate import Sigmoid


class DynamicThresholdLIF(LIF):
    """LIF neurons whose threshold follows their potentials: about as many fire at every step as at the first (OSR).

        u[t] = λ m[t−1] + I[t],   θ[t] = mean u[t] + z std u[t],   z = (θ − mean u[1]) / std u[1]
        s[t] = H(u[t] − θ[t]),    m[t] = u[t] − ρθ[t] s[t]

    Mean and standard deviation (n − 1) are over the whole layer, and θ[t] is a constant of the gradient. As long as all
    potentials are alike the threshold is θ. It trains under bptt(), sltt() and bptt(layerwise=True). `simulate` records
    θ[t] as "threshold", [B].

    over="batch" is the published neuron: mean and standard deviation are over all members of the batch too, also in
    evaluation. So the spikes of a member, and what the net predicts of it, depend on the members beside it, and no
    member can begin or end by itself (`safjax.reset`, lengths). over="sample" takes them of each member by itself,
    which then depends on nothing else.

    Zhu, Ding, Huang, Xie & Yu, "Online stabilization of spiking neural networks", ICLR 2024.

    Args:
      decay, surrogate, reset, floor, decay_input: as of `LIF`.
      threshold: θ > 0, that of the first step; a Python number.
      over: "batch" or "sample".

    Raises:
      ValueError: arguments as of `LIF`; a threshold in a variable; `over` is neither; when a rule meets the net: a rule
        other than those, a layer of one potential, or over="batch" with members of lengths of their own.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import DynamicThresholdLIF, LeakyReadout
      >>> net = nnx.Sequential(DynamicThresholdLIF(over="sample"), LeakyReadout(0.5))
      >>> x = jnp.array([1.0, 2.0, 4.0])[:, None, None] * jnp.array([[0.2, 0.6, 0.9, 1.4]])
      >>> run = safjax.simulate(net, x)
      >>> run.spikes["layers.0"].astype(int)[:, 0].tolist()
      [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1]]
    """

    intervals: ClassVar[Mapping[str, Interval]] = {"decay": DECAYS}

    def __init__(
        self,
        decay: Number = 0.5,
        threshold: float = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        over: str,
        reset: Reset = 1.0,
        floor: float | None = None,
        decay_input: bool = False,
    ):
        super().__init__(decay, threshold, surrogate, reset=reset, floor=floor, decay_input=decay_input)
        if isinstance(threshold, nnx.Variable):
            raise ValueError(
                f"DynamicThresholdLIF(threshold={type(threshold).__name__}(...)): the threshold only says how many "
                "neurons fire at the first step, and is a constant of the gradient. Give one Python number."
            )
        if over not in ("batch", "sample"):
            raise ValueError(
                f"DynamicThresholdLIF(over={over!r}): expected 'batch', for the distribution of potentials over layer "
                "and batch, as published, or 'sample', for that of each member of the batch by itself."
            )
        self.over = over

    def cell(self) -> Any:
        """`DynamicThresholdCell` of the present constants."""
        return DynamicThresholdCell(self._lif(), self.over)

    def _reasons(self, cell: Any, current: Any) -> list[str]:
        binding = self.bound()
        where = f"DynamicThresholdLIF(over='{self.over}') at '{binding.path}'"
        shape = current.step_shape if isinstance(current, Message) else current.shape
        if math.prod(shape[self.over == "sample" :]) == 1:
            raise ValueError(
                f"{where} was given currents of shape {list(shape)}, a single one to take the standard deviation of. "
                "Use LIF for such a layer."
            )
        found = super()._reasons(cell, current)
        if self.over == "batch" and binding.course.padded:
            found.append(
                f"{where} takes its threshold from the whole batch, and with lengths a part of the batch is padding, "
                "which would count. Write over='sample', or give the net sequences of one length, without lengths."
            )
        return found
