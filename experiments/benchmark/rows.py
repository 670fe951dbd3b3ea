"""A row of a table: what it is of, and what was measured."""

import dataclasses
import json
import statistics
from typing import Any

from experiments.benchmark.peers import PEERS
from experiments.benchmark.work import Work

STREAM = "stream"
"""Before the rule of a row that trains step by step, from call to call."""

INFERENCE = "inference"
"""Before "predict" and "stream", rows that learn nothing."""

BATCHES = 8
"""That a row of the input pipeline makes in one turn."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a row is of.

    Attributes:
      method: a rule, "stream:" and a rule, "library:method" of a peer, "inference:predict" and "inference:stream", or
        "input:memory" and "input:files".
      work: what every row does.
      threads: to compute with.
      unrolled: whether the time loop is written out.
    """

    method: str
    work: Work
    threads: int
    unrolled: bool = False

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.method}, unrolled" if self.unrolled else self.method

    @property
    def library(self) -> str | None:
        """Of a peer; None for safjax and its input pipeline."""
        name = self.method.partition(":")[0]
        return name if name in PEERS else None

    @property
    def examples(self) -> int:
        """In one turn."""
        return self.work.batch_size * (BATCHES if self.method.startswith("input:") else 1)

    def to_json(self) -> str:
        """For the command line of the worker."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "work": Work(**fields["work"])})


@dataclasses.dataclass
class Row:
    """What was measured of a job; of one that failed, up to then.

    Attributes:
      seconds, losses: of each timed turn.
      first_seconds: of the first step, with whatever is compiled on the way.
      temp_bytes, operations, compile_seconds, device: see `experiments.benchmark.work.Program`.
      peak_bytes: memory resident in its process at the highest.
      products: GFLOP/s of the machine's matrix product, before and after the rows of its table.
      error: the last line of what went wrong.
    """

    job: Job
    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    first_seconds: float | None = None
    compile_seconds: float | None = None
    temp_bytes: int | None = None
    peak_bytes: int | None = None
    operations: int | None = None
    device: str | None = None
    products: tuple[float, float] | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """Of its job."""
        return self.job.name

    @property
    def median(self) -> float:
        """Seconds of a turn."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Examples a second."""
        return self.job.examples / self.median

    @property
    def gflops(self) -> float | None:
        """10⁹ operations a second."""
        return None if self.operations is None else self.operations / self.median / 1e9

    @property
    def share(self) -> float | None:
        """`gflops` over the mean of the machine's products."""
        if self.gflops is None or self.products is None:
            return None
        return self.gflops / statistics.mean(self.products)

    def to_json(self) -> dict[str, Any]:
        """Everything, flat."""
        fields = dataclasses.asdict(self)
        job = fields.pop("job")
        derived = {} if self.error else {"median": self.median, "gflops": self.gflops, "share": self.share}
        return {"row": self.name, **job.pop("work"), **job, **fields, **derived}
