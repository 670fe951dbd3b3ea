"""How fast and how busy the machine is.

python -m experiments.benchmark.machine    # GFLOP/s of a matrix product
"""

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np

from experiments.benchmark import peers
from experiments.benchmark.runner import ROOT, environment

BUSY = 0.7
"""Load average above which times are not to be trusted."""

SIZE = 2048


def product_gflops(repeats: int = 3) -> float:
    """Of a 2048³ float32 matrix product in NumPy, the fastest of some."""
    factor = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        factor @ factor
        seconds.append(time.perf_counter() - began)
    return 2 * SIZE**3 / min(seconds) / 1e9


def product_gflops_of(threads: int) -> float:
    """`product_gflops` of so many threads, whose number NumPy settles when it is imported: in a process of its own."""
    command = [sys.executable, "-m", "experiments.benchmark.machine"]
    done = subprocess.run(command, cwd=ROOT, env=environment(threads), capture_output=True, text=True, check=True)
    return float(done.stdout)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_if_busy() -> float:
    """The load average of the last minute."""
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: load average {load:.1f}, something else is running; times will be too long", file=sys.stderr)
    return load


def versions(libraries: Iterable[str | None]) -> str:
    """Of safjax (None) or peers, and of what they compute with."""
    needs = {need for library in libraries for need in (("jax",) if library is None else peers.PEERS[library].needs)}
    return ", ".join(f"{need} {importlib.metadata.version(need)}" for need in sorted(needs) if peers.installed(need))


if __name__ == "__main__":
    print(product_gflops())
