"""Starts a process for every row and lets them take turns."""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmark import peers
from experiments.benchmark.rows import Job, Row

ROOT = Path(__file__).parents[2]


class Limits(NamedTuple):
    """How often, and for how long at most.

    Attributes:
      repeats: turns of each row.
      seconds: a row whose turns have taken so long together has no further one, after its second.
      timeout: seconds in which the process of a row must answer.
    """

    repeats: int
    seconds: float = math.inf
    timeout: float = 600.0


LARGEST = str(2**31 - 1)
"""Bytes up to which the C library keeps a block that was freed."""


def environment(threads: int) -> dict[str, str]:
    """Of a process that is to compute with so many threads."""
    count = str(threads)
    numbers = dict.fromkeys(("PJRT_NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    # As by `safjax.keep_memory()`, in every row: those of other libraries are not to import JAX for it.
    kept = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), LARGEST)
    # Rows share the memory of an accelerator.
    return {**os.environ, **numbers, **kept, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Worker:
    """A row's process, from this side of the pipe. It ends with the first error."""

    def __init__(self, job: Job, timeout: float):
        self.row = Row(job)
        self._timeout = timeout
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
        # A pipe cannot be read with a limit in time, but a queue can.
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self) -> None:
        """Waits until the first step has been taken."""
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
        """Ends the process, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        # What it did not read is lost with it.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def _message(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            message = {"error": f"no answer within {self._timeout:g} s (--timeout)"}
        else:
            message = json.loads(line) if line else {"error": self._last_words()}
        if "error" in message:
            self.end()
        return message

    def _last_words(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "killed, as the system does when memory runs out"
        self._errors.seek(0)
        last = (self._errors.read().strip() or "without a word").splitlines()[-1]
        return f"ended with exit code {code}: {last}"


def measure(jobs: Sequence[Job], limits: Limits) -> list[Row]:
    """One row a job, in their order; says on stderr how far it is. No process outlives it."""
    rows: list[Row] = []
    workers: list[Worker] = []
    try:
        for job in jobs:
            need = None if job.library is None else peers.missing(job.library)
            if need is None:
                workers.append(Worker(job, limits.timeout))
                rows.append(workers[-1].row)
                workers[-1].start()
            else:
                rows.append(Row(job, error=need))
            _say(f"{job.name}: {rows[-1].error or 'ready'}")
        for turn in range(limits.repeats):
            for worker in workers:
                if _goes_on(worker.row, limits):
                    worker.turn()
            _say(f"turn {turn + 1} of {limits.repeats}")
    finally:
        for worker in workers:
            worker.end()
    return rows


def _goes_on(row: Row, limits: Limits) -> bool:
    return row.error is None and (len(row.seconds) < 2 or sum(row.seconds) < limits.seconds)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
