"""Messages that know by which weights they were made."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from safjax.messages.message import Message


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Weights of which each drives one neuron, and what they do to it at this step.

    Attributes:
      weights: w[..., n], the last axis that of the neurons.
      slopes: dI[b, j] / dw[..., j], [B, ..., n]; constants of differentiation.
    """

    weights: jax.Array
    slopes: jax.Array

    def moved(self, function: Callable[[jax.Array], jax.Array]) -> "Source":
        """That of function(I), which is linear: entry by entry, or puts I beside something else."""
        batch, *inner, features = self.slopes.shape
        rows = jnp.moveaxis(self.slopes.reshape(batch, -1, features), 1, 0)
        slopes = jnp.moveaxis(jax.vmap(function)(rows), 0, 1)
        slopes = slopes.reshape(batch, *inner, slopes.shape[-1])
        if slopes.shape[-1] == features:
            return Source(self.weights, slopes)
        beside = jax.vmap(lambda row: function(jnp.broadcast_to(row, (batch, features)))[0])
        weights = beside(self.weights.reshape(-1, features))
        return Source(weights.reshape(*inner, weights.shape[-1]), slopes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Driven(Message):
    """A value x[t], [B, ...], and of a current the weights that drive it.

    Attributes:
      value: x[t] with the derivatives that matter to the loss of this step.
      onward: the same value with those that matter to a membrane, which goes on with it in later steps.
      sources: of a current; its own two values are not differentiated by them.
    """

    described = "a layer's spikes or currents together with their derivatives by each weight"

    value: jax.Array
    onward: jax.Array
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, x: jax.Array) -> "Driven":
        """What has the same derivatives now and later."""
        return cls(x, x)

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def map_linear(self, function: Callable[..., jax.Array], *others: "Driven") -> "Driven":
        parts = self, *others
        read = function(*(part.value for part in parts))
        same = all(part.value is part.onward for part in parts)
        onward = read if same else function(*(part.onward for part in parts))
        return Driven(read, onward, tuple(self._sources(function, parts)))

    @staticmethod
    def _sources(function: Callable[..., jax.Array], parts: "tuple[Driven, ...]") -> Iterator[Source]:
        zeros = [jnp.zeros_like(part.value) for part in parts]
        for place, part in enumerate(parts):
            alone = lambda x, place=place: function(*zeros[:place], x, *zeros[place + 1 :])  # noqa: E731
            yield from (source.moved(alone) for source in part.sources)
