"""What is kept of a sequence while it runs: outputs of all steps, of the last, or their mean; losses, firing rates."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from safjax.lengths import by_member, last_of_each
from safjax.precision import wide_dtype

Kept = Literal["all", "last", "mean"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["sums", "output"], meta_fields=["keep", "apart"])
@dataclasses.dataclass(frozen=True)
class Tally:
    """What a loop over time carries of its results; nothing of it grows with T.

    Attributes:
      sums: of the losses and of each layer's rates, side by side: an accelerator would start a kernel for each.
      output: the last output, or the sum of all; None where each is kept.
      keep: what is kept of the outputs.
      apart: the sums ↦ (that of the losses, those of the rates).
    """

    sums: jax.Array
    output: Any
    keep: Kept
    apart: Callable[[jax.Array], tuple[jax.Array, Any]]

    @classmethod
    def empty(cls, keep: Kept, value: Any, output: Any, rates: Any) -> "Tally":
        """Before the first step; the results are given as their shapes."""
        like = _zeros if keep == "last" else _wide_zeros
        output = None if keep == "all" else jax.tree.map(like, output)
        sums, apart = ravel_pytree(jax.tree.map(_zeros, (value, rates)))
        return cls(sums, output, keep, apart)

    def add(self, value: Any, output: Any, rates: Any, going: jax.Array | None = None) -> "Tally":
        """After one more step, of all members or of those that are going on; of others all that is given is 0."""
        if self.keep == "all":
            output = None
        elif self.keep == "mean":
            output = jax.tree.map(jnp.add, self.output, output)
        elif going is not None:
            output = jax.tree.map(lambda new, old: jnp.where(by_member(going, new), new, old), output, self.output)
        return Tally(self.sums + ravel_pytree((value, rates))[0], output, self.keep, self.apart)

    @property
    def value(self) -> jax.Array:
        """The sum of the losses."""
        return self.apart(self.sums)[0]

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
        return jax.tree.map(lambda rate: rate / steps, self.apart(self.sums)[1])


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
