"""`paper`: spike accumulation forwarding against online training through time, beside the published ratios."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.benchmark import chart
from experiments.benchmark.options import NetworkOptions, require_steps
from experiments.benchmark.report import markdown
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.targets import PAPER, Target


class Pair(NamedTuple):
    """Two rules, and the published ratios of their training time and memory, on a GPU with CIFAR-10.

    Saiin et al., "Spike accumulation forwarding for effective training of spiking neural networks", arXiv 2310.02772.
    """

    saf: str
    ottt: str
    time: float
    memory: float

    @property
    def name(self) -> str:
        """Of the ratio."""
        return f"{self.saf} ÷ {self.ottt}"


PAIRS = (Pair("saf_e", "ottt_o", time=0.70, memory=0.715), Pair("saf_f", "ottt_a", time=0.37, memory=0.70))


class Ratios(NamedTuple):
    """A rule of SAF over one of OTTT; None where a row failed."""

    pair: Pair
    steps: int
    time: float | None
    memory: float | None
    products: float | None


@dataclasses.dataclass(frozen=True)
class Paper(NetworkOptions):
    """SAF-E against OTTT_O and SAF-F against OTTT_A, beside the published ratios."""

    steps: tuple[int, ...] = (6, 32)
    """Time steps T, a table for each."""

    def __post_init__(self):
        super().__post_init__()
        require_steps(self.steps)

    def tables(self) -> list[list[Job]]:
        """One for each T."""
        works = map(self.work, sorted(self.steps))
        return [[Job(method, work, self.thread_count) for pair in PAIRS for method in pair[:2]] for work in works]

    def targets(self) -> Sequence[Target]:
        """Ratios within the library."""
        return PAPER

    def verdict(self, tables: Sequence[Sequence[Row]]) -> str:
        """The ratios beside the published ones, then the targets."""
        return f"{ratio_table(ratios(tables))}\n\n{super().verdict(tables)}".strip()

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """The ratios as bars beside the published ones."""
        panels: dict[str, list[chart.Bar]] = {"step time": [], "memory": [], "multiply-accumulates": []}
        for pair in PAIRS:
            for each in (each for each in ratios(tables) if each.pair == pair):
                for values, value in zip(panels.values(), each[2:], strict=True):
                    values.append(chart.Bar(pair.name, f"here, T = {each.steps}", value))
            panels["step time"].append(chart.Bar(pair.name, "published, GPU", pair.time))
            panels["memory"].append(chart.Bar(pair.name, "published, GPU", pair.memory))
        chart.grouped(panels, tables[0][0].job.work.subject, folder / "paper.png")


def ratios(tables: Sequence[Sequence[Row]]) -> list[Ratios]:
    """Of both pairs at every T: step time, XLA's temporary memory, and multiply-accumulates of a training step."""
    return [_ratios(pair, {row.name: row for row in rows}) for rows in tables for pair in PAIRS]


def _ratios(pair: Pair, rows: dict[str, Row]) -> Ratios:
    saf, ottt = rows[pair.saf], rows[pair.ottt]
    if saf.error is not None or ottt.error is not None:
        return Ratios(pair, saf.job.work.steps, None, None, None)
    return Ratios(
        pair,
        saf.job.work.steps,
        saf.median / ottt.median,
        _over(saf.temp_bytes, ottt.temp_bytes),
        _over(saf.operations, ottt.operations),
    )


def _over(value: int | None, other: int | None) -> float | None:
    return value / other if value is not None and other else None


def ratio_table(values: Sequence[Ratios]) -> str:
    """In Markdown."""
    header = ["ratio", "T", "step time", "published", "temp memory", "published", "multiply-accumulates"]
    return markdown(
        header,
        (
            [
                each.pair.name,
                str(each.steps),
                _number(each.time),
                f"{each.pair.time:.2f}",
                _number(each.memory),
                f"{each.pair.memory:.3f}",
                _number(each.products),
            ]
            for each in values
        ),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
