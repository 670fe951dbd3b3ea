"""The command line of the report."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

import experiments.report
from experiments.console.messages import say
from experiments.report.activity import Activity, activity
from experiments.report.page import page
from experiments.report.runs import NotARun, Run, read
from experiments.storage.folders import replace


@dataclasses.dataclass(frozen=True)
class Options:
    """What to show."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, such as runs/digits-saf_f-0, or of sweeps."""
    output: Path = Path("report.html")
    """The page."""
    examples: int = 16
    """Test examples that are shown to each net, for its spikes and its energy."""


def main(args: Sequence[str] | None = None) -> int:
    """Writes the page.

    Args:
      args: the command line; None takes the program's.

    Returns:
      The exit code: 2 for a path that is no run, or a page that cannot be written.
    """
    options = tyro.cli(Options, args=args, prog="python -m experiments.report", description=experiments.report.__doc__)
    try:
        _check(options)
        runs = read(options.runs)
        replace(options.output, page(runs, _seen(runs, options.examples)))
    except (NotARun, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {os.path.getsize(options.output):,} bytes")
    return 0


def _seen(runs: Sequence[Run], examples: int) -> list[Activity | str]:
    """What every run's net does; that takes half a minute or so each, most of it compiling."""
    seen = []
    for number, run in enumerate(runs, 1):
        say(f"run {number} of {len(runs)}, {run.name}: spikes and energy of {examples} examples ...")
        seen.append(activity(run, examples))
    return seen


def _check(options: Options) -> None:
    if not options.runs:
        raise NotARun("no run is given. Give folders of runs, such as runs/digits-saf_f-0.")
    if options.examples < 1:
        raise NotARun(f"--examples={options.examples} is not possible: expected a whole number of examples, 1 or more.")
    if not options.output.absolute().parent.is_dir():
        raise OSError(f"--output={options.output} cannot be written: there is no such folder.")


if __name__ == "__main__":
    sys.exit(main())
