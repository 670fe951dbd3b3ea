"""Whole runs of a tiny net, in this process."""

import json
import math
import os
import signal

import numpy as np
import pytest

import safjax
from experiments.config import from_json
from experiments.data import load
from experiments.data.images import augmentations
from experiments.training import trained
from experiments.training.losses import example_losses
from experiments.training.progress import ProgressReport
from experiments.training.trainer import Trainer
from tests.tables import BROAD, rule_by_rule, schedules

FILES = {
    *("config.json", "metrics.jsonl", "summary.json", "checkpoints", "lock", "tensorboard"),
    *("curves.png", "firing_rates.png"),
}
NUMBERS = {
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
    "epochs",
    "steps",
    "seed",
    "parameters",
    "seconds",
    "examples_per_second",
}


def measured(records):
    """The records without what depends on the machine's mood."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "examples_per_second")} for record in records]


@pytest.mark.parametrize("method", rule_by_rule(BROAD, schedules))
def test_every_method_trains_and_leaves_its_results(method, finished):
    ended = finished(f"--method={method}")
    assert ended.code == 0
    assert {path.name for path in ended.workdir.iterdir()} == FILES
    summary = ended.summary
    assert all(type(summary[name]) in (int, float) and math.isfinite(summary[name]) for name in NUMBERS)
    assert (summary["method"], summary["dataset"], summary["interrupted"]) == (method, "digits", False)
    assert (summary["epochs"], summary["steps"], summary["parameters"]) == (2, 2, 438)
    assert json.loads((ended.workdir / "summary.json").read_text()) == summary
    config = json.loads((ended.workdir / "config.json").read_text())
    shape = [config.pop(name) for name in ("input_shape", "num_classes", "input_rate")]
    assert shape == [[16, 16, 1], 10, None]
    assert from_json(config).training.method == method


@pytest.mark.parametrize("method", rule_by_rule(BROAD, schedules))
def test_metrics_have_a_line_an_epoch(method, finished):
    first, second = finished(f"--method={method}").records
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert (first["learning_rate"], second["learning_rate"]) == pytest.approx((0.003, 0.0015))
    assert second["train_loss"] < first["train_loss"] and second["test_loss"] < first["test_loss"]
    assert list(first["rates"]) == ["features.layers.1", "features.layers.3"]
    assert all(0 < rate < 1 for rate in first["rates"].values())


def test_stdout_is_one_line_an_epoch_and_the_summary(finished):
    ended = finished("--method=saf_f")
    first, second, last = ended.out.splitlines()
    assert first.startswith("epoch 1/2  train loss ") and second.startswith("epoch 2/2  train loss ")
    assert json.loads(last) == ended.summary
    assert ended.out.isascii() and ended.out.isprintable() is False and "\x1b" not in ended.out + ended.err


@pytest.mark.parametrize("method", ["saf_f", "bptt"])
def test_saved_parameters_have_the_test_loss_of_the_summary(method, finished):
    ended = finished(f"--method={method}")
    dataset = load("digits", "")
    images = augmentations.evaluation(dataset)(dataset.test_images)
    outputs = np.asarray(safjax.predict(trained.load_parameters(ended.workdir), images, 2))
    seen = outputs[-1:] if method == "saf_f" else outputs
    loss = np.mean([example_losses(logits, dataset.test_labels, 0.05) for logits in seen])
    accuracy = np.mean(seen.mean(0).argmax(-1) == dataset.test_labels)
    assert ended.summary["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert ended.summary["test_accuracy"] == accuracy


def test_same_seed_same_metrics(finished, run):
    assert measured(run("--method=saf_f").records) == measured(finished("--method=saf_f").records)


def test_other_seed_other_metrics(finished, run):
    assert measured(run("--method=saf_f", "--seed=1").records) != measured(finished("--method=saf_f").records)


def test_recipe_runs_on_other_data_with_every_flag(run):
    flags = [
        "--augmentation=crop_flip_cutout",
        "--readout=instant",
        "--surrogate=arctan",
        "--optimizer=sgd",
        "--learning-rate=0.1",
    ]
    ended = run("--epochs=1", "--width=0.5", "--decay=1", "--threshold=0.5", *flags)
    assert ended.code == 0 and ended.summary["parameters"] == 2 * (9 + 2) + 4 * (18 + 2) + 10 * 5


def test_loss_that_is_not_finite(run):
    ended = run("--learning-rate=1e30")
    assert ended.code == 1 and ended.out == ""
    assert "epoch 1, step 2 of 5" in ended.err and "learning rate of 9" in ended.err and "Try" in ended.err
    assert "Traceback" not in ended.err


def test_parameters_before_the_loss_was_not_finite_are_kept(run, finished, monkeypatch):
    train_epoch = Trainer.train_epoch

    def diverge_in_second(self, epoch, tally):
        for means in train_epoch(self, epoch, tally):
            yield means._replace(loss=math.nan) if epoch == 2 else means

    monkeypatch.setattr(Trainer, "train_epoch", diverge_in_second)
    ended = run("--method=saf_f")
    assert ended.code == 1 and "epoch 2, step 1 of 5" in ended.err
    assert measured(ended.records) == measured(finished("--method=saf_f").records)[:1]
    assert {path.name for path in ended.workdir.iterdir()} == FILES - {"summary.json"}
    trained.load_parameters(ended.workdir)


@pytest.mark.parametrize("batch", [3, 7])
def test_ctrl_c_keeps_what_there_is(batch, run, monkeypatch):
    nets, show, shown = [], ProgressReport.show, []
    init = Trainer.__init__

    def press_ctrl_c(self, *place_and_means):
        show(self, *place_and_means)
        shown.append(place_and_means)
        if len(shown) == batch:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressReport, "show", press_ctrl_c)
    monkeypatch.setattr(Trainer, "__init__", lambda self, *args: (init(self, *args), nets.append(self))[0])
    ended = run("--method=saf_f")
    epochs = batch // 5
    assert ended.code == 130 and len(shown) == batch
    assert ended.summary["interrupted"] is True and ended.summary["epochs"] == len(ended.out.splitlines()) - 1 == epochs
    assert f"interrupted in epoch {epochs + 1}" in ended.err
    images = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    saved = safjax.predict(trained.load_parameters(ended.workdir), images, 2)
    np.testing.assert_array_equal(saved, safjax.predict(nets[0].net, images, 2))
