"""Grids of runs: what is asked for, what is started, and what comes of kills, failures and bad flags."""

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import get_args

import pytest

from experiments import digits
from experiments.config import ConfigError, DatasetName, from_json, to_json
from experiments.sweep import __main__ as sweep
from experiments.sweep import cells, grid
from experiments.sweep.results import spread
from tests.experiments.conftest import TINY

RUN = """
import json, os, pathlib, signal, sys, time
path = pathlib.Path(sys.argv[1])
path.mkdir(exist_ok=True)
with (path / "started").open("a") as file:
    file.write("x")
(path / "config.json").write_text(sys.argv[2])
accuracy = 0.5 + json.loads(sys.argv[2])["seed"] / 10
summary = {"test_accuracy": accuracy, "test_loss": 1.0, "seconds": 2.0, "interrupted": False}
if os.environ.get("HANG", "none") in path.name and not (path / "hung").exists():
    (path / "hung").touch()
    def stop(number, frame):
        (path / "summary.json").write_text(json.dumps({**summary, "interrupted": True}))
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    time.sleep(float(os.environ["HANG_SECONDS"]))
if os.environ.get("FAIL", "none") in path.name:
    sys.exit("error: the loss is not finite")
(path / "summary.json").write_text(json.dumps(summary))
"""
"""Stands for an experiment: keeps the files of a run, and hangs or fails where it is told to."""


def stand_in(path, experiment, folder, cell):
    """The command of a stand-in; the real one is `cells._command`."""
    return [sys.executable, str(path / "run.py"), str(grid.folder(folder, cell)), json.dumps(to_json(cell.config))]


@pytest.fixture
def swept(tmp_path, monkeypatch, capsys):
    """Call with flags: a sweep of stand-ins in `tmp_path / "sweep"`; (exit code, stdout, stderr)."""
    (tmp_path / "run.py").write_text(RUN)
    monkeypatch.setattr(cells, "_command", functools.partial(stand_in, tmp_path))

    def run(*flags):
        code = sweep.main(["digits", f"--workdir={tmp_path / 'sweep'}", *flags])
        return code, *capsys.readouterr()

    return run


def starts(folder):
    """How often each cell was started."""
    return {path.parent.name: len(path.read_text()) for path in folder.glob("*/started")}


def test_all_combinations_run_and_are_tabulated(swept, tmp_path):
    code, out, err = swept("--method=saf_f,bptt", "--steps=2,6", "--seed", "0,1,2", "--epochs=3", "--jobs=2")
    folder = tmp_path / "sweep"
    assert code == 0 and err.splitlines()[0] == f"12 runs in {folder}, 0 of them finished"
    assert out == (folder / "table.md").read_text()
    assert out.splitlines() == [
        "| method | steps | test accuracy, % | test loss | s a run | runs |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {method} | {steps} | 60.00 ± 10.00 | 1.0000 ± 0.0000 | 2 ± 0 | 3 finished |"
            for method in ("saf_f", "bptt")
            for steps in (2, 6)
        ),
    ]
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert {(line["config"]["method"], line["config"]["steps"], line["config"]["seed"]) for line in lines} == {
        (method, steps, seed) for method in ("saf_f", "bptt") for steps in (2, 6) for seed in range(3)
    }
    assert all(line["status"] == "finished" and line["summary"]["test_loss"] == 1 for line in lines)


def test_same_command_runs_nothing_again_and_a_larger_one_only_what_is_missing(swept, tmp_path):
    swept("--seed=0,1")
    assert swept("--seed=0,1")[0] == 0
    code, out, err = swept("--seed=0,1,2")
    assert code == 0 and "3 runs" in err and "2 of them finished" in err and "3 finished" in out
    assert set(starts(tmp_path / "sweep").values()) == {1} and len(starts(tmp_path / "sweep")) == 3


def test_failed_cell_is_told_and_the_others_go_on(swept, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "seed=1")
    code, out, err = swept("--seed=0,1,2")
    assert code == 1 and "seed=1: failed: exit code 1; error: the loss is not finite" in err
    assert out.splitlines()[2] == "| saf_f | 60.00 ± 14.14 | 1.0000 ± 0.0000 | 2 ± 0 | 2 finished, 1 failed |"
    monkeypatch.setenv("FAIL", "none")
    code, out, _ = swept("--seed=0,1,2")
    assert code == 0 and "3 finished" in out
    assert sorted(starts(tmp_path / "sweep").values()) == [1, 1, 2]


def test_command_of_a_cell(tmp_path):
    (cell,) = grid.cells(digits.CONFIG, "", ["--method=bptt", "--layers", "4", "M", "8"])
    path = tmp_path / "method=bptt,layers=4-M-8,seed=0"
    assert cells._command("digits", tmp_path, cell) == [
        *(sys.executable, "-m", "experiments.digits", "--method", "bptt", "--layers", "4", "M", "8"),
        *(f"--workdir={path}", "--resume"),
    ]


def test_cell_killed_by_the_system_is_a_failure(swept, tmp_path, monkeypatch):
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(cells, "_command", lambda *_: [sys.executable, "-c", script])
    code, out, err = swept("--seed=0")
    assert code == 1 and "killed by SIGKILL; it said nothing" in err and "1 failed" in out


def begin(tmp_path, hang_seconds, *flags):
    """A sweep of stand-ins as a process of its own, when the run that hangs has begun to."""
    program = (
        "import functools, pathlib, sys; from experiments.sweep import __main__ as sweep, cells; "
        "from tests.experiments.test_sweep import stand_in; "
        f"cells._command = functools.partial(stand_in, pathlib.Path({str(tmp_path)!r})); "
        f"sys.exit(sweep.main(['digits', '--workdir={tmp_path / 'sweep'}', *{list(flags)!r}]))"
    )
    environment = {**os.environ, "HANG": "seed=1", "HANG_SECONDS": str(hang_seconds)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 400
    while not list((tmp_path / "sweep").glob("*/hung")):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def test_sigterm_is_handed_on_and_the_same_command_continues(swept, tmp_path):
    process = begin(tmp_path, 400, "--seed=0,1,2")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 143
    assert out.splitlines()[2].endswith("| 1 finished, 2 unfinished |")
    assert sorted(starts(tmp_path / "sweep").values()) == [1, 1]
    code, out, _ = swept("--seed=0,1,2")
    assert code == 0 and "3 finished" in out and sorted(starts(tmp_path / "sweep").values()) == [1, 1, 2]


def test_killed_sweep_waits_for_the_run_that_it_left_behind(swept, tmp_path):
    process = begin(tmp_path, 4, "--seed=0,1,2")
    process.kill()
    process.communicate()
    code, out, err = swept("--seed=0,1,2")
    assert code == 0 and "3 finished" in out
    # The run was not started a second time beside itself.
    assert set(starts(tmp_path / "sweep").values()) == {1}
    assert "another process is at work on" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--methods=bptt"], "methods"),
        (["--method=saf_f,nothing"], "nothing"),
        (["--steps=2,0"], "--steps=0"),
        (["--steps=2,,3"], "steps"),
        (["--what=1"], "what"),
        (["--seed=0,1", "--resume"], "--resume"),
        (["--coordinator=auto"], "--coordinator"),
        (["--jobs=0"], "--jobs=0"),
    ],
)
def test_bad_flags_are_refused_before_anything_starts(flags, words, swept, tmp_path, capsys):
    try:
        code = swept(*flags)[0]
    except SystemExit as end:
        code = end.code
    assert code == 2 and not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("flags", [["nothing"], []])
def test_experiment_that_is_none(flags):
    with pytest.raises(SystemExit) as end:
        sweep.main(flags)
    assert end.value.code == 2


def test_folder_of_another_run_is_refused(swept, tmp_path):
    swept("--seed=0")
    (config,) = (tmp_path / "sweep").glob("*/config.json")
    config.write_text(config.read_text().replace('"steps": 5', '"steps": 4'))
    code, out, err = swept("--seed=0,1")
    assert code == 2 and out == "" and "--steps was 4 and is now 5" in err and len(starts(tmp_path / "sweep")) == 1


def test_folder_that_cannot_be_written(swept, tmp_path):
    (tmp_path / "sweep").write_text("")
    code, _, err = swept("--seed=0")
    assert code == 2 and "cannot be written" in err


def test_layers_are_a_value_of_several_words():
    found = grid.cells(digits.CONFIG, "", ["--layers", "4", "M", "8,16", "M", "32", "--data_dir=a,b", "--no-quiet"])
    assert [cell.config.net.layers for cell in found] == [(4, "M", 8), (16, "M", 32)]
    assert [cell.name for cell in found] == [
        "method=saf_f,layers=4-M-8,seed=0",
        "method=saf_f,layers=16-M-32,seed=0",
    ]
    assert all(cell.config.run.data_dir == "a,b" for cell in found)
    assert grid.varying([cell.config for cell in found]) == ["method", "layers"]


def test_equal_cells_run_once():
    assert len(grid.cells(digits.CONFIG, "", ["--seed=1,1", "--learning-rate=0.1,1e-1"])) == 1


def test_long_names_are_cut_and_differ():
    many = ["--layers", *["16"] * 60, "--steps=3"]
    one, other = (grid.cells(digits.CONFIG, "", [*many, f"--seed={seed}"])[0].name for seed in (0, 1))
    assert one != other and {len(one), len(other)} == {grid.LONGEST_NAME}


def test_value_without_a_flag():
    with pytest.raises(ConfigError, match="'saf_f' is no flag"):
        grid.cells(digits.CONFIG, "", ["saf_f", "--seed=0"])


def test_spread():
    assert spread([], 1) == "-" and spread([2.25], 1) == "2.2" and spread([1, 2, 3], 2) == "2.00 ± 1.00"


def test_every_data_set_has_an_experiment():
    for name in get_args(DatasetName):
        assert importlib.import_module(f"experiments.{name}").CONFIG.data.dataset == name


@pytest.mark.slow
def test_real_runs_that_are_killed_and_continued(tmp_path):
    command = [sys.executable, "-m", "experiments.sweep", "digits", "--method=saf_f,sltt", *TINY]
    command += ["--seed=0,1", f"--workdir={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 400
    while not list(tmp_path.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr
    assert [row.split("|")[-2].strip() for row in ended.stdout.splitlines()[2:]] == ["2 finished"] * 2
    configs = [json.loads(path.read_text()) for path in tmp_path.glob("*/config.json")]
    for values in configs:
        del values["input_shape"], values["num_classes"], values["input_rate"]
    assert {(from_json(values).training.method, values["seed"]) for values in configs} == {
        (method, seed) for method in ("saf_f", "sltt") for seed in (0, 1)
    }
