"""Exit codes and messages, and one real process on a pipe."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import safjax
from experiments import cifar10, digits
from experiments.config import ConfigError, Run
from experiments.data import DataUnavailable
from experiments.training import cli, compiled, feed, run, trained

EXPERIMENTS = ["cifar10", "cifar100", "fashion_mnist", "digits", "imagenet", "randman", "spoken_digits"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_module_runs_as_a_program(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    assert end.value.code == 0 and "--learning-rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size=1438"], "1437 training examples"),
        (["--layers", "4", "M", "M", "M", "M", "M"], "16x16"),
        (["--image-size=8"], "--image-size=8 crops image files"),
        (["--augmentation=resized_crop_flip"], "Give one of crop_flip_cutout, crop_flip, crop, none"),
        (["--workdir={folder}/file/run"], "cannot be written"),
        (["--workdir={folder}"], "not empty"),
    ],
)
def test_setting_that_does_not_fit_ends_with_2_and_nothing_written(flags, words, empty_folder, capsys):
    (empty_folder / "file").write_text("")
    code = cli.main(digits.CONFIG, "", [flag.format(folder=empty_folder) for flag in flags])
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    assert err.startswith("error: ") and words in err and len(err.splitlines()) == 1
    assert [path.name for path in empty_folder.iterdir()] == ["file"]


def test_data_folder_that_cannot_be_used(empty_folder, monkeypatch, capsys):
    def load(name, data_dir):
        raise PermissionError(13, "Permission denied", data_dir)

    monkeypatch.setattr(feed, "load", load)
    assert cli.main(digits.CONFIG, "", ["--data-dir=/locked"]) == 2
    assert "--data-dir=/locked cannot be used" in capsys.readouterr().err
    assert not list(empty_folder.iterdir())


def test_missing_data_ends_with_2_soon_and_nothing_written(empty_folder, monkeypatch, capsys):
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        # Port 9 is that of the discard service; nothing listens there.
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    start = time.monotonic()
    assert cli.main(cifar10.CONFIG, "", [f"--data-dir={empty_folder}"]) == 2
    assert time.monotonic() - start < 10
    out, err = capsys.readouterr()
    assert out == "" and "error: " in err and "'digits'" in err and "Traceback" not in err
    assert not list(empty_folder.rglob("*.json")) and not (empty_folder / "runs").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(DataUnavailable("no data"), 2), (run.NonFiniteLoss("nan"), 1), (KeyboardInterrupt(), 130)]
)
def test_exit_codes(error, code, monkeypatch, capsys):
    def fail(config):
        raise error

    monkeypatch.setattr(cli, "train", fail)
    assert cli.main(digits.CONFIG, "", []) == code
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1


def test_pipe_that_nobody_reads():
    program = "import sys; from experiments import digits; from experiments.training import cli; "
    program += "cli.train = lambda config: print(config, flush=True); "
    program += "sys.stdin.read(); sys.exit(cli.main(digits.CONFIG, '', []))"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **streams) as process:
        process.stdout.close()
        process.stdin.close()
        err = process.stderr.read()
    assert process.returncode == 1 and err.startswith("error: nobody reads stdout") and len(err.splitlines()) == 1


def test_process_on_a_pipe_interrupted_by_ctrl_c(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.digits", f"--workdir={folder}", "--epochs=1000000"]
    command += ["--layers", "4", "M", "8", "--steps=2", "--batch-size=256", "--method=saf_f"]
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **streams) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    *lines, last = (first + rest).splitlines()
    assert all(re.fullmatch(r"epoch +\d+/1000000  [\x20-\x7e]+", line) for line in lines)
    summary = json.loads(last)
    assert summary["interrupted"] is True and summary["epochs"] == len(lines)
    assert "\x1b" not in err and f"interrupted in epoch {len(lines) + 1}" in err
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(lines)
    assert (folder / "curves.png").exists() and (folder / "firing_rates.png").exists()
    outputs = safjax.predict(trained.load_parameters(folder), np.ones((2, 16, 16, 1), np.float32), 2)
    assert outputs.shape == (2, 2, 10) and np.all(np.isfinite(outputs))


def compiled_by(folder, *flags):
    """The training steps that a process of its own leaves in the folder of compiled programs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, "-m", "experiments.digits", "--layers", "4", "M", "8", "--steps=2", "--batch-size=256"]
    command += ["--epochs=1", f"--workdir={folder / 'run'}", "--resume", *flags]
    subprocess.run(command, env={**environment, "HOME": str(folder)}, check=True, capture_output=True)
    # What else is kept hangs on how long it took to compile.
    return {path.name for path in folder.rglob("*update*-cache")}


@pytest.mark.slow
def test_compiled_programs_are_kept_for_the_next_run(tmp_path):
    """A file for the training step, under a folder for machines like this one; no other for the same net again."""
    first = compiled_by(tmp_path)
    assert first and (tmp_path / ".cache" / "safjax").is_dir()
    assert compiled_by(tmp_path, "--workdir", str(tmp_path / "again")) == first


def test_a_folder_for_compiled_programs_that_cannot_be_written(empty_folder, monkeypatch):
    (empty_folder / "file").write_text("")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with pytest.raises(ConfigError, match=r"--compiled=.*file cannot be written .*--compiled=None"):
            compiled.keep_compiled(str(empty_folder / "file"))
        monkeypatch.setenv("HOME", str(empty_folder / "file"))  # one's own folder is no reason to stop
        compiled.keep_compiled(Run().compiled)
        compiled.keep_compiled(None)
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
