"""The folder of a run: what was asked for, what came out, and what is needed to go on.

    config.json         the configuration, with every default written out, and the shape of the data
    metrics.jsonl       one line an epoch
    tensorboard/        the same numbers, for TensorBoard
    checkpoints/        the run at its latest moments, and at its best: see `experiments.storage.checkpoints`
    curves.png          loss and accuracy over the epochs
    inputs.png          a few examples of events, where the data are such
    firing_rates.png    firing rate of each layer over the epochs
    summary.json        what the run printed last
    lock                held by the process that trains

A folder holds one run and is never written over: one that is given must be new or empty, and the default one takes the
first name that is free. Only --resume continues the run that a folder holds.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

from experiments.config import Config, ConfigError, to_json
from experiments.console.messages import warn
from experiments.data import Shape, Shown
from experiments.storage import checkpoints
from experiments.storage.checkpoints import Checkpoints, SaveFailed, Snapshot
from experiments.storage.folders import Claim, check_same, claim, replace
from experiments.storage.tensorboard import Scalars

SAVE_SECONDS = 600
"""Between checkpoints within an epoch: all that a kill can cost, and long beside the copying of any net."""


class Workdir:
    """An open folder of a run; leaving its context waits until all is written that can be.

    Attributes:
      path: the folder.
      records: the lines of `metrics.jsonl`.
    """

    def __init__(self, claimed: Claim, config: Config, stored: dict[str, Any], shown: Sequence[Shown]):
        self.path, self._lock = claimed.path, claimed.lock
        self.records: list[dict[str, Any]] = []
        self._config, self._stored, self._shown = config, stored, shown
        self._checkpoints = Checkpoints(self.path / "checkpoints", config.run.keep)
        self._saved, self._saved_at = 0, time.monotonic()
        self._metrics, self._metrics_torn = self.path / "metrics.jsonl", False
        self._scalars = Scalars(self.path / "tensorboard")

    @property
    def best_epoch(self) -> int | None:
        """The first epoch of the best accuracy so far: of what is held out, or else of the test."""
        accuracies = [record.get("held_out_accuracy", record["test_accuracy"]) for record in self.records]
        return 1 + accuracies.index(max(accuracies)) if accuracies else None

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            if kind is not None and not issubclass(kind, SaveFailed):
                self._settle()
        except OSError as error:
            warn(f"not everything could be written: {error}")
        finally:
            self._checkpoints.close()
            self._scalars.close()
            self._lock.close()

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`, and its numbers to TensorBoard's files."""
        self.records.append(record)
        try:
            self._scalars.append(record)
        except OSError as error:
            warn(f"epoch {record['epoch']} is missing in TensorBoard's files, which could not be written: {error}")
        self._store(json.dumps(record) + "\n")

    def due(self, step: int) -> bool:
        """Whether it is time for another checkpoint within the epoch."""
        if self._checkpoints.busy:
            return False
        every = self._config.run.save_every
        return step - self._saved >= every if every else time.monotonic() - self._saved_at >= SAVE_SECONDS

    def save(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint in the background; waits only for the one before it."""
        try:
            self._checkpoints.wait()
        except SaveFailed as error:
            warn(f"{error}; training goes on, and another is tried now")
        values = {"config": self._stored, "records": list(self.records), **snapshot.values}
        self._checkpoints.save(snapshot._replace(values=values))
        self._saved, self._saved_at = snapshot.step, time.monotonic()

    def restore(self) -> Snapshot | None:
        """The latest checkpoint that is whole, None without any; takes back what was recorded after it.

        Raises:
          ConfigError: all are damaged, or they belong to another run.
        """
        snapshot = checkpoints.latest(self._checkpoints.path)
        if snapshot is not None:
            check_same(snapshot.values["config"], self._config, self.path)
            checkpoints.set_aside(self._checkpoints.path, snapshot.step)
            self.records, self._saved = list(snapshot.values["records"]), snapshot.step
        if self._metrics.exists() or self.records:
            self._store(None)
        return snapshot

    def finish(self, summary: dict[str, Any]) -> None:
        """Waits until everything is written, `summary.json` last.

        Raises:
          SaveFailed: something could not be written.
        """
        try:
            self._settle()
            replace(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            raise SaveFailed(
                f"the results are not complete: {error}. What was saved before is whole: make room in {self.path}, "
                "then give the same command with --resume."
            ) from error

    def _settle(self) -> None:
        self._checkpoints.wait()
        if self._metrics_torn:
            self._write_metrics()
        self._draw()

    def _store(self, line: str | None) -> None:
        """Adds a line to `metrics.jsonl`; without one, or after a failure, writes the whole file anew."""
        try:
            if line is None or self._metrics_torn:
                self._write_metrics()
            else:
                with self._metrics.open("a") as file:
                    file.write(line)
            self._metrics_torn = False
        except OSError as error:
            self._metrics_torn = True
            warn(
                f"metrics.jsonl could not be written ({error}); training goes on, and it is tried again with the next "
                "epoch"
            )

    def _write_metrics(self) -> None:
        replace(self._metrics, "".join(json.dumps(record) + "\n" for record in self.records))

    def _draw(self) -> None:
        if self.records:
            # matplotlib takes a second to import, and only this needs it.
            from experiments.storage import event_pictures, plots

            title = f"{self._config.data.dataset}, {self._config.training.method}"
            plots.draw_curves(self.records, title, self.path / "curves.png")
            plots.draw_firing_rates(self.records, title, self.path / "firing_rates.png")
            if self._shown:
                event_pictures.draw_inputs(self._shown, self.path / "inputs.png")


def create(config: Config, shape: Shape, shown: Sequence[Shown] = ()) -> Workdir:
    """Makes the folder of a run and writes its configuration there, or opens the folder of the run to be resumed.

    Args:
      shown: examples for its picture.

    Raises:
      ConfigError: the folder holds something else already, is in use, or cannot be written.
    """
    try:
        claimed = claim(config)
        resolved = config.changed(workdir=str(claimed.path), resume=False)
        stored = {**to_json(resolved), **shape._asdict(), "input_shape": list(shape.input_shape)}
        replace(claimed.path / "config.json", json.dumps(stored, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"the work directory cannot be written: {error}. Give another one with --workdir.") from error
    return Workdir(claimed, config, stored, shown)
