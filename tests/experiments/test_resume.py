"""A run that is stopped and resumed is, to the last bit, the run that was not; in this process."""

import os
import signal

import pytest

from experiments.storage import checkpoints
from experiments.storage.checkpoints import Checkpoints
from experiments.storage.workdir import Workdir
from experiments.training.feed import Feed
from experiments.training.progress import ProgressReport
from experiments.training.trainer import Trainer
from tests.experiments.test_trainer import measured

BATCHES = 5  # of an epoch of the tiny net


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take a third of a run, and have tests of their own."""
    monkeypatch.setattr(Workdir, "_draw", lambda self: None)


@pytest.fixture
def stop(monkeypatch):
    """Call with (signal, batch), or (signal, None) for the first evaluation to come: sends the signal there."""

    def arrange(number, batch):
        shown, show, evaluate = [], ProgressReport.show, Trainer.evaluate

        def send():
            monkeypatch.setattr(ProgressReport, "show", show)
            monkeypatch.setattr(Trainer, "evaluate", evaluate)
            os.kill(os.getpid(), number)

        def watched_show(*place):
            show(*place)
            shown.append(place)
            if len(shown) == batch:
                send()

        def watched_evaluate(trainer):
            if batch is None:
                send()
            return evaluate(trainer)

        monkeypatch.setattr(ProgressReport, "show", watched_show)
        monkeypatch.setattr(Trainer, "evaluate", watched_evaluate)

    return arrange


@pytest.fixture
def fed(monkeypatch):
    """The (epoch, done) with which batches were asked for."""
    calls, train_batches = [], Feed.train_batches

    def watched(self, epoch, done=0):
        calls.append((epoch, done))
        return train_batches(self, epoch, done)

    monkeypatch.setattr(Feed, "train_batches", watched)
    return calls


def final(ended):
    return checkpoints.latest(ended.workdir / "checkpoints")


def assert_same_run(ended, whole):
    assert measured(ended.records) == measured(whole.records)
    mine, theirs = final(ended), final(whole)
    assert mine.step == theirs.step
    for arrays, others in ((mine.net, theirs.net), (mine.optimizer, theirs.optimizer)):
        assert arrays.keys() == others.keys()
        assert all(arrays[name].tobytes() == others[name].tobytes() for name in others)
    names = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "epochs", "interrupted", "signal")
    assert [ended.summary[name] for name in names] == [whole.summary[name] for name in names]


@pytest.mark.parametrize("method", ["saf_f", pytest.param("ottt_o", marks=pytest.mark.slow)])
def test_stopped_again_and_again(method, run, finished, stop, fed):
    whole = finished(f"--method={method}")
    del fed[:]
    stop(signal.SIGINT, 2)
    first = run(f"--method={method}", "--resume")
    assert first.code == 130 and first.summary["interrupted"] and first.summary["signal"] == "SIGINT"
    assert "interrupted in epoch 1" in first.err and final(first).step == 3
    stop(signal.SIGTERM, None)
    second = run(f"--method={method}", "--resume")
    assert second.code == 143 and "resumed in epoch 1, after 3 of its 5 batches" in second.err
    assert final(second).step == BATCHES
    stop(signal.SIGTERM, 4)
    third = run(f"--method={method}", "--resume")
    assert third.code == 143 and "after 5 of its 5 batches" in third.err
    assert [record["epoch"] for record in third.records] == [1]
    last = run(f"--method={method}", "--resume")
    assert last.code == 0 and last.summary["interrupted"] is False
    assert fed == [(1, 0), (1, 3), (1, 5), (2, 0), (2, 4)]
    assert_same_run(last, whole)
    assert last.summary["seconds"] >= sum(record["seconds"] for record in last.records) - 1e-6


def test_what_was_recorded_after_the_checkpoint_is_taken_back(run, finished):
    whole = finished("--method=saf_f")
    run("--method=saf_f")
    folder = run.args[0]
    before = run("--method=saf_f", "--resume")
    assert before.code == 0
    # As after a kill between the line of epoch 2 and its checkpoint, amid a third line.
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / str(2 * (BATCHES + 1))).rename(folder / "gone")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_')
    ended = run("--method=saf_f", "--resume")
    assert ended.code == 0 and "resumed in epoch 2, after 0 of its 5 batches" in ended.err
    assert_same_run(ended, whole)


def test_damaged_checkpoint_falls_back_with_a_warning(run, finished, stop):
    stop(signal.SIGTERM, 7)
    run("--method=saf_f")
    folder = run.args[0] / "checkpoints"
    latest, before = checkpoints.steps(folder)[:2]
    for file in (folder / str(latest) / "optimizer").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-7])
    ended = run("--method=saf_f", "--resume")
    assert ended.code == 0
    assert f"warning: {folder / str(latest)} is damaged" in ended.err and f"of step {before} is used" in ended.err
    assert (folder / f"{latest}.damaged").is_dir()
    assert_same_run(ended, finished("--method=saf_f"))


def test_all_checkpoints_damaged(run, stop):
    stop(signal.SIGTERM, 7)
    run("--method=saf_f")
    folder = run.args[0]
    for file in folder.rglob("manifest.ocdbt"):
        file.write_bytes(b"")
    before = sorted(folder.rglob("*"))
    ended = run("--method=saf_f", "--resume")
    assert ended.code == 2 and "no checkpoint in" in ended.err and "Put a sound copy back" in ended.err
    assert "Traceback" not in ended.err and sorted(folder.rglob("*")) == before


def test_save_every_saves_within_an_epoch_and_keeps_so_many(run, monkeypatch):
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "busy", False)
    monkeypatch.setattr(Checkpoints, "save", lambda self, each: (saved.append(each.step), save(self, each)))
    ended = run("--method=saf_f", "--save-every=2", "--keep=4")
    assert saved == [2, 4, 6, 8, 10, 12]
    assert set(checkpoints.steps(ended.workdir / "checkpoints")) >= {12, 10, 8, 6}


def test_finished_run_says_so_and_changes_nothing(run):
    ended = run("--method=saf_f")
    before = {path: path.stat().st_mtime_ns for path in ended.workdir.rglob("*")}
    again = run("--method=saf_f", "--resume", "--keep=7")
    assert again.code == 0 and again.summary == ended.summary and "nothing is left to do" in again.err
    assert {path: path.stat().st_mtime_ns for path in ended.workdir.rglob("*")} == before


@pytest.mark.parametrize("stopped", [True, False])
def test_another_run_is_refused_with_the_fields_named(stopped, run, stop):
    if stopped:
        stop(signal.SIGTERM, 3)
    ended = run("--method=saf_f")
    before = {path: path.stat().st_mtime_ns for path in ended.workdir.rglob("*")}
    for flags in (["--method=bptt", "--learning-rate=0.01"], ["--method=saf_f", "--epochs=3"]):
        again = run(*flags, "--resume")
        assert again.code == 2 and again.out == "" and len(again.err.splitlines()) == 1
        for flag in flags:
            name, value = flag.split("=")
            assert (f"{name} was" in again.err and f"is now {value}" in again.err) or flag == "--method=saf_f"
    assert {path: path.stat().st_mtime_ns for path in ended.workdir.rglob("*")} == before


def test_checkpoint_of_another_run_is_refused(run, stop, finished):
    stop(signal.SIGTERM, 7)
    ended = run("--method=saf_f")
    (ended.workdir / "checkpoints").rename(ended.workdir / "own")
    os.symlink(finished("--method=ottt_o").workdir / "checkpoints", ended.workdir / "checkpoints")
    again = run("--method=saf_f", "--resume")
    assert again.code == 2 and "--method was ottt_o and is now saf_f" in again.err


def test_stopped_before_the_first_checkpoint_begins_anew(run, finished, capsys):
    folder = run.args[0]
    folder.mkdir()
    (folder / "lock").write_text("")
    (folder / ".config.json.new").write_text('{"method": "sa')
    ended = run("--method=saf_f", "--resume")
    assert ended.code == 0 and "resumed" not in ended.err
    assert_same_run(ended, finished("--method=saf_f"))


def test_folder_of_something_else_is_refused(run):
    folder = run.args[0]
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    ended = run("--method=saf_f", "--resume")
    assert ended.code == 2 and "holds something, but no run" in ended.err
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_configuration_that_cannot_be_read(run, stop):
    stop(signal.SIGTERM, 3)
    ended = run("--method=saf_f")
    for content in ("", '{"method": "saf'):
        (ended.workdir / "config.json").write_text(content)
        again = run("--method=saf_f", "--resume")
        assert again.code == 2 and "config.json cannot be read" in again.err and "Traceback" not in again.err
    (ended.workdir / "config.json").unlink()
    again = run("--method=saf_f", "--resume")
    assert again.code == 2 and "there is no config.json" in again.err and "Traceback" not in again.err
