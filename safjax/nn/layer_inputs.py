"""What the layers of known width want of their inputs, and what they are given when a net runs."""

import contextvars
import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flax import nnx

from safjax.nn.convolution import WSConv
from safjax.nn.states import join, modules

Convolution = nnx.Conv | nnx.ConvTranspose | WSConv
Known = Convolution | nnx.Linear | nnx.LinearGeneral


class Reached(NamedTuple):
    """A call of a layer of known width.

    Attributes:
      path, kind: where the layer is in the net, and what it is.
      rank: how many axes it wants, batch and features included; None for any number.
      width: how many features it wants on the last axis.
      shape: that of what it was given.
    """

    path: str
    kind: str
    rank: int | None
    width: int
    shape: tuple[int, ...]

    @property
    def wanted(self) -> str:
        """The input that it wants, as messages write it."""
        if self.rank is None:
            return f"[B, ..., {self.width}]"
        spatial = ("L",) if self.rank == 3 else ("H", "W") if self.rank == 4 else ("D", "H", "W")
        return f"[{', '.join(('B', *spatial, str(self.width)))}]"

    @property
    def fits(self) -> bool:
        """Whether it was given what it wants."""
        return self.rank in (None, len(self.shape)) and self.shape[-1:] == (self.width,) and len(self.shape) > 1


def convolution_ranks(net: nnx.Module) -> set[Any]:
    """How many axes the convolutions of a net want."""
    return {_wants(module)[0] for _, module in modules(net) if isinstance(module, Convolution)}


def _wants(module: Any) -> tuple[int | None, int]:
    """(rank, width) of a layer of known width."""
    if isinstance(module, WSConv):
        return 4, module.kernel.shape[-2]
    if isinstance(module, nnx.Conv | nnx.ConvTranspose):
        return len(module.kernel_size) + 2, module.in_features
    return None, module.in_features if isinstance(module, nnx.Linear) else module.in_features[-1]


@dataclasses.dataclass
class Calls:
    """The calls of a net's layers of known width, in their order, and the one that raised."""

    all: list[Reached] = dataclasses.field(default_factory=list)
    failed: Reached | None = None


_calls: contextvars.ContextVar[Calls | None] = contextvars.ContextVar("calls", default=None)


@contextmanager
def recorded(net: nnx.Module) -> Iterator[Calls]:
    """Collects the calls of the net's layers of known width as long as the context lasts.

    The net is changed, it and the copies that are made of it alone: its layers become ones that report.
    """
    for path, module in modules(net):
        if isinstance(module, Known) and getattr(module, "axis", (-1,))[-1] == -1:
            vars(module)["path_in_net"] = join(path)
            object.__setattr__(module, "__class__", _reporting(type(module)))
    calls = Calls()
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


@functools.cache
def _reporting(kind: type) -> type:
    """A layer of this kind that reports its calls."""

    def call(self: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        calls = _calls.get()
        if calls is None:
            return kind.__call__(self, inputs, *args, **options)
        reached = Reached(self.path_in_net, kind.__name__, *_wants(self), inputs.shape)
        calls.all.append(reached)
        try:
            return kind.__call__(self, inputs, *args, **options)
        except Exception:
            calls.failed = calls.failed or reached
            raise

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
