"""`python -m experiments.benchmark`: measures and prints."""

import dataclasses
import sys
from collections.abc import Sequence

import tyro

from experiments import benchmark
from experiments.benchmark.machine import product_gflops_of, warn_if_busy
from experiments.benchmark.options import Options
from experiments.benchmark.report import Report, heading, table
from experiments.benchmark.rows import Job, Row
from experiments.benchmark.runner import measure
from experiments.benchmark.tables import Inference, Input, Measure, Paper, Peers, Rules, Stream


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints.

    Args:
      arguments: the command line; None takes the program's.

    Returns:
      The exit code: 1 if a row failed, 2 if the output cannot be written, 130 after Ctrl-C.
    """
    options: Options = tyro.cli(
        Measure | Rules | Paper | Peers | Inference | Input | Stream,
        args=arguments,
        prog="python -m experiments.benchmark",
        description=benchmark.__doc__,
    )
    try:
        report = Report(options.output)
    except OSError as error:
        print(f"error: --output={options.output} cannot be used: {error}.", file=sys.stderr)
        return 2
    try:
        tables = run(options, report)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return int(any(row.error is not None for rows in tables for row in rows))


def run(options: Options, report: Report) -> list[list[Row]]:
    """Measures one table after another; each is reported as soon as it is there."""
    load, tables = warn_if_busy(), []
    for jobs in options.tables():
        rows = measured(jobs, options)
        report.add(f"{heading(rows, load)}\n\n{table(rows, options.references(rows), options.columns)}", rows)
        tables.append(rows)
    report.add(options.verdict(tables))
    if options.output is not None:
        options.draw(tables, options.output)
    return tables


def measured(jobs: Sequence[Job], options: Options) -> list[Row]:
    """The rows of a table, between two matrix products."""
    before = product_gflops_of(options.thread_count)
    rows = measure(jobs, options.limits)
    products = before, product_gflops_of(options.thread_count)
    return [dataclasses.replace(row, products=products) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
