"""Factors folded into weights, which every reader knows, in the place of `Scale` nodes, which few do."""

from typing import Any

import numpy as np

from safjax.nir.drawing import Drawing

WEIGHTED = ("Affine", "Linear", "Conv1d", "Conv2d")


def fold_scales(drawing: Drawing) -> None:
    """Takes out the `Scale` nodes that stand right behind weights, or right before them.

    c (W x + b) = (c W) x + c b, and W (c x) = (W c) x, where nothing else leads out of, or into, these weights. On its
    way there one factor for all passes poolings and flattenings.
    """
    while any(_pushed(drawing, name) for name in _scales(drawing)):
        pass
    for name in _scales(drawing):
        factors = np.asarray(drawing.nodes[name].scale)
        sources = [a for a, b in drawing.edges if b == name]
        targets = [b for a, b in drawing.edges if a == name]
        kept = any(source == name for wire in drawing.kept.values() for source, _ in wire.sources)
        if all(_only_to(drawing, a, name) and _fits(drawing, a, factors, "out") for a in sources):
            for a in sources:
                _multiply(drawing.nodes[a], factors, "out")
            _bridge(drawing, name)
        elif (
            targets
            and not kept
            and all(_only_from(drawing, name, b) and _fits(drawing, b, factors, "in") for b in targets)
        ):
            for b in targets:
                _multiply(drawing.nodes[b], factors, "in")
            _bridge(drawing, name)


def _scales(drawing: Drawing) -> list[str]:
    return [name for name, node in drawing.nodes.items() if type(node).__name__ == "Scale"]


def _pushed(drawing: Drawing, name: str) -> bool:
    """Puts a `Scale` behind the pooling or flattening that it leads to; whether it did."""
    factors, targets = np.asarray(drawing.nodes[name].scale), [b for a, b in drawing.edges if a == name]
    kept = {source for wire in drawing.kept.values() for source, _ in wire.sources}
    if len(targets) != 1 or np.any(factors != factors.flat[0]) or kept & {name, *targets}:
        return False
    (target,) = targets
    passes = type(drawing.nodes.get(target)).__name__ in ("AvgPool2d", "SumPool2d", "Flatten")
    if not passes or [a for a, b in drawing.edges if b == target] != [name]:
        return False
    swapped = {name: target, target: name}
    shape, lag = drawing.shapes[target], drawing.edges.pop((name, target))
    into = {(a, b): n for (a, b), n in drawing.edges.items() if b == name}
    out = {(a, b): n for (a, b), n in drawing.edges.items() if a == target}
    drawing.edges = {edge: n for edge, n in drawing.edges.items() if edge not in into and edge not in out}
    drawing.edges.update({(a, swapped[b]): n + lag for (a, b), n in into.items()})
    drawing.edges.update({(swapped[a], b): n for (a, b), n in out.items()})
    drawing.edges[target, name] = 0
    drawing.nodes[name], drawing.shapes[name] = drawing.nir.Scale(np.full(shape, factors.flat[0])), shape
    return True


def _weighted(drawing: Drawing, name: str) -> bool:
    return type(drawing.nodes.get(name)).__name__ in WEIGHTED


def _only_to(drawing: Drawing, name: str, target: str) -> bool:
    ends = [b for a, b in drawing.edges if a == name]
    kept = any(source == name for wire in drawing.kept.values() for source, _ in wire.sources)
    return _weighted(drawing, name) and ends == [target] and not kept


def _only_from(drawing: Drawing, name: str, target: str) -> bool:
    return _weighted(drawing, target) and [a for a, b in drawing.edges if b == target] == [name]


def _per_channel(factors: np.ndarray) -> np.ndarray | None:
    """One factor for each channel; None where places differ."""
    flat = factors.reshape(len(factors), -1)
    return flat[:, 0] if np.all(flat == flat[:, :1]) else None


def _fits(drawing: Drawing, name: str, factors: np.ndarray, side: str) -> bool:
    node = drawing.nodes[name]
    if type(node).__name__ in ("Affine", "Linear"):
        return True
    channels = _per_channel(factors)
    grouped = int(np.asarray(node.groups)) != 1
    return channels is not None and not (side == "in" and grouped and len(set(channels)) > 1)


def _multiply(node: Any, factors: np.ndarray, side: str) -> None:
    weight, kind = node.weight, type(node).__name__
    if kind in ("Affine", "Linear"):
        c = factors[:, None] if side == "out" else factors[None, :]
    else:
        channels = _per_channel(factors)
        assert channels is not None
        channels = channels[:1] if side == "in" and int(np.asarray(node.groups)) != 1 else channels
        c = channels.reshape((-1, *(1,) * (weight.ndim - 1)) if side == "out" else (1, -1, *(1,) * (weight.ndim - 2)))
    node.weight = (weight * c).astype(_format(weight, c))
    if side == "out" and hasattr(node, "bias"):
        node.bias = (node.bias * c.ravel()).astype(_format(node.bias, c))


def _format(weight: np.ndarray, factors: Any) -> Any:
    """That of the weights where the factors are powers of two, which round nothing; else the wider one."""
    mantissas = np.abs(np.frexp(np.asarray(factors, np.float64))[0])
    return weight.dtype if np.all((mantissas == 0.5) | (mantissas == 0)) else np.result_type(weight, np.float64)


def _bridge(drawing: Drawing, name: str) -> None:
    """Takes a node out: what leads to it leads to where it leads."""
    into = [(a, lag) for (a, b), lag in drawing.edges.items() if b == name]
    out = [(b, lag) for (a, b), lag in drawing.edges.items() if a == name]
    drawing.edges = {edge: lag for edge, lag in drawing.edges.items() if name not in edge}
    drawing.edges.update({(a, b): before + behind for a, before in into for b, behind in out})
    for path, wire in drawing.kept.items():
        sources = [
            s for one, lag in wire.sources for s in ([(a, n + lag) for a, n in into] if one == name else [(one, lag)])
        ]
        drawing.kept[path] = type(wire)(wire.drawing, tuple(sources), wire.shape, wire.batch, wire.order, wire.final)
    del drawing.nodes[name], drawing.shapes[name]
