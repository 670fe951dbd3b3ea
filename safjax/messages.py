"""What travels between the layers of a bound net.

Under rules that propagate spikes a message is an ordinary array. Two families need more:

* `Traced` (OTTT): this step's value together with its eligibility trace.
* `Rate` (SAF): the weighted mean over time, a[t] / Λ[t].

Both are affine images of spikes, so messages may be added to one another and scaled by a number. Anything else belongs
inside a `safjax.nn.Synapse`, which knows how to map and how to differentiate them; a bare jnp function on a message
raises and says so.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Self

import jax


class Message(abc.ABC):
    """Addition of messages and scaling by a number; everything else is refused with the way out."""

    @abc.abstractmethod
    def map_linear(self, function: Callable[..., jax.Array], *others: Self) -> Self:
        """Applies a linear function to each component that carries signal."""

    def _outside(self, what: str) -> TypeError:
        return TypeError(
            f"{what} met a {type(self).__name__} message between spiking layers. A net that is to train under this "
            "rule may add messages and scale them by a Python number; every other operation on them must stand in a "
            "safjax.nn.Synapse, for instance Synapse(nnx.Linear(...)) or Synapse(lambda x: x.reshape(len(x), -1))."
        )

    def __jax_array__(self):
        raise self._outside("A jax function")

    def __array__(self, *args, **kwargs):
        raise self._outside("A numpy function")

    def __getattr__(self, name: str):
        # What a plain array would have had: .reshape, .shape, .mean ...
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._outside(f"'.{name}'")

    def __getitem__(self, item):
        raise self._outside("Indexing")

    def __add__(self, other) -> Self:
        if type(other) is not type(self):
            raise self._outside(f"Adding a {type(other).__name__}")
        return self.map_linear(lambda a, b: a + b, other)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Self:
        if not isinstance(factor, (int, float)):
            raise self._outside(f"Multiplying by a {type(factor).__name__}")
        return self.map_linear(lambda a: factor * a)

    __rmul__ = __mul__

    def __sub__(self, other) -> Self:
        if type(other) is not type(self):
            raise self._outside(f"Subtracting a {type(other).__name__}")
        return self.map_linear(lambda a, b: a - b, other)

    def __neg__(self) -> Self:
        return self.map_linear(lambda a: -a)

    def __truediv__(self, factor: float) -> Self:
        if not isinstance(factor, (int, float)):
            raise self._outside(f"Dividing by a {type(factor).__name__}")
        return self.map_linear(lambda a: a / factor)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Traced(Message):
    """A value x[t], its trace Σ_{τ≤t} λ^{t−τ} x[τ], both [B, ...], and the gain Λ[t] = Σ_{τ≤t} λ^{t−τ}, a scalar."""

    value: jax.Array
    trace: jax.Array
    gain: jax.Array

    def map_linear(self, function, *others):
        value = function(self.value, *(o.value for o in others))
        return Traced(value, function(self.trace, *(o.trace for o in others)), self.gain)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rate(Message):
    """A weighted mean over time, (Σ_{τ≤t} λ^{t−τ} x[τ]) / Λ[t], [B, ...]; of spikes, it lies in [0, 1]."""

    value: jax.Array

    def map_linear(self, function, *others):
        return Rate(function(self.value, *(o.value for o in others)))


def is_message(x: object) -> bool:
    """Whether x is a message of a rule that propagates more than plain spikes."""
    return isinstance(x, Message)
