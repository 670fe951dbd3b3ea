"""Starts a process for every row and lets them take turns."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmark import peers
from experiments.benchmark.worker import Job

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Row:
    """What was measured of a row; of one that failed, up to then.

    Attributes:
      seconds, losses: of each timed step.
      compile_seconds: of the first step.
      temp_bytes, operations, device: see `experiments.benchmark.work.Program`.
      peak_bytes: memory resident in its process at the highest.
      error: the last line of what went wrong.
    """

    name: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    compile_seconds: float | None = None
    temp_bytes: int | None = None
    peak_bytes: int | None = None
    operations: int | None = None
    device: str | None = None
    error: str | None = None

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def gflops(self) -> float | None:
        """10⁹ operations a second."""
        return None if self.operations is None else self.operations / self.median / 1e9


def environment(threads: int) -> dict[str, str]:
    """Of a process that is to compute with so many threads."""
    count = str(threads)
    numbers = dict.fromkeys(("PJRT_NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    # Rows share the memory of an accelerator.
    return {**os.environ, **numbers, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Worker:
    """A row's process, from this side of the pipe."""

    def __init__(self, job: Job):
        self.row = Row(job.name)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open for as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.benchmark.worker", job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(job.threads),
        )
        for name, value in self._message().items():
            setattr(self.row, name, value)

    def turn(self) -> None:
        """One timed step."""
        # If it has died, its message, or the lack of one, says how.
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        message = self._message()
        if "error" in message:
            self.row.error = message["error"]
            return
        self.row.seconds.append(message["seconds"])
        self.row.losses.append(message["loss"])
        self.row.peak_bytes = message["peak_bytes"]

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip() or "without a word").splitlines()[-1]
        return {"error": f"ended with exit code {code}: {last}"}


def measure(jobs: Sequence[Job], repeats: int) -> list[Row]:
    """One row a job, in their order; says on stderr how far it is."""
    rows: list[Row] = []
    workers: list[Worker] = []
    try:
        for job in jobs:
            need = None if job.library is None else peers.missing(job.library)
            if need is None:
                workers.append(Worker(job))
                rows.append(workers[-1].row)
            else:
                rows.append(Row(job.name, error=need))
            _say(f"{job.name}: {rows[-1].error or f'first step after {rows[-1].compile_seconds:.1f} s'}")
        for turn in range(repeats):
            for worker in workers:
                if worker.row.error is None:
                    worker.turn()
            _say(f"turn {turn + 1} of {repeats}")
    finally:
        for worker in workers:
            worker.end()
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
