"""Figures as inline SVG whose colours the page chooses, so that they are readable in light and in dark."""

import hashlib
import html
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRID = "#01fe00", "#01fe01"
SERIES = [f"#01fe1{number}" for number in range(8)]
"""Colours to draw with: each stands for one that the page's style sheet defines."""
DASHES = ("-", "--", "-.", ":")

_VARIABLES = {INK: "currentColor", GRID: "var(--grid)"} | {c: f"var(--c{n})" for n, c in enumerate(SERIES)}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "safjax",
    "font.size": 10,
    "path.simplify": False,
    "lines.linewidth": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def style(number: int) -> tuple[str, str]:
    """The colour and the dashes of a series, counted from 0: 32 that differ."""
    return SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]


def axes(width: float, height: float, x: str, y: str) -> Axes:
    """The axes of a new figure, in inches, with labels."""
    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=(width, height), layout="constrained").subplots()
        made.set_xlabel(x)
        made.set_ylabel(y)
        made.grid(True)
    return made


def svg(chart: Axes, description: str) -> str:
    """The figure of some axes as an <svg> element.

    Args:
      description: what somebody is told who cannot see it.
    """
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        chart.figure.canvas.figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    # A page holds many of them: no styles for all of it, and no name twice.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    prefix = hashlib.sha256((description + text).encode()).hexdigest()[:8]
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>f{prefix}-", text)
    label = f'<svg role="img" aria-label="{html.escape(description)}"'
    return f"{label}{text[len('<svg') :].rstrip()}"
