"""The table of several methods and seeds."""

import importlib
import json
import statistics
from typing import get_args

import pytest

from experiments import compare
from experiments.config import Config, DatasetName
from experiments.data import DataUnavailable
from experiments.trainer import NonFiniteLoss


def test_a_tiny_comparison(tmp_path, capsys):
    flags = ["--layers", "16", "--steps=5", "--batch-size=512", "--epochs=1", f"--workdir={tmp_path}"]
    assert compare.main(["randman", "--methods", "saf_f", "--seeds", "0", "3", *flags]) == 0
    out, err = capsys.readouterr()
    header, rule, row = out.splitlines()
    assert header == "| method | test accuracy, % | s a run |" and rule == "|---|---|---|"
    assert err.count("epoch 1/1") == 2
    summaries = [json.loads((tmp_path / f"saf_f-{seed}" / "summary.json").read_text()) for seed in (0, 3)]
    assert [(s["method"], s["seed"], s["epochs"]) for s in summaries] == [("saf_f", 0, 1), ("saf_f", 3, 1)]
    accuracies, seconds = [100 * s["test_accuracy"] for s in summaries], [s["seconds"] for s in summaries]
    expected = [
        f"{statistics.mean(accuracies):.1f} ± {statistics.stdev(accuracies):.1f}",
        f"{statistics.mean(seconds):.0f} ± {statistics.stdev(seconds):.0f}",
    ]
    assert row == f"| saf_f | {expected[0]} | {expected[1]} |"


def fake(monkeypatch, results):
    """Replaces training by the next of `results`, an exception or (accuracy, interrupted); returns what was asked."""
    asked, remaining = [], iter(results)

    def train(config: Config):
        print("a line of an epoch")
        asked.append((config.method, config.seed, config.workdir))
        result = next(remaining)
        if isinstance(result, Exception):
            raise result
        return {"test_accuracy": result[0], "seconds": 2.0, "interrupted": result[1]}

    monkeypatch.setattr(compare, "train", train)
    return asked


def test_methods_take_turns(monkeypatch, capsys):
    asked = fake(monkeypatch, [(0.5, False)] * 4)
    assert compare.main(["digits", "--methods", "sltt", "bptt", "--seeds", "1", "2"]) == 0
    assert asked == [("sltt", 1, None), ("bptt", 1, None), ("sltt", 2, None), ("bptt", 2, None)]
    assert "a line" not in capsys.readouterr().out


def test_one_seed_has_no_deviation(monkeypatch, capsys):
    fake(monkeypatch, [(0.1234, False)])
    assert compare.main(["digits", "--methods", "bptt", "--seeds", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| bptt | 12.3 | 2 |"


def test_a_run_that_diverged_is_told_and_the_others_go_on(monkeypatch, capsys):
    fake(monkeypatch, [NonFiniteLoss("nan"), (0.5, False), (0.7, False), (0.6, False)])
    assert compare.main(["digits", "--methods", "bptt", "sltt", "--seeds", "0", "1"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[2:] == ["| bptt | 70.0, 1 diverged | 2 |", "| sltt | 55.0 ± 7.1 | 2 ± 0 |"]
    assert "error: nan" in err


def test_ctrl_c_keeps_the_runs_before(monkeypatch, capsys):
    asked = fake(monkeypatch, [(0.5, False), (0.1, True)])
    assert compare.main(["digits", "--methods", "bptt", "sltt", "--seeds", "0", "1"]) == 130
    assert capsys.readouterr().out.splitlines()[2:] == ["| bptt | 50.0 | 2 |", "| sltt | - | - |"]
    assert len(asked) == 2


def test_missing_data_ends_with_2(monkeypatch, capsys):
    fake(monkeypatch, [DataUnavailable("no data")])
    assert compare.main(["cifar10", "--methods", "bptt"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "error: no data" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--methods", "bptt", "--seed=3"], "--seeds"), (["--methods", "bptt", "--method=sltt"], "--methods")],
)
def test_flags_of_one_run_are_refused(flags, words, monkeypatch, capsys):
    asked = fake(monkeypatch, [])
    assert compare.main(["digits", *flags]) == 2
    assert words in capsys.readouterr().err and not asked


@pytest.mark.parametrize(
    "flags", [["randman"], ["nothing", "--methods", "bptt"], ["randman", "--methods", "bptt", "--what=1"]]
)
def test_flags_that_are_none(flags, monkeypatch):
    asked = fake(monkeypatch, [])
    with pytest.raises(SystemExit) as end:
        compare.main(flags)
    assert end.value.code == 2 and not asked


def test_every_data_set_has_an_experiment():
    for name in get_args(DatasetName):
        assert importlib.import_module(f"experiments.{name}").CONFIG.dataset == name
