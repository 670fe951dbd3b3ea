"""The rows as bars."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.benchmark.runner import Row

# Blue and vermilion of Okabe and Ito's palette, told apart under every common colour-blindness.
OURS, PEER = "#0072B2", "#D55E00"
ROW_HEIGHT = 0.34  # inches


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Seconds of a step, median with its range, and peak memory with XLA's temporary buffers.

    Args:
      rows: that were measured, at least one.
      title: above the figure.
      path: of the PNG.
    """
    figure = Figure(figsize=(10, 1.5 + ROW_HEIGHT * len(rows)), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True)
    names, colours = [row.name for row in rows], [PEER if ":" in row.name else OURS for row in rows]
    medians = [row.median for row in rows]
    below = [row.median - min(row.seconds) for row in rows]
    above = [max(row.seconds) - row.median for row in rows]
    left.barh(names, medians, color=colours, xerr=[below, above], error_kw={"ecolor": "0.3", "capsize": 2})
    right.barh(names, [(row.peak_bytes or 0) / 1e6 for row in rows], color=colours, alpha=0.4, label="resident, peak")
    right.barh(names, [(row.temp_bytes or 0) / 1e6 for row in rows], color=colours, label="XLA, temporary")
    right.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    _finish(left, "seconds a step: median, least and most")
    _finish(right, "MB")
    left.invert_yaxis()
    figure.savefig(path, dpi=150)


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
