"""The tables of the page."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.config import PART_OF, Config, Net, to_json
from experiments.energy import PICOJOULES
from experiments.report.activity import Activity
from experiments.report.runs import Run

NONE = "–"
RESULTS = (
    *("run", "status", "method", "network", "T", "seed", "test accuracy, %", "in the chosen epoch", "counts alone"),
    *("test loss", "time, s", "examples/s", "parameters", "inference, nJ"),
)
OPERATIONS = ("run", "AC", "MAC", "inference, nJ", "MAC of a training step", "training step, nJ")
UNCOMPARED = {"workdir", "resume", "quiet"}
"""Flags that make no difference worth a row."""


def results(runs: Sequence[Run], seen: Sequence[Activity | str]) -> str:
    """One row a run."""
    rows = [_result(run, activity) for run, activity in zip(runs, seen, strict=True)]
    caption = (
        "Results after the last epoch; beside its test accuracy that of the epoch which held-out examples chose, and "
        "what counts of events tell without their times. The energy is that of one example over all steps."
    )
    return table(RESULTS, rows, caption)


def _result(run: Run, seen: Activity | str) -> list[str]:
    last, config, summary = (run.records[-1] if run.records else {}), run.config, run.summary or {}
    return [
        run.name,
        run.status,
        *(_settings(run, config) if config else [NONE] * 4),
        _number(last.get("test_accuracy"), "{:.2f}", 100),
        _number(summary.get("chosen_test_accuracy"), "{:.2f}", 100),
        _number(summary.get("baseline_test_accuracy"), "{:.2f}", 100),
        _number(last.get("test_loss"), "{:.4f}"),
        _number(run.seconds if run.records else None, "{:,.1f}"),
        _number(last.get("examples_per_second"), "{:,.0f}"),
        _number(summary.get("parameters"), "{:,}"),
        NONE if isinstance(seen, str) else _nanojoules(seen.inference.picojoules),
    ]


def operations(runs: Sequence[Run], seen: Sequence[Activity | str]) -> str:
    """Operations and energy of inference and of training, one row a run."""
    rows = []
    for run, activity in zip(runs, seen, strict=True):
        if isinstance(activity, str):
            continue
        synapses, training = activity.inference.synapses.values(), activity.training
        accumulations = sum(synapse.accumulations.sum(0).mean() for synapse in synapses)
        multiplications = sum(int(synapse.multiplications.sum()) for synapse in synapses)
        energies = _nanojoules(activity.inference.picojoules), _nanojoules(PICOJOULES["MAC"] * training)
        counts = f"{accumulations:,.0f}", f"{multiplications:,}", energies[0], f"{training:,.0f}", energies[1]
        rows.append([run.name, *counts])
    return table(OPERATIONS, rows, "Operations and energy of one example over all steps.") if rows else ""


def _nanojoules(picojoules: float) -> str:
    return f"{picojoules / 1000:,.1f}"


def _settings(run: Run, config: Config) -> tuple[str, str, str, str]:
    steps, training = config.data.steps, config.training
    return training.method, _network(run, config.net), "own" if steps is None else str(steps), str(training.seed)


def _network(run: Run, net: Net) -> str:
    layers = "-".join(map(str, net.layers))
    of_units = run.shape is not None and len(run.shape.input_shape) == 1
    name = layers if of_units else f"vgg {layers}" if net.network == "vgg" else net.network
    return name if net.width == 1 else f"{name} × {net.width:g}"


def _number(value: Any, form: str, factor: float = 1) -> str:
    return NONE if value is None else form.format(value if factor == 1 else factor * value)


def synapses(run: Run, seen: Activity) -> str:
    """Operations and energy of every synapse of a run, for one example."""
    rows = []
    for path, synapse in seen.inference.synapses.items():
        accumulations = synapse.accumulations.sum(0).mean()
        multiplications = int(synapse.multiplications.sum())
        rows.append(
            [
                path,
                f"{synapse.connections:,}",
                f"{synapse.dense:,}",
                f"{synapse.rate:.1%}",
                f"{accumulations:,.0f}",
                f"{accumulations / synapse.steps:,.0f}",
                f"{multiplications:,}",
                _nanojoules(synapse.picojoules),
            ]
        )
    columns = ("synapse", "connections", "MAC of real numbers", "inputs not 0", "AC", "AC a step", "MAC", "nJ")
    dense = sum(synapse.dense for synapse in seen.inference.synapses.values())
    total = f"In all {_nanojoules(seen.inference.picojoules)} nJ for one example over all steps"
    same = f"one pass of the same net with real numbers would take {_nanojoules(PICOJOULES['MAC'] * dense)} nJ"
    return table(columns, rows, f"{run.name}: mean of {len(seen.classes)} test examples. {total}; {same}.")


def configurations(runs: Sequence[Run]) -> str:
    """The flags in which the runs differ, and those that they share."""
    known = [run for run in runs if run.config is not None]
    if not known:
        return "<p>No configuration can be read.</p>"
    values = [to_json(run.config) for run in known if run.config is not None]
    names = [name for name in PART_OF if name not in UNCOMPARED]
    differing = [name for name in names if any(value[name] != values[0][name] for value in values)]
    rows = [[_flag(name), *(_shown(value[name]) for value in values)] for name in differing]
    shared = [[_flag(name), _shown(values[0][name])] for name in names if name not in differing]
    first = table(["flag", *(run.name for run in known)], rows, "Flags that differ.") if rows else ""
    none = "" if rows or len(known) == 1 else "<p>The configurations are equal.</p>"
    whose = "Flags that all share" if len(known) > 1 else "Flags"
    return f"{first}{none}<details><summary>{whose}</summary>{table(['flag', 'value'], shared, whose + '.')}</details>"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(columns: Iterable[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """An HTML table; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
