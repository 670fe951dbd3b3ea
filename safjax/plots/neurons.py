"""What neurons do over time: their spikes, and their membranes."""

import typing
from typing import Any

import numpy as np

from safjax.plots.arrays import numbers, same_length, steps
from safjax.plots.library import COLOURS, axes_of, finish, whole_numbers

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-5
"""Of the largest potential: two records of one membrane differ by rounding where there is no reset."""
OF_ONE = "[T, N], of N neurons of one example; of records[T, B, ...] take example b, records[:, b].reshape(T, -1)"


def raster(
    spikes: Any,
    ax: "Axes | None" = None,
    *,
    times: Any = None,
    rows: Any = None,
    height: float = 0.84,
    color: Any = "black",
    linewidth: float | None = None,
) -> "Axes":
    """A bar for each spike, time to the right, neurons upwards.

    Args:
      spikes: s[T, N], drawn where they are not 0; several spikes in a step are one bar.
      ax: where it is drawn; None makes a figure.
      times: where the steps stand, [T]; None counts them from 1.
      rows: where the neurons stand, [N]; None counts them from 0.
      height: of a bar, in rows.
      color, linewidth: of the bars, as matplotlib has them; None takes a width for the number of steps.

    Returns:
      The axes. Their last line goes through the lower and upper ends of all bars, with NaN between two bars.

    Raises:
      TypeError, ValueError: what is given has another shape, or `ax` is none.
      ModuleNotFoundError: matplotlib is not installed.
    """
    fired = numbers("raster", "spikes", spikes, OF_ONE, 2)
    at = steps("raster", times, len(fired))
    places = np.arange(fired.shape[1], dtype=float) if rows is None else numbers("raster", "rows", rows, "[N]", 1)
    same_length("raster", "rows", places, fired.shape[1], "neurons")
    chart = axes_of(ax, grid=False)
    step, neuron = np.nonzero(fired)
    middle = places[neuron]
    bars = np.stack([middle - height / 2, middle + height / 2, np.full(len(middle), np.nan)], 1).ravel()
    width = max(0.8, min(6, 150 / len(fired))) if linewidth is None else linewidth
    chart.plot(at[step].repeat(3), bars, color=color, linewidth=width, solid_capstyle="butt")
    margin = 0.5 * (at[-1] - at[0]) / max(len(at) - 1, 1) or 0.5
    chart.set_xlim(at[0] - margin, at[-1] + margin)
    chart.set_ylim(places.min() - height / 1.2, places.max() + height / 1.2)
    if times is None:
        whole_numbers(chart.xaxis)
    if rows is None:
        whole_numbers(chart.yaxis)
    finish(chart, "time step" if times is None else "time", "neuron")
    return chart


def membranes(
    potential: Any,
    membrane: Any,
    ax: "Axes | None" = None,
    *,
    threshold: Any = 1.0,
    times: Any = None,
    labels: Any = None,
) -> "Axes":
    """Membrane potentials: u[t], from where a reset leads straight down to m[t], and the threshold.

    Args:
      potential: u[T, N] before the reset, `simulate`'s record "potential"; or [T] of one neuron.
      membrane: m[T, N] after it, the record "membrane", of the same shape. Where they differ by more than rounding, a
        point at u marks the reset.
      ax: where it is drawn; None makes a figure.
      threshold: θ: one number, one for each neuron [N], one for each step and neuron [T, N], or None to draw none.
      times: where the steps stand, [T]; None counts them from 1.
      labels: N names for the legend.

    Returns:
      The axes. A line for each neuron goes through u[1], m[1], u[2], m[2] …; one behind it has the points of its
      resets; the thresholds' lines, dashed, come first.

    Raises:
      TypeError, ValueError: what is given has another shape, or `ax` is none.
      ModuleNotFoundError: matplotlib is not installed.
    """
    before = numbers("membranes", "potential", potential, f"[T] of one neuron, or {OF_ONE}", 1, 2)
    after = numbers("membranes", "membrane", membrane, f"{list(before.shape)}, as the potential is", before.ndim)
    if after.shape != before.shape:
        raise ValueError(
            f"plots.membranes: potential and membrane must be of one shape, but are {list(before.shape)} and "
            f"{list(after.shape)}."
        )
    before, after = (a.reshape(len(a), -1) for a in (before, after))
    at = steps("membranes", times, len(before))
    if labels is not None:
        same_length("membranes", "labels", labels, before.shape[1], "neurons")
    chart = axes_of(ax, grid=False)
    if threshold is not None:
        _thresholds(chart, at, threshold, before.shape)
    for number, (u, m) in enumerate(zip(before.T, after.T, strict=True)):
        colour, label = COLOURS[number % len(COLOURS)], None if labels is None else labels[number]
        chart.plot(at.repeat(2), np.stack([u, m], 1).ravel(), color=colour, linewidth=1.2, label=label)
        reset = np.abs(u - m) > ROUNDING * np.max(np.abs(u))
        chart.plot(at[reset], u[reset], color=colour, linestyle="none", marker="o", markersize=3.5)
    finish(chart, "time step" if times is None else "time", "membrane potential", legend=ax is None)
    return chart


def _thresholds(chart: "Axes", at: np.ndarray, threshold: Any, shape: tuple[int, ...]) -> None:
    """One dashed line where all neurons have the same threshold, else one for each in its colour."""
    given = numbers("membranes", "threshold", threshold, "a number, [N] or [T, N], or None", 0, 1, 2)
    if given.ndim and given.shape not in (shape, shape[1:]):
        raise ValueError(
            f"plots.membranes: threshold must be a number, [N] = {list(shape[1:])} or [T, N] = {list(shape)}, but has "
            f"the shape {list(given.shape)}."
        )
    levels = np.broadcast_to(given, shape)
    alike = bool((levels == levels[:, :1]).all())
    for number, level in enumerate(levels[:, :1].T if alike else levels.T):
        colour = "0.4" if alike else COLOURS[number % len(COLOURS)]
        chart.plot(at, level, color=colour, linewidth=0.8, linestyle="--")
