"""What is kept of a sequence while it runs: outputs of all steps, of the last, or their mean; losses, firing rates."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from safjax.precision import wide_dtype

Kept = Literal["all", "last", "mean"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value", "output", "rates"], meta_fields=["keep"])
@dataclasses.dataclass(frozen=True)
class Tally:
    """What a loop over time carries of its results; nothing of it grows with T.

    Attributes:
      value: the sum of the losses.
      output: the last output, or the sum of all; None where each is kept.
      rates: the sums of the neurons' rates.
      keep: what is kept of the outputs.
    """

    value: jax.Array
    output: Any
    rates: Any
    keep: Kept

    @classmethod
    def empty(cls, keep: Kept, value: Any, output: Any, rates: Any) -> "Tally":
        """Before the first step; the results are given as their shapes."""
        like = _zeros if keep == "last" else _wide_zeros
        output = None if keep == "all" else jax.tree.map(like, output)
        return cls(_zeros(value), output, jax.tree.map(_zeros, rates), keep)

    def add(self, value: Any, output: Any, rates: Any) -> "Tally":
        """After one more step."""
        rates = jax.tree.map(jnp.add, self.rates, rates)
        if self.keep != "all":
            output = output if self.keep == "last" else jax.tree.map(jnp.add, self.output, output)
        return Tally(self.value + value, None if self.keep == "all" else output, rates, self.keep)

    def to_stack(self, output: Any) -> Any:
        """What a scan is to stack of a step's output."""
        return output if self.keep == "all" else None

    def outputs(self, stacked: Any, steps: int) -> Any:
        """The outputs as they are kept, after so many steps."""
        if self.keep == "mean":
            return jax.tree.map(lambda o: o / steps, self.output)
        return stacked if self.keep == "all" else self.output

    def mean_rates(self, steps: int) -> Any:
        """The rates, averaged over so many steps."""
        return jax.tree.map(lambda rate: rate / steps, self.rates)


def _zeros(like: Any) -> jax.Array:
    return jnp.zeros(like.shape, like.dtype)


def _wide_zeros(like: Any) -> jax.Array:
    return jnp.zeros(like.shape, wide_dtype(like))


def of_all(keep: Kept, outputs: Any) -> Any:
    """Of the outputs of all steps [T, ...] what is to be kept."""
    if keep == "all":
        return outputs
    return jax.tree.map(lambda o: o[-1] if keep == "last" else jnp.mean(o, 0, wide_dtype(o)), outputs)
