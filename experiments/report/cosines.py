"""Figures of how like the gradients of rules are to exact ones; rules with the same gradients share a curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Panels = Mapping[str, Mapping[str, np.ndarray]]
"""{title: {rule: cosines}}; every panel has the same rules."""

SAME = 2e-3
"""Curves that are nowhere further apart are drawn once, under all their names."""
BESIDE = 0.06
"""Between the bars of two rules, which would hide one another."""


def draw_by_part(panels: Panels, parts: Sequence[str], columns: int, path: Path) -> None:
    """The mean over nets and its standard deviation, of each part of a net.

    Args:
      panels: of cosines [nets, parts]. The last part is all of them, to which no line leads.
      parts: their names.
      columns: panels side by side.
      path: of the PNG.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns + 2, 3.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        for number, (name, rule) in enumerate(_shared(panels).items()):
            places = np.arange(len(parts)) + BESIDE * (number - 2)
            mean, deviation, look = curves[rule].mean(0), curves[rule].std(0), _look(number)
            axes.errorbar(places[:-1], mean[:-1], deviation[:-1], label=name, capsize=2, **look)
            axes.errorbar(places[-1:], mean[-1:], deviation[-1:], capsize=2, **look)
        axes.set_xticks(range(len(parts)), parts)
        _finish(axes, title, "weights of layer")
    _save(figure, path)


def draw_over_updates(panels: Panels, updates: Sequence[int], path: Path) -> None:
    """Cosines [moments] over the numbers of updates at which they were taken."""
    figure = Figure(figsize=(5 * len(panels) + 2, 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).flat
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        for number, (name, rule) in enumerate(_shared(panels).items()):
            axes.plot(updates, curves[rule], label=name, **_look(number))
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
    axes.set_ylabel("cosine of gradients")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)
