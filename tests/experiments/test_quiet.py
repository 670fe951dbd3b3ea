"""What a user sees does not change what a run computes: the bar, plain lines, --quiet."""

import contextlib
import io
import json

import pytest

from experiments import digits
from experiments.training import cli
from tests.experiments.conftest import TINY
from tests.experiments.test_trainer import measured


class Terminal(io.StringIO):
    """A stream that shows a bar."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def on_a_terminal(tmp_path):
    """Call with flags: the records of a run whose stderr is a terminal, and what was shown there."""

    def run(*flags):
        out, err = io.StringIO(), Terminal()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert cli.main(digits.CONFIG, "", [*TINY, f"--workdir={tmp_path / 'run'}", *flags]) == 0
        records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        return records, out.getvalue(), err.getvalue()

    return run


def test_the_bar_changes_no_metric(on_a_terminal, finished, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    records, out, err = on_a_terminal("--method=saf_f")
    assert "epoch 2/2" in err and "examples/s" in err and "\x1b[" in err
    assert measured(records) == measured(finished("--method=saf_f").records)
    assert len(out.splitlines()) == 3


def test_quiet_leaves_the_summary_alone_even_on_a_terminal(on_a_terminal, finished):
    records, out, err = on_a_terminal("--method=saf_f", "--quiet")
    assert err == "" and out.count("\n") == 1 and json.loads(out)["epochs"] == 2
    assert measured(records) == measured(finished("--method=saf_f").records)


def test_without_a_terminal_there_are_plain_lines(finished):
    ended = finished("--method=saf_f")
    begun, pictures = ended.err.splitlines()
    assert begun.startswith("digits, saf_f, 438 parameters: ") and pictures.startswith("pictures: ")
    assert len(ended.out.splitlines()) == 3 and "\r" not in ended.out + ended.err


def test_errors_are_told_though_quiet(run):
    ended = run("--method=saf_f", "--quiet", "--learning-rate=1e30")
    assert ended.code == 1 and ended.out == "" and ended.err.startswith("error: the loss is not finite")
