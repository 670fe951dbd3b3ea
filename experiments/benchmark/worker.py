"""A row's own process: builds, takes a first step, says so, then takes one step for each line it is sent.

    python -m experiments.benchmark.worker JOB

JOB is a JSON object, see `Job`. Messages are lines of JSON on stdout: first {"compile_seconds", "temp_bytes",
"operations", "device"}, then for each line on stdin {"seconds", "loss", "peak_bytes"}; or {"error"} and the end.
"""

import dataclasses
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from experiments.benchmark.work import Prepared, Work


@dataclasses.dataclass(frozen=True)
class Job:
    """What a row is of.

    Attributes:
      method: a rule, or "library:method" of a peer.
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
        """Of a peer; None for safjax."""
        return self.method.partition(":")[0] if ":" in self.method else None

    def to_json(self) -> str:
        """For the command line of the worker."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "work": Work(**fields["work"])})


def main(text: str) -> None:
    """Serves the parent until it closes the pipe."""
    # What libraries print goes to stderr: stdout carries messages only.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    try:
        serve(Job.from_json(text), say)
    except Exception as error:
        traceback.print_exc()
        say(error=traceback.format_exception_only(error)[-1].strip().splitlines()[-1])


def serve(job: Job, say: Callable[..., None]) -> None:
    """The first step, then one for each line of stdin."""
    prepared = prepare(job)
    began = time.perf_counter()
    prepared.step()
    compile_seconds = time.perf_counter() - began
    say(compile_seconds=compile_seconds, **prepared.program()._asdict())
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = prepared.step()
        seconds = time.perf_counter() - began
        say(seconds=seconds, loss=loss, peak_bytes=peak_bytes())


def prepare(job: Job) -> Prepared:
    """The step of a job; imports the one library that it needs."""
    if job.library is None:
        return importlib.import_module("experiments.benchmark.ours").prepare(job.work, job.method, job.unrolled)
    if "torch" in importlib.import_module("experiments.benchmark.peers").PEERS[job.library].needs:
        importlib.import_module("torch").set_num_threads(job.threads)
    peer = importlib.import_module(f"experiments.benchmark.peers.{job.library}")
    return peer.prepare(job.work, job.method.partition(":")[2])


def peak_bytes() -> int:
    """The most memory that was resident in this process."""
    try:
        # ru_maxrss of a child on Linux begins with its parent's memory; the high-water mark is its own.
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main(sys.argv[1])
