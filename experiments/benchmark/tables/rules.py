"""`rules`: how time, memory and compile time of every rule grow with the number of steps."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.benchmark import chart
from experiments.benchmark.options import NetworkOptions, require_methods, require_steps
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.targets import ONLINE, SHARES, Target, flat
from safjax.rules import RULES


@dataclasses.dataclass(frozen=True)
class Rules(NetworkOptions):
    """Every rule at several numbers of steps: step time, memory and compile time against T."""

    repeats: int = 5
    """Timed turns of each row, after one that is not timed."""
    seconds: float = 30.0
    """A row whose turns have taken so long together has no further one, after its second."""
    steps: tuple[int, ...] = (2, 6, 12, 24, 48)
    """Time steps T, a table for each."""
    methods: tuple[str, ...] = tuple(RULES)
    """Rules by name, bptt_layerwise, bptt_remat, exodus_segments (24), exodus_segments_remat (12)."""

    def __post_init__(self):
        super().__post_init__()
        require_steps(self.steps)
        require_methods(self.methods)

    def tables(self) -> list[list[Job]]:
        """One for each T."""
        works = map(self.work, sorted(self.steps))
        return [[Job(method, work, self.thread_count) for method in self.methods] for work in works]

    def targets(self) -> Sequence[Target]:
        """Shares of the machine's product at T = 6; online rules as large at the largest T as at 6, or the least."""
        few, many = 6 if 6 in self.steps else min(self.steps), max(self.steps)
        online = [method for method in self.methods if method in ONLINE] if many > few else []
        return [*SHARES, *(target for method in online for target in flat(method, self.network, few, many))]

    def draw(self, tables: Sequence[Sequence[Row]], folder: Path) -> None:
        """Lines over T, one for each rule."""
        chart.lines(tables, folder / "rules.png")
