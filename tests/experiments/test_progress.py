"""A bar on a terminal, plain lines elsewhere."""

import io
import sys

import pytest

from experiments.training.metrics import Means
from experiments.training.progress import ProgressReport, line

MEANS = Means(loss=0.5, accuracy=0.75, rates={}, examples_per_second=1234.5)
RECORD = {
    "epoch": 1,
    "train_loss": 0.5,
    "train_accuracy": 0.75,
    "test_loss": 0.6,
    "test_accuracy": 0.7,
    "learning_rate": 0.1,
    "examples_per_second": 1234.5,
    "seconds": 2.0,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report():
    with ProgressReport(epochs=10, batches=1) as progress:
        progress.begin_epoch(1)
        progress.show(1, 1, MEANS)
        progress.end_epoch(RECORD)


def test_terminal_has_a_bar_and_stdout_the_line(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", Terminal())
    report()
    bar = sys.stderr.getvalue()
    for part in ("epoch 1/10", "loss 0.5000", "accuracy 75.00%", "1,234 examples/s", "left"):
        assert part in bar
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"])
def test_elsewhere_there_is_nothing_but_the_line(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "1")
    report()
    out, err = capsys.readouterr()
    assert err == ""
    assert out == ("epoch  1/10  train loss 0.5000  75.00%  test 0.6000  70.00%  1,234 examples/s  2.0 s\n")


def test_a_line_fits_into_120_columns():
    """Of the longest run, with held-out examples, at loss and speed as high as they come."""
    held_out = {"held_out_loss": 12.3456, "held_out_accuracy": 1.0}
    losses = {"train_loss": 12.3456, "test_loss": 12.3456, "train_accuracy": 1.0, "test_accuracy": 1.0}
    longest = {**RECORD, **held_out, **losses, "epoch": 300, "examples_per_second": 123456.0, "seconds": 12345.6}
    assert len(line(longest, 300)) <= 120
