"""An experiment with all combinations of some flags' values: runs what is missing, resumes what is unfinished.

    python -m experiments.sweep cifar10 --method=saf_f,ottt_a,bptt --steps=2,6 --seed=0,1,2
    python -m experiments.sweep digits --layers 8 M 16,16 M 32 --epochs=5 --jobs=2

Any flag of the experiment may have several values, with commas between them. Each run is a process of its own with a
folder and a log in the sweep's folder. The same command again continues, also after it was killed; a run that failed is
told of, tried again the next time, and stops no other. stdout is a Markdown table of means over the seeds, as is
table.md; results.jsonl has a line for every run.

    0         all runs are finished
    1         some failed
    2         a flag, its value or the combination is not possible, or the folder cannot be used; nothing was started
    130, 143  interrupted by Ctrl-C or SIGTERM: the runs under way were told to save
"""

import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tyro

from experiments.config import Config, ConfigError, DatasetName
from experiments.console.interrupt import Interrupt
from experiments.console.messages import say, warn
from experiments.storage.folders import replace
from experiments.sweep import grid
from experiments.sweep.cells import Result, known, run
from experiments.sweep.results import lines, table


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run; further flags are the experiment's."""

    experiment: tyro.conf.Positional[DatasetName]
    """Experiment."""
    workdir: str | None = None
    """Folder of the sweep; None is runs/sweep-EXPERIMENT. Several sweeps may share one, and the runs in it."""
    jobs: int = 1
    """Runs at the same time."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs and tabulates.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code.
    """
    options, rest = tyro.cli(
        Options, args=args, prog="python -m experiments.sweep", description=__doc__, return_unknown_args=True
    )
    try:
        cells = _cells(options, rest)
        sweep = _folder(options)
        results = [known(sweep, cell) for cell in cells]
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = [number for number, result in enumerate(results) if result.status != "finished"]
    say(f"{len(cells)} runs in {sweep}, {len(cells) - len(missing)} of them finished")
    with Interrupt() as interrupt, ThreadPoolExecutor(options.jobs) as pool:
        work = functools.partial(run, options.experiment, sweep, interrupt)
        for number, result in zip(missing, pool.map(work, [cells[number] for number in missing]), strict=True):
            results[number] = result
            say(f"{result.cell.name}: {result.words}")
            _write(sweep, results)
    _write(sweep, results)
    print(table(results), end="", flush=True)
    if interrupt.signal is not None:
        return 128 + interrupt.signal
    return 0 if all(result.status == "finished" for result in results) else 1


def _cells(options: Options, flags: Sequence[str]) -> list[grid.Cell]:
    if options.jobs < 1:
        raise ConfigError(f"--jobs={options.jobs} is not possible: expected a whole number of runs, 1 or more.")
    experiment = importlib.import_module(f"experiments.{options.experiment}")
    default: Config = experiment.CONFIG
    return grid.cells(default, experiment.__doc__ or "", flags)


def _folder(options: Options) -> Path:
    sweep = Path(options.workdir or f"runs/sweep-{options.experiment}").expanduser().absolute()
    try:
        sweep.mkdir(parents=True, exist_ok=True)
        if not os.access(sweep, os.W_OK | os.X_OK):
            raise PermissionError(f"{sweep} is read-only")
    except OSError as error:
        raise ConfigError(f"the folder of the sweep cannot be written: {error}. Give another --workdir.") from error
    return sweep


def _write(sweep: Path, results: Sequence[Result]) -> None:
    try:
        replace(sweep / "table.md", table(results))
        replace(sweep / "results.jsonl", lines(results))
    except OSError as error:
        warn(f"the table could not be written ({error}); the same command writes it again")


if __name__ == "__main__":
    sys.exit(main())
