"""A NIR graph as a plan of steps: sub-graphs inlined, loops cut, nodes in the order in which they are computed.

Edges that lead into one node add up. A loop takes one step: the node by which it is entered sees what came back in the
step before, and zeros at the first. That node is the one through which every path from the input leads to the others
of the loop (it dominates them; Aho, Sethi & Ullman, "Compilers", 1986, Sec. 10.4), so that the edge that is cut does
not hang on the order in which a file lists its edges. A loop with two entries has no such node and is refused.
"""

import dataclasses
import graphlib
from collections.abc import Iterable, Mapping
from typing import Any

Edge = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Nodes and edges of a flat graph.

    Attributes:
      nodes: by name, but for the input and the output.
      input, output: the names of the two, and the nodes themselves.
      order: the nodes' names as they are computed in a step.
      sources: for each of them, and for the output, what leads to it in the same step.
      delayed: and what comes from the step before.
      looped: the edges that lie within loops.
    """

    nodes: Mapping[str, Any]
    input: tuple[str, Any]
    output: tuple[str, Any]
    order: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    delayed: Mapping[str, tuple[str, ...]]
    looped: frozenset[Edge]


def planned(graph: Any, direct: bool) -> Plan:
    """The plan of a NIR graph; `direct` as of `Convention`.

    Raises:
      TypeError: graph is none.
      ValueError: it has not one input and one output, an edge or a node hangs in the air, or a loop has two entries.
    """
    if not isinstance(getattr(graph, "nodes", None), dict) or not hasattr(graph, "edges"):
        raise TypeError(
            f"from_nir(graph): expected a nir.NIRGraph, for instance nir.read('net.nir'), but was given a "
            f"{type(graph).__name__}."
        )
    nodes, edges = _inlined(graph, "", direct)
    ends = [_only(nodes, kind) for kind in ("Input", "Output")]
    _refuse_edges(nodes, edges)
    edges = sorted(set(edges))
    _refuse_loose(nodes, edges, ends[0])
    back = back_edges(ends[0], list(nodes), edges)
    forward = [edge for edge in edges if edge not in back]
    order = _order(nodes, forward, ends)
    inside = [name for name in nodes if name not in ends]
    into = {name: tuple(a for a, b in forward if b == name) for name in (*inside, ends[1])}
    delayed = {name: tuple(a for a, b in back if b == name) for name in (*inside, ends[1])}
    plain = {name: nodes[name] for name in inside}
    inside_loops = looped(nodes, edges)
    return Plan(plain, (ends[0], nodes[ends[0]]), (ends[1], nodes[ends[1]]), order, into, delayed, inside_loops)


def _kind(node: Any) -> str:
    return type(node).__name__


def _inlined(graph: Any, prefix: str, direct: bool) -> tuple[dict[str, Any], list[Edge]]:
    """(nodes, edges) with sub-graphs in their places, whose inputs and outputs become edges."""
    nodes: dict[str, Any] = {}
    edges = [(prefix + str(a), prefix + str(b)) for a, b in graph.edges]
    _refuse_doubled(edges)
    enters: dict[str, list[str]] = {}
    leaves: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        path = f"{prefix}{name}"
        if _kind(node) != "NIRGraph":
            nodes[path] = node
            continue
        inner, within = _inlined(node, f"{path}.", direct)
        start, end = (_only(inner, kind, f"the sub-graph '{path}'") for kind in ("Input", "Output"))
        within = _rewired(within, start) if direct else within
        enters[path] = [b for a, b in within if a == start]
        leaves[path] = [a for a, b in within if b == end]
        if start in leaves[path]:
            raise ValueError(
                f"from_nir: an edge of the sub-graph '{path}' leads from its input to its output past all nodes. Draw "
                "it around the sub-graph."
            )
        nodes.update({key: value for key, value in inner.items() if key not in (start, end)})
        edges += [edge for edge in within if start not in edge and end not in edge]
    return nodes, [(a, b) for x, y in edges for a in leaves.get(x, [x]) for b in enters.get(y, [y])]


def _rewired(edges: list[Edge], start: str) -> list[Edge]:
    """Edges from a sub-graph's input to recurrent weights lead to the neurons that these feed back to."""
    changed = []
    for a, b in edges:
        fed = [y for x, y in edges if x == b and (y, b) in edges] if a == start else []
        changed += [(a, y) for y in fed] or [(a, b)]
    return sorted(set(changed))


def _only(nodes: Mapping[str, Any], kind: str, where: str = "the graph") -> str:
    found = [name for name, node in nodes.items() if _kind(node) == kind]
    if len(found) != 1:
        listed = ", ".join(map(repr, found)) or "none"
        raise ValueError(
            f"from_nir: {where} has {len(found)} nodes of kind {kind}: {listed}. Expected is one. Nets of several "
            "inputs or outputs are read in parts, or wired by hand from safjax.nn."
        )
    return found[0]


def _refuse_doubled(edges: Iterable[Edge]) -> None:
    edges = list(edges)
    for edge in edges:
        if edges.count(edge) > 1:
            raise ValueError(
                f"from_nir: the edge from '{edge[0]}' to '{edge[1]}' is listed twice. Take one out; where it is "
                "meant to count twice, a Scale node says so."
            )


def _refuse_edges(nodes: Mapping[str, Any], edges: list[Edge]) -> None:
    for a, b in edges:
        for name in (a, b):
            if name not in nodes:
                raise ValueError(f"from_nir: an edge leads from '{a}' to '{b}', but there is no node '{name}'.")
        if _kind(nodes[b]) == "Input" or _kind(nodes[a]) == "Output":
            raise ValueError(f"from_nir: the edge from '{a}' to '{b}' leads into the input or out of the output.")


def _reached(start: Iterable[str], edges: list[Edge]) -> set[str]:
    found, waiting = set(start), list(start)
    while waiting:
        name = waiting.pop()
        new = {b for a, b in edges if a == name} - found
        found |= new
        waiting += new
    return found


def _refuse_loose(nodes: Mapping[str, Any], edges: list[Edge], start: str) -> None:
    reached = _reached([start], edges)
    for name in nodes:
        if name not in reached:
            raise ValueError(
                f"from_nir: no path leads from the input to the {_kind(nodes[name])} '{name}', so that nothing says "
                "what it is given. Take it out, or draw the missing edge."
            )


def back_edges(start: str, names: list[str], edges: list[Edge]) -> set[Edge]:
    """The edges that close loops: those whose end dominates their beginning."""
    into: dict[str, list[str]] = {name: [a for a, b in edges if b == name] for name in names}
    dominators = {name: set(names) for name in names} | {start: {start}}
    changed = True
    while changed:
        changed = False
        for name in names:
            if name == start:
                continue
            new = {name} | set.intersection(*(dominators[a] for a in into[name]))
            changed, dominators[name] = changed or new != dominators[name], new
    return {(a, b) for a, b in edges if b in dominators[a]}


def _order(nodes: Mapping[str, Any], forward: list[Edge], ends: list[str]) -> tuple[str, ...]:
    sorter = graphlib.TopologicalSorter({name: sorted(a for a, b in forward if b == name) for name in sorted(nodes)})
    try:
        return tuple(name for name in sorter.static_order() if name not in ends)
    except graphlib.CycleError as error:
        loop = ", ".join(f"'{name}'" for name in sorted(set(error.args[1])))
        raise ValueError(
            f"from_nir: the loop of {loop} is entered at more than one node, so that nothing says which of its edges "
            "takes the step that every loop has. Enter it at one node."
        ) from None


def looped(nodes: Iterable[str], edges: list[Edge]) -> frozenset[Edge]:
    """The edges that lie within loops."""
    reached = {name: _reached([name], edges) for name in nodes}
    return frozenset((a, b) for a, b in edges if a in reached[b])
