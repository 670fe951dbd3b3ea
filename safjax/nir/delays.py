"""One step of delay in a graph: `Delay` nodes where no loop is, and in a loop the step that every reader takes.

Where in a loop that step lies differs: safjax's `Recurrent` gives its weights the spikes of the step before, readers of
NIR give its neurons the weights' result of the step before. The two are one net if a number of steps ρ for each node
turns one into the other: delays w of safjax and w′ of NIR with w′(a, b) = w(a, b) + ρ(b) − ρ(a) on every edge, ρ = 0 at
the input and the output (Leiserson & Saxe, "Retiming synchronous circuitry", 1991). A node with ρ ≠ 0 is computed at
another step than in safjax; it must make nothing of zeros, so that biases are moved to weights outside of the loop.
"""

from typing import Any

import numpy as np

from safjax.nir.arrays import listed
from safjax.nir.drawing import INPUT, OUTPUT, Drawing
from safjax.nir.graphs import back_edges, looped
from safjax.nir.scales import WEIGHTED


def resolve_kept(drawing: Drawing) -> None:
    """Edges out of a `Delay` become edges out of what it keeps, one step later."""
    while found := [edge for edge in drawing.edges if edge[0] in drawing.kept]:
        path, target = found[0]
        lag = drawing.edges.pop((path, target))
        for source, more in drawing.kept[path].sources:
            if (source, target) in drawing.edges:
                source = _same(drawing, source)
            drawing.edges[source, target] = lag + more


def _same(drawing: Drawing, source: str) -> str:
    """A node that hands on what another one sends: of one node to another there is one edge."""
    shape = drawing.shapes[source]
    name = drawing.name("same")
    drawing.nodes[name], drawing.shapes[name] = drawing.nir.Scale(np.ones(shape)), shape
    drawing.edges[source, name] = 0
    return name


def place_delays(drawing: Drawing) -> None:
    """Delays outside of loops become nodes; those within loops are compared with what readers make of the graph.

    Raises:
      ValueError: they differ.
    """
    names = [INPUT, *drawing.nodes, OUTPUT]
    inside = looped(names, list(drawing.edges))
    for (a, b), lag in list(drawing.edges.items()):
        if lag and (a, b) not in inside:
            del drawing.edges[a, b]
            name = drawing.name("delay")
            shape = drawing.shapes[a]
            drawing.nodes[name], drawing.shapes[name] = drawing.nir.Delay(np.full(shape, lag * drawing.dt)), shape
            drawing.edges[a, name] = drawing.edges[name, b] = 0
    _compare(drawing)


def _compare(drawing: Drawing) -> None:
    edges = dict(drawing.edges)
    names = [INPUT, *drawing.nodes, OUTPUT]
    back = back_edges(INPUT, names, sorted(edges))
    shifts = {INPUT: 0}
    waiting = [INPUT]
    while waiting:
        a = waiting.pop()
        for (one, b), lag in edges.items():
            if one == a and b not in shifts:
                shifts[b] = shifts[a] + ((one, b) in back) - lag
                waiting.append(b)
    for (a, b), lag in edges.items():
        if shifts[b] - shifts[a] != ((a, b) in back) - lag or shifts[OUTPUT]:
            raise ValueError(
                f"to_nir: the delay on the way from '{a}' to '{b}' lies in a loop, where readers of NIR take one "
                "step in all, on the way back to where the loop is entered, and this net takes another number of "
                "steps, or takes them elsewhere. Loops of Recurrent, and of one Delay back to an earlier layer, are "
                "written."
            )
    for name, shift in shifts.items():
        if shift and name in drawing.nodes:
            _move_bias(drawing, name, {b for (a, b) in back if a == name}, shifts)


def _move_bias(drawing: Drawing, name: str, headers: set[str], shifts: dict[str, int]) -> None:
    """The bias of recurrent weights acts at the first step in safjax, in NIR from the second on: others take it "
    "over."""
    node = drawing.nodes[name]
    bias = getattr(node, "bias", None)
    if bias is None or not np.any(bias):
        return
    targets = [b for a, b in drawing.edges if a == name]
    others = [a for a, b in drawing.edges if targets == [b] and b in headers and _takes(drawing, a, node, shifts)]
    if not others:
        raise ValueError(
            f"to_nir: the recurrent weights '{name}' of shape {listed(np.shape(node.weight))} have a bias, which "
            "acts at the first step already; readers of NIR let it act from the second on, and no other weights with "
            "a bias lead to the same neurons. Write use_bias=False in the recurrent layer."
        )
    other = drawing.nodes[others[0]]
    if type(other).__name__ == "Linear":
        replaced = drawing.nir.Affine(other.weight, np.array(bias))
        replaced.input_type, replaced.output_type = other.input_type, other.output_type
        drawing.nodes[others[0]] = replaced
    else:
        other.bias = other.bias + bias
    node.bias = np.zeros_like(bias)


def _takes(drawing: Drawing, name: str, node: Any, shifts: dict[str, int]) -> bool:
    other = drawing.nodes.get(name)
    dense, kinds = ("Affine", "Linear"), (type(other).__name__, type(node).__name__)
    alike = all(kind in dense for kind in kinds) or (kinds[0] == kinds[1] and kinds[0] in WEIGHTED)
    alone = len([b for a, b in drawing.edges if a == name]) == 1
    return alike and alone and other is not node and shifts.get(name) == 0
