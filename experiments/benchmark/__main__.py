"""`python -m experiments.benchmark`: measures and prints."""

import sys
from collections.abc import Sequence

import tyro

from experiments import benchmark
from experiments.benchmark.machine import SIZE, product_gflops_of, versions, warn_if_busy
from experiments.benchmark.options import Options, check, cores
from experiments.benchmark.report import table, write
from experiments.benchmark.runner import Row, measure
from experiments.benchmark.worker import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints.

    Args:
      arguments: the command line; None takes the program's.

    Returns:
      The exit code: 1 if a row failed.
    """
    options = tyro.cli(Options, args=arguments, prog="python -m experiments.benchmark", description=benchmark.__doc__)
    check(options)
    jobs, load = jobs_of(options), warn_if_busy()
    before = product_gflops_of(jobs[0].threads)
    rows = measure(jobs, options.repeats)
    after = product_gflops_of(jobs[0].threads)
    speed = f"A {SIZE}³ float32 matrix product: {before:.0f} GFLOP/s before, {after:.0f} after."
    text = f"{headline(jobs, rows, load)}\n{speed}\n\n{table(rows)}"
    print(text, flush=True)
    if options.output is not None:
        write(options.output, options.work.title, text, rows)
    return int(any(row.error is not None for row in rows))


def jobs_of(options: Options) -> list[Job]:
    """One for each method, and one more for each of our rules if also unrolled."""
    threads = options.threads or cores()
    return [
        Job(method, options.work, threads, unrolled)
        for method in options.methods
        for unrolled in ([False, True] if options.unrolled and ":" not in method else [False])
    ]


def headline(jobs: Sequence[Job], rows: Sequence[Row], load: float) -> str:
    """What was measured, on what."""
    devices = sorted({row.device for row in rows if row.device is not None}) or ["no device"]
    return (
        f"{jobs[0].work.title}, float32, {', '.join(devices)}, {jobs[0].threads} of {cores()} cores, "
        f"load average {load:.1f}, {versions(job.library for job in jobs)}"
    )


if __name__ == "__main__":
    sys.exit(main())
