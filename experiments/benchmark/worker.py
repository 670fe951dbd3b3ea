"""A row's own process: builds, takes a first step, says so, then takes one step for each line it is sent.

    python -m experiments.benchmark.worker JOB

JOB is a JSON object, see `experiments.benchmark.rows.Job`. Messages are lines of JSON on stdout: first
{"first_seconds", "temp_bytes", "operations", "compile_seconds", "device"}, then for each line on stdin {"seconds",
"loss", "peak_bytes"}; or {"error"} and the end.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmark.rows import INFERENCE, STREAM, Job
from experiments.benchmark.work import Prepared


def main(text: str) -> None:
    """Serves the parent until it closes the pipe."""
    # What libraries print goes to stderr: stdout carries messages only.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Where memory runs out, Linux is to end a row, the largest first, and nothing else.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")

    def say(**message: Any) -> None:
        print(json.dumps(message), file=channel, flush=True)

    try:
        serve(Job.from_json(text), say)
    except Exception as error:
        traceback.print_exc()
        # Without the notes that JAX adds behind.
        say(error=f"{type(error).__name__}: {error}".strip().splitlines()[-1])


def serve(job: Job, say: Callable[..., None]) -> None:
    """The first step, then one for each line of stdin."""
    prepared = prepare(job)
    program = prepared.program()
    began = time.perf_counter()
    prepared.step()
    say(first_seconds=time.perf_counter() - began, **program._asdict())
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = prepared.step()
        seconds = time.perf_counter() - began
        say(seconds=seconds, loss=loss, peak_bytes=peak_bytes())


def prepare(job: Job) -> Prepared:
    """The step of a job; imports the one library that it needs."""
    origin, _, method = job.method.rpartition(":")
    if job.library is None:
        importlib.import_module("safjax").keep_memory()
    if not origin:
        return importlib.import_module("experiments.benchmark.ours").prepare(job.work, method, job.unrolled)
    if origin == STREAM:
        return importlib.import_module("experiments.benchmark.ours").prepare_stream(job.work, method)
    if origin == INFERENCE:
        return importlib.import_module("experiments.benchmark.inference").prepare(job.work, method)
    if job.library is None:
        return importlib.import_module("experiments.benchmark.pipeline").prepare(job.work, method)
    if "torch" in importlib.import_module("experiments.benchmark.peers").PEERS[origin].needs:
        importlib.import_module("torch").set_num_threads(job.threads)
    return importlib.import_module(f"experiments.benchmark.peers.{origin}").prepare(job.work, method)


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
