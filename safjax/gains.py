"""The gain Λ: over how many steps, each weighed by the decay, a sum over time has gone."""

import dataclasses
import functools
from typing import Any, Self

import jax
import jax.numpy as jnp

from safjax.precision import wide_dtype


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["apart"])
@dataclasses.dataclass(frozen=True, eq=False)
class Gain:
    """Λ[t] = λ Λ[t−1] + 1, Λ = 0 at the start.

    Attributes:
      value: one number for all members of the batch, of the shape of λ; or, where members began at different times, one
        for each, [B, ...].
      apart: whether each member has its own.
    """

    value: jax.Array
    apart: bool = False

    @classmethod
    def start(cls, like: jax.Array, decay: Any = 0.0) -> Self:
        """Λ = 0 of all members, in the `wide_dtype` of `like`, for decays of this shape."""
        return cls(jnp.zeros(jnp.shape(decay), wide_dtype(like)))

    def step(self, decay: float | jax.Array) -> "Gain":
        """Λ of the next step."""
        return Gain(decay * self.value + 1, self.apart)

    def of(self, x: jax.Array) -> jax.Array:
        """Λ in a shape that multiplies x[B, ...] member by member."""
        if not self.apart:
            return self.value
        members, *own = self.value.shape
        return self.value.reshape(members, *(1,) * (x.ndim - 1 - len(own)), *own)

    def constant(self) -> "Gain":
        """The same, without gradient."""
        return jax.lax.stop_gradient(self)
