"""Messages whose one value is differentiated in several ways."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Self

import jax
import jax.numpy as jnp

from safjax.messages.message import Message
from safjax.standing_in import with_gradient_of

Arrays = Mapping[str, jax.Array]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["ports", "traces"], meta_fields=["rank"])
@dataclasses.dataclass(frozen=True, eq=False)
class Ported(Message):
    """One value x[t], [B, ...], several times by name, each with derivatives of its own, and traces of it.

    A *pass* hands its error to what the value was made of; a port that has the name of a trace hands its error to the
    weights that made the value, which take it at that trace of their input. Whoever reads the value says by the port
    what its error means; a port that nobody reads has none, and costs nothing.

    Attributes:
      ports: {name of a pass or of a trace: x[t]}.
      traces: {name: a sum over time of x, of its shape}; constants of differentiation.
      rank: the number of the value's axes.
    """

    described = "a layer's spikes or currents together with their traces"

    ports: Arrays
    traces: Arrays
    rank: int

    @classmethod
    def of(cls, ports: Arrays, traces: Arrays) -> Self:
        """A message of one layer."""
        return cls(dict(ports), dict(traces), jnp.ndim(next(iter(ports.values()))))

    @property
    def value(self) -> jax.Array:
        """x[t], a constant of differentiation."""
        return jax.lax.stop_gradient(next(iter(self.ports.values())))

    @property
    def step_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def check(self, path: str, steps: int, batch: int) -> None:
        if self.value.ndim != self.rank:
            raise self._stacked(path, self.value.shape, f"[{batch}, ...]")

    def map_linear(self, function: Callable[..., jax.Array], *others: "Ported") -> "Ported":
        several = self, *others
        ports = {name: function(*(m.ports[name] for m in several)) for name in self.ports}
        return Ported.of(ports, {name: function(*(m.traces[name] for m in several)) for name in self.traces})

    def traced_as(self, other: Self) -> Self:
        """The same with the traces of another one."""
        return dataclasses.replace(self, traces=other.traces)

    def read(self, *names: str) -> jax.Array:
        """x[t], whose error goes to each of these ports."""
        first, *rest = (self.ports[name] for name in names)
        return differentiated_as(self.value, sum(rest, first))


def differentiated_as(value: jax.Array, stand_in: jax.Array) -> jax.Array:
    """`value` with the derivatives of `stand_in`, in the value's own format; whole numbers have none."""
    value = jax.lax.stop_gradient(value)
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    return with_gradient_of(value, stand_in.astype(value.dtype))
