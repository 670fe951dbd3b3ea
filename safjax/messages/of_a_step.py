"""Messages of one step: with a trace, as a rate, or with a mean."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from safjax.gains import Gain
from safjax.messages.message import Message


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Traced(Message):
    """A value x[t], its trace Σ_{τ≤t} λ^{t−τ} x[τ], both [B, ...], and the gain Λ[t] = Σ_{τ≤t} λ^{t−τ}."""

    described = "a layer's spikes or currents together with their traces"

    value: jax.Array
    trace: jax.Array
    gain: Gain

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def check(self, path: str, steps: int, batch: int) -> None:
        if jnp.ndim(self.gain.value) > self.gain.apart:
            raise self._stacked(path, self.value.shape, f"[{batch}, ...]")

    def map_linear(self, function: Callable[..., jax.Array], *others: "Traced") -> "Traced":
        value = function(self.value, *(o.value for o in others))
        return Traced(value, function(self.trace, *(o.trace for o in others)), self.gain)


class Gathered(NamedTuple):
    """What a rate of spikes is quickly made of: their weighted sum, its gain, and their height; None for 1."""

    total: jax.Array
    gain: Gain
    height: Any

    def rate(self) -> jax.Array:
        """h a / Λ."""
        rate = self.total / self.gain.of(self.total)
        return rate if self.height is None else self.height * rate


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=[], drop_fields=["gathered"])
@dataclasses.dataclass(frozen=True, eq=False)
class Rate(Message):
    """A weighted mean over time, (Σ_{τ≤t} λ^{t−τ} x[τ]) / Λ[t], [B, ...]; of spikes, their number per step.

    Attributes:
      value: it.
      gathered: what it was made of, where that lies in memory anyway; no part of the message as a pytree.
    """

    described = "the mean over time of a layer's spikes or currents"

    value: jax.Array
    gathered: Gathered | None = None

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def map_linear(self, function: Callable[..., jax.Array], *others: "Rate") -> "Rate":
        return Rate(function(self.value, *(o.value for o in others)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Averaged(Message):
    """A value x[t] and its mean (1/t) Σ_{τ≤t} x[τ], both [B, ...]; the mean alone is differentiated."""

    described = "a layer's spikes or currents together with their means over time"

    value: jax.Array
    mean: jax.Array

    @classmethod
    def of_still(cls, x: jax.Array) -> "Averaged":
        """What is the same at every step."""
        return cls(x, x)

    @property
    def still(self) -> bool:
        """Whether the value is known to be the same at every step."""
        return self.value is self.mean

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def map_linear(self, function: Callable[..., jax.Array], *others: "Averaged") -> "Averaged":
        mean = function(self.mean, *(o.mean for o in others))
        if self.still and all(o.still for o in others):
            return Averaged.of_still(mean)
        return Averaged(function(self.value, *(o.value for o in others)), mean)
