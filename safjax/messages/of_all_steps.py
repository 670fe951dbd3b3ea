"""Messages that hold all steps of a sequence."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from safjax.messages.message import Message


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["steps", "still"])
@dataclasses.dataclass(frozen=True, eq=False)
class Sequence(Message):
    """The values of all T steps, x[T, B, ...]; where `still` is set, one x[B, ...] that is the same at every step."""

    described = "a layer's spikes or currents of all time steps"

    value: jax.Array
    steps: int
    still: bool

    @property
    def peers(self) -> tuple[type, ...]:
        return Sequence, Kept

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape if self.still else self.value.shape[1:]

    def check(self, path: str, steps: int, batch: int) -> None:
        expected = (batch,) if self.still else (steps, batch)
        if self.value.shape[: len(expected)] != expected:
            raise self._stacked(path, self.value.shape, f"[{', '.join(map(str, expected))}, ...]")

    def map_linear(self, function: Callable[..., jax.Array], *others: Any) -> "Sequence":
        inputs = [self, *(o.computed() for o in others)]
        still = all(x.still for x in inputs)
        return Sequence(function(*(x.value if still else x.unrolled() for x in inputs)), self.steps, still)

    def computed(self) -> "Sequence":
        """Itself."""
        return self

    def to_be_kept(self) -> "Kept":
        """All steps of it as a `Kept` that is nothing but its values."""
        return Kept(self.unrolled(), (), _as_it_is)

    @property
    def still_steps(self) -> int | None:
        """T where the value is the same at every step, else None."""
        return self.steps if self.still else None

    def first(self) -> jax.Array:
        """x[0], [B, ...]."""
        return self.value if self.still else self.value[0]

    def unrolled(self) -> jax.Array:
        """x[T, B, ...], also of a still value."""
        return jnp.broadcast_to(self.value, (self.steps, *self.value.shape)) if self.still else self.value


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value", "mean"], meta_fields=["steps", "still"])
@dataclasses.dataclass(frozen=True, eq=False)
class AveragedSequence(Sequence):
    """A `Sequence` and its mean over time [B, ...]; the mean alone is differentiated."""

    described = "a layer's spikes or currents of all time steps together with their mean"

    mean: jax.Array

    @classmethod
    def of(cls, values: Sequence, mean: jax.Array) -> "AveragedSequence":
        """Values whose own derivatives are left out, and their mean."""
        return cls(jax.lax.stop_gradient(values.value), values.steps, values.still, mean)

    def values(self) -> Sequence:
        """The values by themselves."""
        return Sequence(self.value, self.steps, self.still)

    def map_linear(self, function: Callable[..., jax.Array], *others: Any) -> "AveragedSequence":
        values = self.values().map_linear(function, *(o.values() for o in others))
        return AveragedSequence.of(values, function(self.mean, *(o.mean for o in others)))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["kept", "constants"], meta_fields=["release"])
@dataclasses.dataclass(frozen=True, eq=False)
class Kept(Message):
    """A `Sequence` in the form of what it is quickly computed from: release(constants, kept) gives x[T, B, ...]."""

    described = "a layer's spikes of all time steps"

    kept: jax.Array
    constants: Any
    release: Callable[[Any, jax.Array], jax.Array]

    @property
    def peers(self) -> tuple[type, ...]:
        return Sequence, Kept

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.kept.shape[1:]

    def check(self, path: str, steps: int, batch: int) -> None:
        if self.kept.shape[:2] != (steps, batch):
            raise self._stacked(path, self.kept.shape, f"[{steps}, {batch}, ...]")

    def map_linear(self, function: Callable[..., jax.Array], *others: Any) -> "Sequence":
        return self.computed().map_linear(function, *(o.computed() for o in others))

    def to_be_kept(self) -> "Kept":
        """Itself."""
        return self

    def computed(self) -> Sequence:
        """The message itself."""
        return Sequence(self.release(self.constants, self.kept), len(self.kept), False)


def _as_it_is(constants: tuple[Any, ...], kept: jax.Array) -> jax.Array:
    del constants
    return kept
