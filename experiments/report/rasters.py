"""Spike rasters: a dot for each spike, neurons upwards, the steps of one example after those of another."""

from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from experiments.report.activity import Activity
from experiments.report.charts import Chart
from experiments.report.drawing import INK, axes, style, svg
from safjax import plots

EXAMPLES, NEURONS = 4, 60
"""The most examples and neurons that a raster shows."""


def raster(name: str, layer: str, number: int, seen: Activity) -> Chart:
    """The spikes of one layer.

    Args:
      name: of the run.
      number: of the layer, counted from 0 at the input.
    """
    spikes = seen.spikes[layer]
    steps, examples = len(spikes), min(EXAMPLES, len(seen.classes))
    flat = spikes[:, :examples].reshape(steps, examples, -1)
    chosen = np.unique(np.linspace(0, flat.shape[-1] - 1, NEURONS).round().astype(int))
    # [examples * steps, neurons]
    shown = flat[..., chosen].swapaxes(0, 1).reshape(examples * steps, -1)
    chart = axes(4.2, 2.6, "step of each example", "neuron")
    chart.grid(False)
    apart = (flat.shape[-1] - 1) / max(len(chosen) - 1, 1)
    times, colour = np.arange(len(shown)), style(number)[0]
    plots.raster(shown, chart, times=times, rows=chosen, height=0.84 * max(apart, 1), color=colour)
    for border in range(1, examples):
        chart.axvline(border * steps - 0.5, color=INK, linewidth=0.8)
    for example, label in enumerate(seen.classes[:examples]):
        above: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "textcoords": "offset points"}
        chart.annotate(f"class {label}", ((example + 0.5) * steps - 0.5, 1), **above, ha="center", size=8, color=INK)
    chart.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _number_steps(chart, steps, examples)
    rate = float(np.mean(flat, dtype=float))
    of = f"{len(chosen)} of {flat.shape[-1]:,} neurons" if len(chosen) < flat.shape[-1] else f"{len(chosen)} neurons"
    caption = f"{number + 1} {layer}: {of}, {examples} test examples, {rate:.3f} spikes per neuron and step."
    return Chart(svg(chart, f"Spike raster of {name}, layer {caption}"), caption, [])


def _number_steps(chart, steps: int, examples: int) -> None:
    every = max(1, -(-steps * examples // 12))
    marked = [(example * steps + step, step + 1) for example in range(examples) for step in range(0, steps, every)]
    chart.xaxis.set_major_locator(FixedLocator([place for place, _ in marked]))
    chart.xaxis.set_minor_locator(NullLocator())
    chart.set_xticklabels([str(step) for _, step in marked])
