"""Tables in Markdown, rows as lines of JSON, and the files that hold them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from experiments.benchmark.machine import SIZE, cores, versions
from experiments.benchmark.rows import Row

Column = Callable[[Row], str]


def duration(seconds: float) -> str:
    """In milliseconds below one second."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    return f"{scale * value:.1f}" if scale * value >= 1 else f"{scale * value:.2g}"


COLUMNS: dict[str, Column] = {
    "row": lambda row: row.name,
    "step, median (min – max)": lambda row: (
        f"{duration(row.median)} ({duration(min(row.seconds))} – {duration(max(row.seconds))})"
    ),
    "turns": lambda row: str(len(row.seconds)),
    "temp MB": lambda row: _number(row.temp_bytes, 1e-6),
    "peak MB": lambda row: _number(row.peak_bytes, 1e-6),
    "compile s": lambda row: _number(row.compile_seconds),
    "GMAC a step": lambda row: _number(row.operations, 0.5e-9),
    "GFLOP/s": lambda row: _number(row.gflops),
    "of product": lambda row: "–" if row.share is None else f"{row.share:.0%}",
}
"""Of a row that was measured; GMAC are 10⁹ multiply-accumulates."""


def table(rows: Sequence[Row], references: Sequence[str], columns: Mapping[str, Column] = COLUMNS) -> str:
    """In Markdown, with a column for the step time over that of each reference, after the turns."""
    medians = {row.name: row.median for row in rows if row.error is None}
    ratios = {f"÷ {name}": _ratio_to(medians[name]) for name in references}
    place = list(columns).index("turns") + 1
    items = list(columns.items())
    every = dict([*items[:place], *ratios.items(), *items[place:]])
    return markdown(list(every), (_cells(row, every) for row in rows))


def _ratio_to(median: float) -> Column:
    return lambda row: f"{row.median / median:.2f}"


def _cells(row: Row, columns: Mapping[str, Column]) -> list[str]:
    if row.error is not None:
        return [row.name, f"failed: {row.error}", *[""] * (len(columns) - 2)]
    return [cell(row) for cell in columns.values()]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join([_line(header), "|---" * len(header) + "|", *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    # A bar would end its cell.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def heading(rows: Sequence[Row], load: float) -> str:
    """What was measured, on what, and how fast the machine is."""
    job = rows[0].job
    devices = sorted({row.device for row in rows if row.device is not None}) or ["no device"]
    speed = rows[0].products
    product = "" if speed is None else f"{speed[0]:.0f} GFLOP/s before, {speed[1]:.0f} after"
    return (
        f"{job.work.title}, float32, {', '.join(devices)}, {job.threads} of {cores()} cores, "
        f"load average {load:.1f} at the start, {versions(row.job.library for row in rows)}\n"
        f"A {SIZE}³ float32 matrix product: {product}."
    )


class Report:
    """Prints as it grows, and keeps table.md and rows.jsonl of `folder`, if there is one, up to date.

    Raises:
      OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path | None):
        self._folder, self._text = folder, ""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "rows.jsonl").write_text("")

    def add(self, text: str, rows: Sequence[Row] = ()) -> None:
        """A part of the text, and the rows that stand in it."""
        if not text:
            return
        part = text if not self._text else f"\n{text}"
        print(part, flush=True)
        self._text += f"{part}\n"
        if self._folder is not None:
            (self._folder / "table.md").write_text(self._text)
            with (self._folder / "rows.jsonl").open("a") as file:
                file.writelines(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
