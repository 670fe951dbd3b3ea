"""The rows as bars, and as lines over the number of steps."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from experiments.benchmark.rows import Row
from experiments.benchmark.targets import ONLINE, QUANTITIES

# Okabe and Ito's palette, told apart under every common colour-blindness.
OURS, PEER = "#0072B2", "#D55E00"
COLOURS = (OURS, PEER, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X<>hp"
ROW_HEIGHT = 0.34  # inches


def bars(rows: Sequence[Row], path: Path) -> None:
    """Seconds of a step, median with its range, and peak memory with XLA's temporary buffers.

    Args:
      rows: of a table; those that failed are left out, and where none is left there is no chart.
      path: of the PNG.
    """
    rows = [row for row in rows if row.error is None]
    if not rows:
        return
    figure = _figure(rows, width=10)
    left, right = figure.subplots(1, 2, sharey=True)
    names, colours, medians = [row.name for row in rows], _colours(rows), [row.median for row in rows]
    below = [row.median - min(row.seconds) for row in rows]
    above = [max(row.seconds) - row.median for row in rows]
    left.barh(names, medians, color=colours, xerr=[below, above], error_kw={"ecolor": "0.3", "capsize": 2})
    right.barh(names, [(row.peak_bytes or 0) / 1e6 for row in rows], color=colours, alpha=0.4, label="resident, peak")
    right.barh(names, [(row.temp_bytes or 0) / 1e6 for row in rows], color=colours, label="XLA, temporary")
    right.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    for axes, label in ((left, "seconds a step: median, least and most"), (right, "MB")):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _finish(axes, label)
    left.invert_yaxis()
    figure.savefig(path, dpi=150)


def rates(rows: Sequence[Row], path: Path) -> None:
    """Examples a second, in a logarithmic scale; arguments as of `bars`."""
    rows = [row for row in rows if row.error is None]
    if not rows:
        return
    figure = _figure(rows, width=8)
    axes = figure.subplots()
    drawn = axes.barh([row.name for row in rows], [row.rate for row in rows], color=_colours(rows), log=True)
    axes.bar_label(drawn, [f"{row.rate:.3g}" for row in rows], padding=4)
    axes.set_xlim(min(row.rate for row in rows) / 3, 3 * max(row.rate for row in rows))
    _plain_numbers(axes.xaxis, LogLocator(subs=(1, 2, 5)))
    _finish(axes, "images a second")
    axes.invert_yaxis()
    figure.savefig(path, dpi=150)


def _figure(rows: Sequence[Row], width: float) -> Figure:
    figure = Figure(figsize=(width, 1.5 + ROW_HEIGHT * len(rows)), layout="constrained")
    figure.suptitle(rows[0].job.work.title)
    return figure


def _colours(rows: Sequence[Row]) -> list[str]:
    return [OURS if row.job.library is None else PEER for row in rows]


PANELS: tuple[tuple[str, str, float, str], ...] = (
    ("step time", "seconds a step", 1.0, "log"),
    ("temp memory", "XLA's temporary memory, MB", 1e-6, "log"),
    ("compile time", "seconds to compile", 1.0, "linear"),
)
"""Of `lines`: the quantity, its label, its unit, and the scale of its axis."""


def lines(tables: Sequence[Sequence[Row]], path: Path) -> None:
    """Step time, temporary memory and compile time against T: a line for each rule, that of an online one solid.

    Args:
      tables: one for each T; rows that failed are left out.
      path: of the PNG.
    """
    rows = [row for table in tables for row in table if row.error is None]
    if not rows:
        return
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    figure.suptitle(rows[0].job.work.subject)
    names = list(dict.fromkeys(row.name for row in rows))
    for axes, (quantity, label, unit, scale) in zip(figure.subplots(1, 3), PANELS, strict=True):
        for name, style in zip(names, _styles(names), strict=True):
            axes.plot(*_points(rows, name, QUANTITIES[quantity], unit), label=name, **style)
        axes.set_ylabel(label)
        if scale == "linear":
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            _plain_numbers(axes.yaxis, LogLocator(subs=(1, 2, 5)))
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, FixedLocator(sorted({row.job.work.steps for row in rows})))
        _finish(axes, "time steps T", grid="both")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def _plain_numbers(axis: Axis, locator: Locator) -> None:
    axis.set_major_locator(locator)
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def _points(
    rows: Sequence[Row], name: str, value: Callable[[Row], float | None], unit: float
) -> tuple[list[int], list[float]]:
    found = [(row.job.work.steps, unit * (value(row) or float("nan"))) for row in rows if row.name == name]
    return [steps for steps, _ in found], [quantity for _, quantity in found]


def _styles(names: Sequence[str]) -> list[dict]:
    kinds = [name in ONLINE for name in names]
    return [
        {
            "color": COLOURS[kinds[:place].count(online) % len(COLOURS)],
            "linestyle": "-" if online else "--",
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 5,
            "linewidth": 1.3,
        }
        for place, online in enumerate(kinds)
    ]


class Bar(NamedTuple):
    """A bar of one series in a group of bars; None leaves its place empty."""

    group: str
    series: str
    value: float | None


def grouped(panels: Mapping[str, Sequence[Bar]], title: str, path: Path) -> None:
    """Ratios as groups of bars, with a line at 1.

    Args:
      panels: bars by what they are ratios of.
      title: above the figure.
      path: of the PNG.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle(title)
    series = list(dict.fromkeys(bar.series for panel in panels.values() for bar in panel))
    for axes, (name, panel) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        groups = list(dict.fromkeys(bar.group for bar in panel))
        for number, each in enumerate(series):
            shown = [bar for bar in panel if bar.series == each and bar.value is not None]
            places = [groups.index(bar.group) + (number - (len(series) - 1) / 2) * 0.8 / len(series) for bar in shown]
            drawn = axes.bar(
                places, [bar.value for bar in shown], 0.75 / len(series), color=COLOURS[number], label=each
            )
            axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize=8)
        axes.axhline(1, color="0.5", linewidth=0.8)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_title(name)
        axes.spines[["top", "right"]].set_visible(False)
    # The first panel has all series.
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def _finish(axes: Axes, label: str, grid: Literal["x", "both"] = "x") -> None:
    axes.set_xlabel(label)
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
