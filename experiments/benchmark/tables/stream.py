"""`stream`: steps one by one, the state from call to call, beside one call over the whole sequence."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark import chart
from experiments.benchmark.options import Options, require_count, require_methods, require_steps, require_work
from experiments.benchmark.rows import STREAM, Job, Row
from experiments.benchmark.targets import Target, streamed
from experiments.benchmark.work import Work


@dataclasses.dataclass(frozen=True)
class Stream(Options):
    """A compiled loop of calls of T = 1 beside one call of as many steps, on the dense network."""

    methods: tuple[str, ...] = ("ottt_o", "saf_e", "sltt")
    """Rules that go step by step."""
    steps: int = 1000
    """Time steps."""
    batch_size: int = 16
    """Examples."""
    width: float = 1.0
    """Factor of the hidden neurons."""

    def __post_init__(self):
        super().__post_init__()
        require_methods(self.methods)
        require_steps((self.steps,))
        require_count("batch_size", self.batch_size)
        require_work("dense", self.batch_size, self.width, None)

    def tables(self) -> list[list[Job]]:
        """One for each rule, its two rows taking turns."""
        work = Work.usual("dense", self.steps, self.batch_size, self.width)
        return [[Job(name, work, self.thread_count) for name in (m, f"{STREAM}:{m}")] for m in self.methods]

    def targets(self) -> Sequence[Target]:
        """The loop over the call."""
        return [streamed(method, self.steps) for method in self.methods]

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """Step times as bars."""
        chart.bars([row for rows in tables for row in rows], folder / "stream.png")
