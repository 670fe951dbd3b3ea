"""The base of all messages, which may be added and scaled; and the one of which nothing is known yet."""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import jax


def _refused(what: str) -> Callable[..., Any]:
    def method(self: "Message", *others: Any) -> NoReturn:
        raise self._outside(what)

    return method


def _named(x: Any) -> str:
    if isinstance(x, Message):
        return "the result of another spiking layer"
    return f"an array of shape {list(x.shape)}" if hasattr(x, "shape") else f"a {type(x).__name__}"


class Message(abc.ABC):
    """Addition of messages and scaling by a number; everything else is refused with the way out."""

    @abc.abstractmethod
    def map_linear(self, function: Callable[..., jax.Array], *others: Any) -> Any:
        """Applies a linear function to each component that carries signal."""

    def detached(self) -> Self:
        """The same message, traces, rates and means included, but a constant of differentiation."""
        return jax.lax.stop_gradient(self)

    described: ClassVar[str]  # in error messages

    def _outside(self, what: str) -> TypeError:
        return TypeError(
            f"{what} met {self.described}, which is no plain array. What spiking layers return may be added, "
            "subtracted and scaled by a Python number; every other function of it stands in a safjax.nn.Synapse, made "
            "in the net's __init__: Synapse(nnx.Linear(...)), Synapse(lambda x: x.reshape(x.shape[0], -1)). "
            f"{self._of_two}"
        )

    @property
    def _of_two(self) -> str:
        return (
            "So does a function of two of them, both = Synapse(lambda a, b: a * b), which is called as both(a, b) and "
            "takes plain arrays too, such as the net's input; under rules that accumulate it is affine in all its "
            "inputs together, a sum but no product. safjax.nn.concatenate(a, b) joins them along their last axis. "
            "A plain array is added as Synapse(lambda x: x)(array)."
        )

    @property
    def peers(self) -> type | tuple[type, ...]:
        """What it may be added to."""
        return type(self)

    @property
    @abc.abstractmethod
    def step_shape(self) -> tuple[int, ...]:
        """The shape [B, ...] of one step's signal."""

    def check(self, path: str, steps: int, batch: int) -> None:
        """Refuses, for the layer at `path`, a message that is not that of one layer over T steps of B examples.

        Raises:
          ValueError: a map over layers has stacked it.
        """
        del path, steps, batch

    def _stacked(self, path: str, shape: tuple[int, ...], expected: str) -> ValueError:
        return ValueError(
            f"The layer at '{path}' was given an input of shape {list(shape)}, but expected is {expected}: an axis of "
            "layers stands in front, as after nnx.vmap, and this rule would take it for another one. Layers beside "
            "one another are called in a Python loop over an nnx.List, layers after one another may run in nnx.scan; "
            "out of an nnx.vmap may come what a readout returns."
        )

    def __jax_array__(self) -> Any:
        raise self._outside("A jax function")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self._outside("A numpy function")

    if not TYPE_CHECKING:
        # Hidden from type checkers, to whom every name would be an attribute.
        def __getattr__(self, name: str) -> NoReturn:
            # What a plain array would have had: .reshape, .shape, .mean ...
            if name.startswith("__"):
                raise AttributeError(name)
            raise self._outside(f"A function or layer for arrays, which asks for '.{name}',")

    # Arrays have these too; without them Python's own error, or a wrong answer, would take the place of a way out.
    __getitem__ = _refused("Indexing")
    __len__ = _refused("len()")
    __bool__ = _refused("A truth value")
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refused("A comparison")
    __hash__ = object.__hash__
    __rsub__ = _refused("Subtracting it from something else")
    __pow__ = __rpow__ = _refused("A power")
    __matmul__ = __rmatmul__ = _refused("A matrix product")
    __mod__ = __floordiv__ = _refused("A division with remainder")
    __rtruediv__ = _refused("Dividing by it")
    __abs__ = _refused("abs()")
    __invert__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refused("A logical operation")

    def __add__(self, other: Any) -> Self:
        # Python's sum() starts from 0.
        if isinstance(other, Silence) or (isinstance(other, int) and other == 0):
            return self
        self.refuse_others("Adding", [other])
        return self.map_linear(lambda a, b: a + b, other)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Self:
        if not isinstance(factor, (int, float)):
            raise self._outside(f"Multiplying by {_named(factor)}")
        return self.map_linear(lambda a: factor * a)

    __rmul__ = __mul__

    def refuse_others(self, what: str, parts: Iterable[Any]) -> None:
        """Refuses to do this, a participle, with parts that are not of its kind.

        Raises:
          TypeError: there is one.
        """
        for part in parts:
            if not isinstance(part, self.peers):
                raise self._outside(f"{what} {_named(part)}")

    def __sub__(self, other: Any) -> Self:
        if isinstance(other, Silence):
            return self
        self.refuse_others("Subtracting", [other])
        return self.map_linear(lambda a, b: a - b, other)

    def __neg__(self) -> Self:
        return self.map_linear(lambda a: -a)

    def __pos__(self) -> Self:
        return self

    def __truediv__(self, factor: float) -> Self:
        if not isinstance(factor, (int, float)):
            raise self._outside(f"Dividing by {_named(factor)}")
        return self.map_linear(lambda a: a / factor)


@dataclasses.dataclass(frozen=True, eq=False)
class Silence(Message):
    """A message of which nothing is known yet, not even its shape: it adds nothing to others."""

    described = "what a Delay hands back"

    @property
    def _of_two(self) -> str:
        return "So does a function of it and something else, both = Synapse(lambda a, b: a * b)."

    @property
    def __jax_array__(self) -> Any:
        # An array that finds no such method leaves a sum to `__radd__`.
        raise AttributeError

    @property
    def step_shape(self) -> tuple[int, ...]:
        return ()

    def map_linear(self, function: Callable[..., jax.Array], *others: Any) -> Self:
        return self

    def detached(self) -> Self:
        return self

    def __add__(self, other: Any) -> Any:
        return self if isinstance(other, int) and other == 0 else other

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return -other

    def __rsub__(self, other: Any) -> Any:
        return other


def is_message(x: object) -> bool:
    """Whether x is a message of a rule that propagates more than plain spikes."""
    return isinstance(x, Message)
