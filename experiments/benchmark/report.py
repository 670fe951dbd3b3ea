"""The rows as a Markdown table and as lines of JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark.chart import draw
from experiments.benchmark.runner import Row

COLUMNS = ("row", "step, median (min – max)", "ratio", "temp MB", "peak MB", "compile s", "GFLOP/s")


def table(rows: Sequence[Row]) -> str:
    """In Markdown; ratios are to the first row that was measured."""
    first = next((row for row in rows if row.error is None), None)
    columns = [column if first is None or column != "ratio" else f"÷ {first.name}" for column in COLUMNS]
    return "\n".join([_line(columns), "|---" * len(columns) + "|", *(_line(_cells(row, first)) for row in rows)])


def _cells(row: Row, first: Row | None) -> list[str]:
    if row.error is not None or first is None:
        # A bar would end the cell.
        return [row.name, f"failed: {row.error}".replace("|", "\\|"), *[""] * (len(COLUMNS) - 2)]
    return [
        row.name,
        f"{duration(row.median)} ({duration(min(row.seconds))} – {duration(max(row.seconds))})",
        f"{row.median / first.median:.2f}",
        _number(row.temp_bytes, 1e-6),
        _number(row.peak_bytes, 1e-6),
        _number(row.compile_seconds),
        _number(row.gflops),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, scale: float = 1.0) -> str:
    return "–" if value is None else f"{scale * value:.1f}"


def duration(seconds: float) -> str:
    """In milliseconds below one second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def lines(rows: Sequence[Row]) -> str:
    """One JSON object a row, with every step's seconds and loss, the median and GFLOP/s."""
    objects = (
        {**dataclasses.asdict(row), **({} if row.error else {"median": row.median, "gflops": row.gflops})}
        for row in rows
    )
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def write(folder: Path, title: str, text: str, rows: Sequence[Row]) -> None:
    """table.md, rows.jsonl, and chart.png of the rows that were measured.

    Args:
      folder: made if it is not there.
      title: of the chart.
      text: of table.md.
      rows: of the other two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text + "\n")
    (folder / "rows.jsonl").write_text(lines(rows))
    measured = [row for row in rows if row.error is None]
    if measured:
        draw(measured, title, folder / "chart.png")
