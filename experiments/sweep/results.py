"""What came of a sweep, for people and for programs."""

import json
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.config import MAY_CHANGE, to_json
from experiments.sweep.cells import Result
from experiments.sweep.grid import shown, varying

MEASURED = (
    ("test accuracy, %", "test_accuracy", 100, 2),
    ("test loss", "test_loss", 1, 4),
    ("s a run", "seconds", 1, 0),
)
"""(heading, number of a summary, its factor, decimals)."""


def table(results: Sequence[Result]) -> str:
    """A Markdown table, one row for all seeds of a combination: mean ± sample standard deviation."""
    fields = varying([result.cell.config for result in results])
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        values = to_json(result.cell.config)
        groups.setdefault(tuple(shown(values[name]) for name in fields), []).append(result)
    headings = [*fields, *(heading for heading, *_ in MEASURED), "runs"]
    rows = [[*values, *_measured(group), _runs(group)] for values, group in groups.items()]
    rule = ["---"] * len(headings)
    return "".join(f"| {' | '.join(row)} |\n" for row in [headings, rule, *rows])


def lines(results: Sequence[Result]) -> str:
    """JSON Lines, one for a run."""
    return "".join(json.dumps(_line(result)) + "\n" for result in results)


def _line(result: Result) -> dict[str, Any]:
    config = {name: value for name, value in to_json(result.cell.config).items() if name not in MAY_CHANGE}
    of_run = {"cell": result.cell.name, "status": result.status, "error": result.error}
    return {**of_run, "config": config, "summary": result.summary}


def _measured(group: Iterable[Result]) -> list[str]:
    summaries = [result.summary for result in group if result.summary is not None]
    return [
        spread([factor * summary[name] for summary in summaries], decimals) for _, name, factor, decimals in MEASURED
    ]


def _runs(group: Sequence[Result]) -> str:
    counts = {
        status: sum(result.status == status for result in group) for status in ("finished", "failed", "unfinished")
    }
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def spread(values: Sequence[float], decimals: int) -> str:
    """Mean ± sample standard deviation; of one value, the value."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{decimals}f}"
