"""Where matplotlib comes in: when something is drawn, and not before."""

import typing
from collections.abc import Callable
from typing import Any

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Look = Callable[[int], dict[str, Any]]
"""Number of a line, from 0 ↦ matplotlib's properties of it: colour, marker, label."""

# Okabe and Ito's palette without its yellow, too pale on white: told apart under every common colour-blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X"


def axes_of(ax: "Axes | None", grid: bool = True) -> "Axes":
    """The axes that are given, as they are, or those of a new figure, with or without a grid.

    Raises:
      ModuleNotFoundError: matplotlib is not installed.
      TypeError: they are no axes.
    """
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "safjax.plots draws with matplotlib, which is not installed: pip install 'safjax[plots]'.", name=error.name
        ) from error
    if ax is None:
        ax = pyplot.subplots(figsize=(7, 3), layout="constrained")[1]
        if grid:
            ax.grid(visible=True, alpha=0.3)
        return ax
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be the matplotlib Axes to draw in, or None for new ones, but was a {type(ax).__name__}. Of "
            "plt.subplots(2) take one: figure, axes = plt.subplots(2); ax=axes[0]."
        )
    return ax


def look_of(number: int) -> dict[str, Any]:
    """Of the lines: colours that colour-blind readers can tell apart, each with its marker."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)], "markersize": 4}


def whole_numbers(axis: "Axis") -> None:
    """Marks no halves of what is counted."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True))


def finish(ax: "Axes", x: str, y: str, legend: bool = False) -> None:
    """The labels of the axes, which those that have one already keep; a legend of all lines that have a name."""
    ax.set_xlabel(ax.get_xlabel() or x)
    ax.set_ylabel(ax.get_ylabel() or y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if legend and ax.get_legend_handles_labels()[0]:
        # Beside the axes, where it hides nothing: the figure is ours, and its layout makes room.
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
