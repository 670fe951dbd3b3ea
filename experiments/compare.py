"""An experiment with several methods and seeds, as one Markdown table.

    python -m experiments.compare randman --methods exodus bptt sltt saf_f --seeds 0 1 2
    python -m experiments.compare digits --methods ottt_a saf_f --epochs=5    # further flags are the experiment's

Each run is one of the experiment's own, in this process one after the other; --workdir holds a folder for each. The
lines of the epochs go to stderr, the table to stdout. Exit codes as of `experiments.cli`.
"""

import contextlib
import dataclasses
import importlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.config import Config, ConfigError, DatasetName, Method, parse
from experiments.data import DataUnavailable
from experiments.trainer import NonFiniteLoss, train


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare."""

    experiment: tyro.conf.Positional[DatasetName]
    """Experiment."""
    methods: tuple[Method, ...]
    """Learning rules."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one run of every method for each."""


@dataclasses.dataclass
class Row:
    """The runs of a method: their test accuracies and seconds, and how many diverged."""

    method: str
    accuracies: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    diverged: int = 0

    def __str__(self) -> str:
        accuracy = _spread([100 * value for value in self.accuracies], digits=1)
        diverged = f", {self.diverged} diverged" if self.diverged else ""
        return f"| {self.method} | {accuracy}{diverged} | {_spread(self.seconds, digits=0)} |"


def main(args: Sequence[str] | None = None) -> int:
    """Trains and prints.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    options, rest = tyro.cli(
        Options, args=args, prog="python -m experiments.compare", description=__doc__, return_unknown_args=True
    )
    rows = [Row(method) for method in options.methods]
    try:
        config = _parsed(options, rest)
        with contextlib.redirect_stdout(sys.stderr):
            complete = all(_run(one, row) for one, row in _runs(config, options, rows))
    except (ConfigError, DataUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("| method | test accuracy, % | s a run |\n|---|---|---|", *rows, sep="\n", flush=True)
    if not complete:
        return 130
    return 1 if any(row.diverged for row in rows) else 0


def _parsed(options: Options, rest: Sequence[str]) -> Config:
    experiment = importlib.import_module(f"experiments.{options.experiment}")
    default: Config = experiment.CONFIG
    config = parse(default, experiment.__doc__ or "", rest)
    if (config.method, config.seed) != (default.method, default.seed):
        raise ConfigError("--method and --seed are for one run. Give --methods and --seeds.")
    return config


def _runs(config: Config, options: Options, rows: list[Row]) -> Iterator[tuple[Config, Row]]:
    """The methods take turns, so that whatever else the machine does falls on all of them."""
    for seed in options.seeds:
        for method, row in zip(options.methods, rows, strict=True):
            folder = None if config.workdir is None else str(Path(config.workdir) / f"{method}-{seed}")
            yield dataclasses.replace(config, method=method, seed=seed, workdir=folder), row


def _run(config: Config, row: Row) -> bool:
    """Trains once and notes the result; whether the run was not interrupted."""
    try:
        summary: dict[str, Any] = train(config)
    except NonFiniteLoss as error:
        print(f"error: {error}", file=sys.stderr)
        row.diverged += 1
        return True
    if summary["interrupted"]:
        return False
    row.accuracies.append(summary["test_accuracy"])
    row.seconds.append(summary["seconds"])
    return True


def _spread(values: Sequence[float], digits: int) -> str:
    """Mean ± sample standard deviation; of one value, the value."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
