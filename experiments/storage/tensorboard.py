"""The records of a run as scalars that TensorBoard draws: `tensorboard --logdir runs`."""

import functools
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "held_out_loss": "loss/held_out",
    "held_out_accuracy": "accuracy/held_out",
    "learning_rate": "learning_rate",
    "examples_per_second": "examples_per_second",
}
"""What the scalars of a record are called there; the firing rate of a layer is firing_rate/LAYER."""


class Scalars:
    """Appends records to the event files of a folder.

    Every process that has something to write begins a file of its own. It says first from which epoch on it replaces
    the files before it (TensorBoard's purge step), so that the curves of a run that was killed and resumed neither fork
    nor have a point twice.

    Args:
      folder: made when it is needed.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: Any = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes the scalars of one epoch, and hands them to the system at once.

        Raises:
          OSError: they could not be written.
        """
        try:
            self._append(record)
        except OSError:
            # What was half written ends that file; the next record begins another.
            self._writer = None
            raise

    def _append(self, record: Mapping[str, Any]) -> None:
        events, summaries, files = _tensorboardx()
        event = functools.partial(events.Event, step=record["epoch"], wall_time=time.time())
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Its name begins with the second.
            self._writer = files.EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{record['epoch']}")
            self._writer.write_event(event(session_log=events.SessionLog(status=events.SessionLog.START)))
        values = [summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record).items()]
        self._writer.write_event(event(summary=summaries.Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of `metrics.jsonl` by their TensorBoard names."""
    rates = {f"firing_rate/{layer}": rate for layer, rate in record["rates"].items()}
    return {tag: record[name] for name, tag in NAMES.items() if name in record} | rates


def _tensorboardx() -> tuple[Any, Any, Any]:
    """Its protocol buffers and its writer of files; imported with the first record, not with this module."""
    # Where torch is installed, tensorboardX imports it for the name of one type; without, it does as well.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import event_file_writer
        from tensorboardX.proto import event_pb2, summary_pb2
    finally:
        if hidden:
            del sys.modules["torch"]
    return event_pb2, summary_pb2, event_file_writer
