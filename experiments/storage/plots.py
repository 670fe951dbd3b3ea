"""The two figures of a run, drawn from its metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from safjax.plots import rates

# Blue and vermilion of Okabe and Ito's palette, told apart under every common colour-blindness.
STYLES = {"train": {"color": "#0072B2", "linestyle": "--"}, "test": {"color": "#D55E00", "linestyle": "-"}}
MARKERS = "osD^vP*X"
LEGEND_ROWS = 12  # of layers, which stand beside the axes in full size
LEGEND_COLUMN = 1.1  # inches


def draw_curves(records: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Loss and accuracy of training and test over the epochs.

    Args:
      records: lines of `metrics.jsonl`, at least one.
      title: above the figure.
      path: of the PNG.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    for axes, quantity in ((left, "loss"), (right, "accuracy")):
        for split, style in STYLES.items():
            values = [record[f"{split}_{quantity}"] for record in records]
            axes.plot(_epochs(records), values, label=split, **_dots(records), **style)
        axes.set_ylabel(quantity)
        _finish(axes, len(records))
        axes.legend(frameon=False)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    figure.savefig(path, dpi=150)


def draw_firing_rates(records: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """The firing rate of every layer over the epochs; arguments as of `draw_curves`."""
    layers = list(records[0]["rates"])
    columns = -(-len(layers) // LEGEND_ROWS)
    figure = Figure(figsize=(5.9 + LEGEND_COLUMN * columns, 4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    # The end of the map is too pale for a line on white.
    colours = colormaps["viridis"].resampled(len(layers) + 1)
    values = {f"layer {n}": [record["rates"][layer] for record in records] for n, layer in enumerate(layers, 1)}

    def look(number: int) -> dict[str, Any]:
        return {**_dots(records), "marker": MARKERS[number % len(MARKERS)], "color": colours(number)}

    rates(values, axes, over=_epochs(records), look=look)
    axes.set_ylabel("firing rate (spikes per neuron and step)")
    _finish(axes, len(records))
    axes.legend(
        title="from the input up",
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=columns,
        columnspacing=1,
    )
    figure.savefig(path, dpi=150)


def _epochs(records: Sequence[dict[str, Any]]) -> list[int]:
    return [record["epoch"] for record in records]


def _dots(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    # At most some ten markers a line, and one at least, so that a single epoch shows as a point.
    return {"marker": "o", "markersize": 4, "markevery": -(-len(records) // 10)}


def _finish(axes: Axes, epochs: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
