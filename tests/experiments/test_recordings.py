"""Whole runs on events: what is said, what is left, and what no data are told."""

import contextlib
import io
import json

import pytest
from PIL import Image

from experiments import saccades
from experiments.training import cli


def train(recipe, workdir, *flags):
    """A run in this process: its exit code, summary and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(recipe.CONFIG, recipe.__doc__, [f"--workdir={workdir}", "--compiled=None", *flags])
    lines = out.getvalue().splitlines()
    return code, json.loads(lines[-1]) if lines else None, err.getvalue()


@pytest.mark.slow
def test_saccades_are_told_apart(tmp_path):
    code, summary, _ = train(saccades, tmp_path / "run", "--epochs=10", "--quiet")
    assert code == 0 and summary["test_accuracy"] > 0.92


def test_a_run_on_events(tmp_path):
    tiny = ("--layers", "2", "M", "4", "M", "--steps=4", "--chain=2", "--epochs=1", "--batch-size=32")
    code, summary, said = train(saccades, tmp_path / "run", *tiny)
    assert code == 0 and summary["baseline_test_accuracy"] == 0.5 and summary["chosen_epoch"] == 1
    for line in ("T = 2 bins of 157.5 ms", "classes: 0 then 1, 1 then 0", "0 and 0 of their events lie outside", "MB"):
        assert line in said
    with Image.open(tmp_path / "run" / "inputs.png") as picture:
        assert len(picture.convert("RGB").resize((200, 200)).getcolors(40_000)) > 20
