"""A disk that is full for a while, or to the end: nothing is lost that was saved, and the user is told."""

import contextlib
import resource

import pytest

from experiments.storage import checkpoints
from experiments.storage.checkpoints import Checkpoints
from experiments.training.progress import ProgressReport
from tests.experiments.conftest import run_digits
from tests.experiments.test_resume import assert_same_run
from tests.experiments.test_trainer import measured

ROOM = 16  # bytes of a file; what goes beyond fails as on a full disk, with an error of the system


@contextlib.contextmanager
def full_disk():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def full_after(monkeypatch):
    """Call with an epoch and a context: the disk is full when its checkpoint is written, until the context ends."""
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, snapshot: (save(self, snapshot), self._saving.exception()))

    def arrange(epoch, context):
        end_epoch = ProgressReport.end_epoch

        def end_and_fill(self, record):
            end_epoch(self, record)
            if record["epoch"] == epoch:
                context.enter_context(full_disk())
            else:
                context.close()

        monkeypatch.setattr(ProgressReport, "end_epoch", end_and_fill)

    return arrange


@pytest.mark.slow
def test_full_for_an_epoch(run, full_after, tmp_path):
    whole = run_digits(tmp_path / "whole", "--method=saf_f", "--epochs=3")
    with contextlib.ExitStack() as until:
        full_after(1, until)
        ended = run("--method=saf_f", "--epochs=3")
    assert ended.code == 0
    assert "warning: a checkpoint could not be written" in ended.err and "another is tried now" in ended.err
    assert "warning: metrics.jsonl could not be written" in ended.err
    assert_same_run(ended, whole)


@pytest.mark.slow
def test_full_to_the_end(run, full_after, finished, monkeypatch, capfd):
    whole = finished("--method=saf_f")
    with contextlib.ExitStack() as until:
        full_after(1, until)
        monkeypatch.setattr(until, "close", lambda: None)
        ended = run("--method=saf_f")
    assert ended.code == 1 and "Traceback" not in ended.err + "".join(capfd.readouterr())
    *warnings, last = [line.split(":")[0] for line in ended.err.splitlines()[1:]]
    assert set(warnings) == {"warning"} and last == "error"
    assert "error: the results are not complete" in ended.err and "make room in" in ended.err
    assert measured(ended.records)[:1] == measured(whole.records)[:1]
    assert checkpoints.steps(ended.workdir / "checkpoints") and not (ended.workdir / "summary.json").exists()
    monkeypatch.undo()
    resumed = run("--method=saf_f", "--resume")
    assert resumed.code == 0 and "resumed in epoch 2" in resumed.err
    assert_same_run(resumed, whole)
