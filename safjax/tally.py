"""What is kept of a sequence while it runs: outputs of all steps, of the last, or their mean; losses, firing rates."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp

from safjax.lengths import by_member, last_of_each
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

    def add(self, value: Any, output: Any, rates: Any, going: jax.Array | None = None) -> "Tally":
        """After one more step, of all members or of those that are going on; of others all that is given is 0."""
        rates = jax.tree.map(jnp.add, self.rates, rates)
        if self.keep == "all":
            output = None
        elif self.keep == "mean":
            output = jax.tree.map(jnp.add, self.output, output)
        elif going is not None:
            output = jax.tree.map(lambda new, old: jnp.where(by_member(going, new), new, old), output, self.output)
        return Tally(self.value + value, output, rates, self.keep)

    def to_stack(self, output: Any) -> Any:
        """What a scan is to stack of a step's output."""
        return output if self.keep == "all" else None

    def outputs(self, stacked: Any, steps: int | jax.Array) -> Any:
        """The outputs as they are kept, after so many steps, of all members or of each."""
        if self.keep == "mean":
            return jax.tree.map(lambda o: _over(o, steps), self.output)
        return stacked if self.keep == "all" else self.output

    def mean_rates(self, steps: int | jax.Array) -> Any:
        """The rates, averaged over so many steps; of members of several lengths, over the sum of those."""
        return jax.tree.map(lambda rate: rate / steps, self.rates)


def _zeros(like: Any) -> jax.Array:
    return jnp.zeros(like.shape, like.dtype)


def _wide_zeros(like: Any) -> jax.Array:
    return jnp.zeros(like.shape, wide_dtype(like))


def _over(total: jax.Array, steps: int | jax.Array) -> jax.Array:
    return total / (steps if isinstance(steps, int) else by_member(jnp.maximum(steps, 1), total))


def of_all(keep: Kept, outputs: Any, lengths: jax.Array | None = None) -> Any:
    """Of the outputs of all steps [T, B, ...] what is to be kept; beyond a member's own steps they are 0."""
    if keep == "all":
        return outputs
    if lengths is not None and keep == "last":
        return last_of_each(outputs, lengths)
    if lengths is not None:
        return jax.tree.map(lambda o: _over(jnp.sum(o, 0, wide_dtype(o)), lengths), outputs)
    return jax.tree.map(lambda o: o[-1] if keep == "last" else jnp.mean(o, 0, wide_dtype(o)), outputs)
