"""Figures of how like the gradients of rules are to exact ones; rules with the same gradients share a curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safjax import plots

Panels = Mapping[str, Mapping[str, np.ndarray]]
"""{title: {rule: cosines}}; every panel has the same rules."""

SAME = 2e-3
"""Curves that are nowhere further apart are drawn once, under all their names."""


def draw_by_part(panels: Panels, parts: Sequence[str], columns: int, path: Path) -> None:
    """The mean over nets and its standard deviation, of each part of a net.

    Args:
      panels: of cosines [nets, parts].
      parts: their names; to "all", the last, no line leads.
      columns: panels side by side.
      path: of the PNG.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns + 2, 3.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        plots.cosines({name: curves[rule] for name, rule in _shared(panels).items()}, axes, parts=parts, look=_look)
        _finish(axes, title, "weights of layer")
    _save(figure, path)


def draw_over_updates(panels: Panels, updates: Sequence[int], path: Path) -> None:
    """Cosines [moments] over the numbers of updates at which they were taken."""
    figure = Figure(figsize=(5 * len(panels) + 2, 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).flat
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        plots.cosines({name: curves[rule] for name, rule in _shared(panels).items()}, axes, parts=updates, look=_look)
        _finish(axes, title, "updates")
    _save(figure, path)


def _shared(panels: Panels) -> dict[str, str]:
    """{names of rules with the same curves in all panels: one of them}."""
    rules = list(next(iter(panels.values())))
    groups: list[list[str]] = []
    for rule in rules:
        group = next((group for group in groups if _same(panels, group[0], rule)), None)
        if group is None:
            groups.append([rule])
        else:
            group.append(rule)
    return {", ".join(group): group[0] for group in groups}


def _same(panels: Panels, one: str, other: str) -> bool:
    return all(np.allclose(curves[one], curves[other], rtol=0, atol=SAME, equal_nan=True) for curves in panels.values())


def _look(number: int) -> dict[str, Any]:
    return {"color": colormaps["tab10"](number % 10), "marker": "osD^vP*X"[number % 8], "markersize": 4}


def _finish(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(below)
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)
