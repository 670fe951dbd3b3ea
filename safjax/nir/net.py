"""A net wired as a NIR graph is."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from safjax.messages import is_message
from safjax.nir.arrays import Shape, last, listed
from safjax.nn import Delay, InstantReadout, LeakyReadout, Synapse


class Node(NamedTuple):
    """A node's place in a step.

    Attributes:
      name: under which its layer is found.
      sources: the nodes whose results of this step lead to it; None is the net's input.
      own: those among them that lie in a loop with it, whose results it is given undelayed where neurons answer late.
      delayed: the nodes whose results of the step before lead to it.
    """

    name: str
    sources: tuple[str | None, ...]
    own: tuple[str, ...]
    delayed: tuple[str, ...]


class Wired(nnx.Module):
    """What `from_nir` makes of a graph: its nodes as layers, wired by its edges; the net is trained as any other.

    A step goes through the nodes in the order of the edges. What several edges lead to a node adds up; what comes from
    a later node is that of the step before. The output is that of the output node.

    Attributes:
      layers: the layer of each node, by the node's name: `net.layers["lif1"]`; plots and records call it 'layers.lif1'.
      before: what stands before a node's neurons, such as a gain.
      behind: delays behind neurons that answer a step later.
      delays: what of each node is kept for the next step.
      shape: of one example of the input, channels last.
      names: the nodes' names in the graph, by those of the layers.

    Args:
      layers, before, behind: by names.
      nodes: in the order in which they are computed; the last one is the output.
      kept: the shapes of what is kept for the next step, channels last, by names.
      shape: of the input, channels first.
      names: see above.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        before: Mapping[str, Any],
        behind: Mapping[str, Any],
        nodes: tuple[Node, ...],
        kept: Mapping[str, Shape],
        shape: Shape,
        names: Mapping[str, str],
    ):
        self.layers, self.before, self.behind = nnx.Dict(layers), nnx.Dict(before), nnx.Dict(behind)
        self.delays = nnx.Dict({name: Delay(shape=size) for name, size in kept.items()})
        self.entry, self.readout = Synapse(_same), InstantReadout()
        self.nodes, self.shape, self.names = nodes, last(shape), tuple(names.items())

    def __call__(self, x: Any) -> Any:
        """One step: x[B, ...], channels last ↦ the result of the output node, channels last."""
        if not is_message(x) and tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"This net was read from a NIR graph and was given a step of shape {listed(tuple(x.shape))}, but "
                f"expected is {['B', *self.shape]}: the batch first, then one example with its channels last; NIR "
                "itself has them first."
            )
        recalled = {name: delay.recall() for name, delay in self.delays.items()}
        made: dict[str, Any] = {}
        late: dict[str, Any] = {}
        for node in self.nodes:
            given = [late[name] if name not in node.own else made[name] for name in node.sources if name is not None]
            given += [recalled[name] for name in node.delayed]
            if None in node.sources:
                given.insert(0, x if not given else self.entry(x))
            made[node.name] = self._made(node.name, sum(given[1:], given[0]))
            late[node.name] = self.behind[node.name](made[node.name]) if node.name in self.behind else made[node.name]
        for name, delay in self.delays.items():
            delay.keep(made[name])
        return made[self.nodes[-1].name]

    def _made(self, name: str, x: Any) -> Any:
        """What a node makes of what leads to it; the output reads it out, if nothing before it has."""
        if name not in self.layers:
            *_, end = self.nodes
            read = any(isinstance(self.layers.get(a), LeakyReadout) for a in end.sources if a is not None)
            return self.readout(x) if name == end.name and not read else x
        return self.layers[name](self.before[name](x) if name in self.before else x)


def _same(x: jax.Array) -> jax.Array:
    """x; makes the net's input something that may be added to what layers return."""
    return x
