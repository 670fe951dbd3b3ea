"""A net drawn as a graph: its own call, with wires in the place of spikes and currents.

Every spiking layer is bound to a propagation of its own, `Drawn`, under which it adds its node to one `Drawing` and
hands on a `Wire`: which nodes' results add up to what it returns.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from safjax.messages import Message
from safjax.nir.arrays import Shape, first

INPUT, OUTPUT = "input", "output"


def refused(path: str, why: str) -> ValueError:
    """That a layer cannot be written."""
    return ValueError(f"to_nir: '{path}' {why}")


class Drawing:
    """Nodes and edges so far.

    Attributes:
      nir: the package.
      dt: the time step.
      gain: as of `to_nir`.
      nodes: by name.
      shapes: those of what comes out of nodes, channels first.
      edges: {(from, to): after how many steps}; "from" may be the path of a `Delay`, see `kept`.
      kept: what each `Delay` keeps, by its path.
      subtracting: the paths of neurons whose reset is no part of NIR.

    Args:
      join: (drawing, path, function, wires) ↦ the wire of a function of several wires.
    """

    def __init__(self, nir: Any, dt: float, gain: str | None, join: Callable[..., "Wire"]):
        self.nir, self.dt, self.gain, self.join = nir, dt, gain, join
        self.nodes: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.edges: dict[tuple[str, str], int] = {}
        self.kept: dict[str, Wire] = {}
        self.subtracting: list[str] = []

    def add(self, path: str, node: Any, wire: "Wire", shape: Shape | None = None, order: Any = None) -> "Wire":
        """The wire behind a new node.

        Args:
          path: of the layer that it is of.
          node: of the package nir.
          wire: what leads to it.
          shape: that of its result, channels last; None for that of the wire.
          order: of its result.
        """
        shape = wire.shape if shape is None else shape
        name = self.name(path)
        self.nodes[name], self.shapes[name] = node, first(shape)
        node.input_type, node.output_type = {"input": np.array(first(wire.shape))}, {"output": np.array(first(shape))}
        for source, lag in wire.sources:
            self.edges[source, name] = lag
        return dataclasses.replace(wire, sources=((name, 0),), shape=shape, order=order)

    def name(self, path: str) -> str:
        """A name for the next node of this layer."""
        plain = path.replace(".", "_").replace(" ", "_").replace("/", "_")
        name, number = plain, 1
        while name in self.nodes or name in (INPUT, OUTPUT):
            number += 1
            name = f"{plain}_{number}"
        return name

    def scaled(self, path: str, wire: "Wire", factor: Any) -> "Wire":
        """A wire times a number, or an array that broadcasts to its shape, channels last."""
        factors = wire.spread(factor)
        return self.add(path, self.nir.Scale(factors), wire, order=wire.order)

    def straight(self, path: str, wire: "Wire") -> "Wire":
        """The wire in the order that safjax has, of which the graph's may be another one."""
        if wire.order is None or np.array_equal(wire.order, np.arange(len(wire.order))):
            return dataclasses.replace(wire, order=None)
        weight = np.zeros((len(wire.order), len(wire.order)), np.float32)
        weight[np.arange(len(wire.order)), wire.order] = 1
        return self.add(f"{path}.order", self.nir.Linear(weight), wire)


@dataclasses.dataclass(frozen=True, eq=False)
class Wire(Message):
    """What stands for a layer's result while a net is drawn.

    Attributes:
      drawing: that it is part of.
      sources: (node, steps) whose results, of that many steps before, add up to it.
      shape: of one example, channels last.
      batch: B.
      order: where a flat result's entries are found in the graph: entry i of safjax is entry order[i]; None for i.
      final: whether it is a readout's result.
    """

    drawing: Drawing
    sources: tuple[tuple[str, int], ...]
    shape: Shape
    batch: int
    order: Any = None
    final: bool = False

    described = "a part of a net that is being written as a NIR graph"

    @property
    def step_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.shape)

    @property
    def _of_two(self) -> str:
        return "What stands before the first or behind the last spiking layer is no part of a graph: leave it out."

    def map_linear(self, function: Any, *others: Any) -> Any:
        # Of vectors side by side, as safjax.nn.concatenate puts them.
        return self.drawing.join(self.drawing, "concatenate", function, [self, *others])

    def spread(self, number: Any) -> np.ndarray:
        """A number, or an array that broadcasts to the shape, as a node holds it: float64, channels first."""
        array = np.broadcast_to(np.asarray(number, np.float64), self.shape)
        array = np.moveaxis(array, -1, 0) if array.ndim > 1 else array
        if self.order is None:
            return np.array(array)
        ordered = np.empty_like(array)
        ordered[self.order] = array
        return ordered

    def __add__(self, other: Any) -> "Wire":
        if isinstance(other, int) and other == 0:
            return self
        self.refuse_others("Adding", [other])
        self._refuse_final(other)
        if other.shape != self.shape:
            raise ValueError(
                f"to_nir: what has the shapes {list(self.shape)} and {list(other.shape)} is added up, but edges into "
                "one node have one shape."
            )
        if not np.array_equal(self.order, other.order):
            one, two = (self.drawing.straight("sum", wire) for wire in (self, other))
            return one + two
        if {name for name, _ in self.sources} & {name for name, _ in other.sources}:
            # Of one node to another there is one edge.
            other = self.drawing.scaled("sum", other, 1.0)
        return dataclasses.replace(self, sources=(*self.sources, *other.sources))

    __radd__ = __add__

    def __mul__(self, factor: float) -> "Wire":
        if not isinstance(factor, int | float):
            raise self._outside(f"Multiplying by a {type(factor).__name__}")
        self._refuse_final(self)
        return self.drawing.scaled("scale", self, factor)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> "Wire":
        self.refuse_others("Subtracting", [other])
        return self + (-other)

    def __neg__(self) -> "Wire":
        return self * -1.0

    def __truediv__(self, factor: float) -> "Wire":
        if not isinstance(factor, int | float):
            raise self._outside(f"Dividing by a {type(factor).__name__}")
        return self * (1 / factor)

    def _refuse_final(self, other: Any) -> None:
        if self.final or other.final:
            raise ValueError(
                "to_nir: the net computes with what its readout returns, which is no part of a graph. Return the "
                "readout's result as it is, and one readout's only."
            )
