"""The charts of the page: curves of all runs together, firing rates of one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.report.drawing import INK, axes, style, svg
from experiments.report.runs import Run
from safjax import plots

WIDEST = 6.0
"""What is added at most to the width of a curve."""
MARKERS = 12
"""At most so many points of a curve, or bars, are marked."""


class Chart(NamedTuple):
    """A drawing, what is said below it, and its legend: (name, number of its style) of every series."""

    svg: str
    caption: str
    legend: Sequence[tuple[str, int]]


def curves(runs: Sequence[Run], quantity: str) -> Chart:
    """Loss or accuracy of all runs over the epochs; test is drawn full, training thin and dotted.

    Args:
      quantity: "loss" or "accuracy".
    """
    chart = axes(6.2, 3.6, "epoch", quantity)
    for number, run in enumerate(runs):
        colour, dashes = style(number)
        # Runs drawn first are wider, so that equal ones do not hide each other.
        wide = 1.6 + min(1.2 * (len(runs) - 1 - number), WIDEST)
        test, train = _values(run, f"test_{quantity}"), _values(run, f"train_{quantity}")
        chart.plot(_epochs(run), train, color=colour, linestyle=":", linewidth=1, marker=".", markevery=_every(run))
        look: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "linewidth": wide,
            "marker": "o",
            "markersize": 2.5 + wide,
        }
        chart.plot(_epochs(run), test, markevery=_every(run), **look)
    _over_epochs(chart)
    if quantity == "accuracy":
        chart.yaxis.set_major_formatter(PercentFormatter(1))
    last = [f"{run.name} {_words(run, quantity)}" for run in runs]
    description = f"{quantity.capitalize()} over the epochs. Test {quantity} after the last epoch: {', '.join(last)}."
    caption = f"{quantity.capitalize()} over the epochs: test with large points, training thin and dotted."
    caption += _equal(runs, f"test_{quantity}")
    return Chart(svg(chart, description), caption, _legend(runs))


def rates_over_epochs(run: Run) -> Chart:
    """The firing rate of every layer."""
    chart = axes(6.2, 3.6, "epoch", "spikes per neuron and step")
    layers = list(run.records[0]["rates"])
    values = {layer: [record["rates"].get(layer, float("nan")) for record in run.records] for layer in layers}
    points = {"marker": "o", "markersize": 3, "markevery": _every(run)}

    def look(number: int) -> dict[str, Any]:
        return dict(zip(("color", "linestyle"), style(number), strict=True)) | points

    plots.rates(values, chart, over=_epochs(run), look=look)
    _over_epochs(chart)
    description = f"Firing rate of each layer of {run.name} over the epochs; the last values are in the bars beside it."
    return Chart(
        svg(chart, description),
        f"{run.name}: firing rate of each layer while training.",
        [(f"{number + 1} {layer}", number) for number, layer in enumerate(layers)],
    )


def last_rates(run: Run) -> Chart:
    """The firing rates of the last epoch, a bar a layer."""
    rates = run.records[-1]["rates"]
    chart = axes(4.2, 3.6, "layer, from the input up", "spikes per neuron and step")
    plots.rates(rates, chart, look=lambda _: {"color": [style(number)[0] for number in range(len(rates))]})
    marked = range(0, len(rates), -(-len(rates) // MARKERS))
    chart.set_xticks(marked, [str(number + 1) for number in marked])
    # Bars of one or two layers stay as narrow as those of three, in the middle.
    beside = 0.7 + max(0, 3 - len(rates)) / 2
    chart.set_xlim(-beside, len(rates) - 1 + beside)
    chart.grid(False, axis="x")
    chart.set_ylim(0, max(0.05, 1.15 * max(rates.values(), default=0)))
    if len(rates) <= MARKERS:
        for number, rate in enumerate(rates.values()):
            chart.annotate(
                f"{rate:.3f}", (number, rate), (0, 2), textcoords="offset points", ha="center", size=8, color=INK
            )
    values = ", ".join(f"{layer} {rate:.3f}" for layer, rate in rates.items())
    epoch = run.records[-1]["epoch"]
    description = f"Spikes per neuron and step of {run.name} in epoch {epoch}: {values}."
    return Chart(svg(chart, description), f"{run.name}: firing rates in epoch {epoch}.", [])


def _equal(runs: Sequence[Run], name: str) -> str:
    """Which runs have the same curve, in words."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for run in runs:
        groups.setdefault(tuple(_values(run, name)), []).append(run.name)
    return "".join(f" The same curve: {', '.join(names)}." for names in groups.values() if len(names) > 1)


def _legend(runs: Sequence[Run]) -> list[tuple[str, int]]:
    return [(run.name, number) for number, run in enumerate(runs)]


def _epochs(run: Run) -> list[int]:
    return [record["epoch"] for record in run.records]


def _values(run: Run, name: str) -> list[float]:
    return [record[name] for record in run.records]


def _every(run: Run) -> list[int]:
    """The marked points, the last among them: it is what the tables have."""
    last = len(run.records) - 1
    return list(range(last, -1, -(last // MARKERS + 1)))


def _words(run: Run, quantity: str) -> str:
    value: Any = run.records[-1][f"test_{quantity}"]
    show: Callable[[Any], str] = "{:.1%}".format if quantity == "accuracy" else "{:.3f}".format
    return show(value)


def _over_epochs(chart: Axes) -> None:
    chart.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart.margins(x=0.03)
