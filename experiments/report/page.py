"""The page: everything of it in one text."""

import base64
import html
import re
from collections.abc import Sequence

from experiments.report import charts, rasters, tables
from experiments.report.activity import Activity
from experiments.report.charts import Chart
from experiments.report.drawing import DASHES, SERIES
from experiments.report.runs import Run

LIGHT = ("#0072b2", "#c04e00", "#007a5a", "#a3478c", "#7a6100", "#3d4fb5", "#b3123b", "#4d4d4d")
DARK = ("#6cb8f0", "#ff9a5c", "#4cd3a5", "#e99bd3", "#e2c044", "#a5aeff", "#ff8097", "#c8c8c8")
"""Of the series, each at least 4.5 : 1 against its ground."""

STROKES = dict(zip(DASHES, ("none", "6 3", "6 2 1.5 2", "1.5 2"), strict=True))

METHOD = (
    "AC: accumulations, one for each spike and each neuron that it reaches, through pooling too. MAC: "
    "multiply-accumulations, of inputs that are real numbers; a static image passes its synapse once a sequence. "
    "Inference is 0.9 pJ · AC + 4.6 pJ · MAC (32-bit floats, 45 nm; M. Horowitz, ISSCC 2014). Training counts the MAC "
    "of the forward pass and the gradient as a program for dense arrays has them, where spikes save nothing. Memory, "
    "leak and threshold are not counted."
)


def page(runs: Sequence[Run], seen: Sequence[Activity | str]) -> str:
    """The HTML of the report.

    Args:
      seen: of each run what its net does, or in words why that is not known.
    """
    drawn = [run for run in runs if run.records]
    parts = [
        _section("Results", tables.results(runs, seen), *_problems(runs)),
        *_inputs(runs),
        _section("Learning curves", *_curves(drawn)),
        _section("Firing rates", *map(_rates, drawn)),
        _section("Spikes", *(_spikes(run, activity) for run, activity in zip(runs, seen, strict=True))),
        _section(
            "Energy",
            f"<p>{html.escape(METHOD)}</p>",
            tables.operations(runs, seen),
            *(_energy(run, activity) for run, activity in zip(runs, seen, strict=True)),
        ),
        _section("Configuration", tables.configurations(runs)),
    ]
    title = f"safjax: {runs[0].name}" if len(runs) == 1 else f"safjax: {len(runs)} runs"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # A browser would refuse to load anything from elsewhere.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<style>{_style()}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts) or '<p>Nothing yet.</p>'}\n</section>\n"


def _problems(runs: Sequence[Run]) -> list[str]:
    return [f"<p>{html.escape(f'{run.name} is broken: {run.problem}.')}</p>" for run in runs if run.problem is not None]


def _inputs(runs: Sequence[Run]) -> list[str]:
    """The pictures of what the nets were given, of the runs that have one; the same picture once."""
    given: dict[bytes, list[str]] = {}
    for run in runs:
        if (run.path / "inputs.png").is_file():
            given.setdefault((run.path / "inputs.png").read_bytes(), []).append(run.name)
    return [_section("Inputs", *(_picture(picture, names) for picture, names in given.items()))] if given else []


def _picture(picture: bytes, names: Sequence[str]) -> str:
    name, content = html.escape(", ".join(names)), base64.b64encode(picture).decode()
    caption = "Test examples of some classes, ON vermilion, OFF blue."
    image = f'<img alt="Events that {name} is given" src="data:image/png;base64,{content}">'
    return f"<h3>{name}</h3><figure>{image}<figcaption>{caption}</figcaption></figure>"


def _curves(runs: Sequence[Run]) -> list[str]:
    if not runs:
        return ["<p>No run has ended an epoch.</p>"]
    loss, accuracy = charts.curves(runs, "loss"), charts.curves(runs, "accuracy")
    legend = _legend(loss.legend)
    return [f'{legend}<div class="charts">{_figure(loss)}{_figure(accuracy)}</div>']


def _rates(run: Run) -> str:
    over = charts.rates_over_epochs(run)
    both = f'<div class="charts">{_figure(over)}{_figure(charts.last_rates(run))}</div>'
    return f"<h3>{html.escape(run.name)}</h3>{_legend(over.legend)}{both}"


def _spikes(run: Run, seen: Activity | str) -> str:
    title = f"<h3>{html.escape(run.name)}</h3>"
    if isinstance(seen, str):
        return f"{title}<p>No rasters: {html.escape(seen)}.</p>"
    drawn = [rasters.raster(run.name, layer, number, seen) for number, layer in enumerate(seen.spikes)]
    return f'{title}<div class="charts">{"".join(map(_figure, drawn))}</div>'


def _energy(run: Run, seen: Activity | str) -> str:
    title = f"<h3>{html.escape(run.name)}</h3>"
    if isinstance(seen, str):
        return f"{title}<p>Not counted: {html.escape(seen)}.</p>"
    return title + tables.synapses(run, seen)


def _figure(chart: Chart) -> str:
    width = re.search(r'width="([\d.]+pt)"', chart.svg)
    fits = f' style="max-width:{width[1]}"' if width else ""
    return f"<figure{fits}>{chart.svg}<figcaption>{html.escape(chart.caption)}</figcaption></figure>"


def _legend(series: Sequence[tuple[str, int]]) -> str:
    entries = []
    for name, number in series:
        stroke = STROKES[DASHES[number // len(SERIES) % len(DASHES)]]
        line = (
            f'<svg width="28" height="10" aria-hidden="true"><line x1="1" y1="5" x2="27" y2="5" stroke-width="2.5" '
            f'stroke="var(--c{number % len(SERIES)})" stroke-dasharray="{stroke}"/></svg>'
        )
        entries.append(f"<li>{line} {html.escape(name)}</li>")
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _style() -> str:
    light = ";".join(f"--c{number}:{colour}" for number, colour in enumerate(LIGHT))
    dark = ";".join(f"--c{number}:{colour}" for number, colour in enumerate(DARK))
    return f"""
:root{{color-scheme:light dark;--ink:#1b1b1f;--ground:#fff;--soft:#f3f4f6;--grid:#d9dbe0;--quiet:#54565c;{light}}}
@media (prefers-color-scheme:dark){{
:root{{--ink:#e8e8ec;--ground:#17181c;--soft:#22242a;--grid:#3a3d45;--quiet:#b2b5bd;{dark}}}}}
body{{margin:0 auto;padding:1rem 1.5rem 3rem;max-width:84rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--ground)}}
h1{{font-size:1.6rem}}h2{{font-size:1.25rem;margin-top:2.2rem;border-bottom:1px solid var(--grid)}}
h3{{font-size:1.05rem;margin:1.4rem 0 .4rem}}p{{max-width:60rem;color:var(--quiet)}}
.wide{{overflow-x:auto}}.charts{{display:flex;flex-wrap:wrap;gap:1rem 1.5rem}}figure{{margin:0}}
figure svg,figure img{{max-width:100%;height:auto;display:block}}svg text{{font-family:system-ui,sans-serif!important}}
figcaption,caption{{font-size:.85rem;color:var(--quiet);text-align:left;max-width:36rem}}caption{{padding-bottom:.4rem;
max-width:none}}
table{{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.3rem .55rem;text-align:right;border-bottom:1px solid var(--grid)}}
thead th{{background:var(--soft);vertical-align:bottom}}th:first-child{{text-align:left}}tbody th{{font-weight:600}}
.legend{{list-style:none;padding:0;margin:.3rem 0;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;font-size:.9rem}}
details{{margin-top:.8rem}}summary{{cursor:pointer}}
path,line{{stroke-linejoin:round}}
"""
