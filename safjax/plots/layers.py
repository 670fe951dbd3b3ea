"""Firing rates of layers: as bars, or over time."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from safjax.plots.arrays import numbers, same_length
from safjax.plots.library import Look, axes_of, finish, look_of

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 0.8
"""Width of the bars of one layer together; the distance between two layers is 1."""


def rates(
    rates: Mapping[str, Any],
    ax: "Axes | None" = None,
    *,
    over: Any = None,
    names: Sequence[str] | None = None,
    look: Look | None = None,
) -> "Axes":
    """Firing rates, spikes per neuron and step, of the layers of a net.

    Args:
      rates: {layer: its rate}, as `aux.rates` has them, in bars. Or {layer: [M]}: of M nets, in bars beside one
        another; or, with `over`, at M moments, in a line for each layer.
      ax: where it is drawn; None makes a figure.
      over: the moments, [M], such as epochs.
      names: of the M nets, for the legend.
      look: number of a layer's line, or of a net's bars, from 0 ↦ its matplotlib properties; None takes colours of
        its own.

    Returns:
      The axes: a container of bars for each net, or a line for each layer.

    Raises:
      TypeError, ValueError: `rates` is no mapping to such arrays, or `ax` is none.
      ModuleNotFoundError: matplotlib is not installed.
    """
    if not isinstance(rates, Mapping) or not rates:
        raise TypeError(f"plots.rates: rates must be {{layer: its rate}}, at least one, but was {rates!r}.")
    expected = "a number, or [M] as those of the other layers are"
    values = {layer: numbers("rates", f"the rate of '{layer}'", rate, expected, 0, 1) for layer, rate in rates.items()}
    shapes = {layer: value.shape for layer, value in values.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"'{layer}': {list(shape)}" for layer, shape in shapes.items())
        raise ValueError(f"plots.rates: the layers must have as many rates as one another, but have {told}.")
    chart = axes_of(ax)
    if over is None:
        _bars(chart, values, names, look)
    else:
        _lines(chart, values, over, look)
    chart.set_ylim(bottom=0)
    finish(chart, "layer" if over is None else "", "spikes per neuron and step", legend=ax is None)
    return chart


def _bars(chart: "Axes", values: dict[str, np.ndarray], names: Sequence[str] | None, look: Look | None) -> None:
    table = np.stack([np.atleast_1d(value) for value in values.values()])
    nets = table.shape[1]
    if names is not None:
        same_length("rates", "names", np.asarray(names, object), nets, "nets")
    width = BARS / nets
    for number in range(nets):
        places = np.arange(len(table)) + (number - (nets - 1) / 2) * width
        properties = {"color": look_of(number)["color"]} if look is None else look(number)
        label = None if names is None else names[number]
        chart.bar(places, table[:, number], 0.9 * width, **{"label": label, **properties})
    chart.set_xticks(range(len(table)), list(values))


def _lines(chart: "Axes", values: dict[str, np.ndarray], over: Any, look: Look | None) -> None:
    moments = numbers("rates", "over", over, "the M moments, [M]", 1)
    for number, (layer, value) in enumerate(values.items()):
        same_length("rates", f"the rate of '{layer}'", np.atleast_1d(value), len(moments), "moments")
        properties = look_of(number) if look is None else look(number)
        chart.plot(moments, np.atleast_1d(value), **{"label": layer, **properties})
