"""What a user sees while a net is trained: a bar on a terminal, and one plain line an epoch."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.training.metrics import Means


class ProgressReport:
    """A bar on stderr, where that is a terminal, and lines on stdout, wherever they go.

    Args:
      epochs: epochs of the run.
      batches: batches of an epoch.
      quiet: neither bar nor lines.
    """

    def __init__(self, epochs: int, batches: int, quiet: bool = False):
        self._epochs, self._batches, self._quiet = epochs, batches, quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            # Cleared before a line is printed, which would run into it otherwise.
            transient=True,
            console=Console(file=sys.stderr),
            # rich also believes in terminals on the word of environment variables.
            disable=quiet or not sys.stderr.isatty(),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=epochs * batches, numbers="compiling")

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin_epoch(self, epoch: int) -> None:
        """Names the epoch, counted from 1."""
        self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs}")
        self._bar.start()

    def show(self, epoch: int, batch: int, means: Means) -> None:
        """Shows the means of an epoch so far, after a batch of it, both counted from 1."""
        numbers = f"loss {means.loss:.4f}  accuracy {means.accuracy:.2%}  {means.examples_per_second:,.0f} examples/s"
        self._bar.update(self._task, completed=(epoch - 1) * self._batches + batch, numbers=numbers)

    def end_epoch(self, record: Mapping[str, Any]) -> None:
        """Prints the line of an epoch."""
        self._bar.stop()
        if not self._quiet:
            print(line(record, self._epochs), flush=True)


def line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch: losses, accuracies, speed and time, in at most 120 columns; `metrics.jsonl` has more."""
    held_out = ""
    if "held_out_accuracy" in record:
        held_out = f"  held out {record['held_out_loss']:.4f} {record['held_out_accuracy']:7.2%}"
    return (
        f"epoch {record['epoch']:{len(str(epochs))}d}/{epochs}"
        f"  train loss {record['train_loss']:.4f} {record['train_accuracy']:7.2%}"
        f"{held_out}  test {record['test_loss']:.4f} {record['test_accuracy']:7.2%}"
        f"  {record['examples_per_second']:,.0f} examples/s  {record['seconds']:.1f} s"
    )
