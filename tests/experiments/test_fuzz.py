"""Any command line: either a run could begin, or one paragraph on stderr and exit code 2, with nothing written."""

import contextlib
import dataclasses
import io
import os
import typing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments import digits, imagenet, randman
from experiments.config import PART_OF, Config
from experiments.data import Encoded, ImageFiles, Images, SpikeTimes
from experiments.training import cli, feed, run, trainer

LONGEST_MESSAGE = 14
FIELDS = [field for part in dataclasses.fields(Config) for field in dataclasses.fields(getattr(Config(), part.name))]
WHOLE = st.sampled_from(["0", "1", "2", "3", "8", "64", "-1", "100000", "4294967295", "9" * 19, "9" * 400])
REAL = st.sampled_from(
    ["0", "1", "0.5", "1.5", "-0.1", "1e-3", "nan", "inf", "-inf", "1e308", "1e-320", "1e39", "0.999999", "-0"]
)
WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
FOLDERS = [
    "",
    ".",
    "new",
    "a/b/c",
    "~",
    "~nobody-of-that-name/x",
    "taken",
    "taken/below",
    "file",
    "file/below",
    "x" * 300,
]
ENTRIES = st.one_of(st.sampled_from(["1", "4", "8", "M", "0", "-3", "65536", "9" * 30]), WORD)


class Began(Exception):
    """Training would begin now."""


def values(field):
    """Good, bad and absurd values for the flag of a field."""
    kind = typing.get_type_hints(type(getattr(Config(), PART_OF[field.name])))[field.name]
    choices = [c for c in typing.get_args(kind) if isinstance(c, str)]
    if choices:
        return st.sampled_from([*choices, "", "None", choices[0].upper()])
    if field.name in ("data_dir", "workdir"):
        return st.one_of(st.sampled_from(FOLDERS), WORD)
    if field.name == "coordinator":
        return st.one_of(st.sampled_from(["auto", "here:1", "here", ":1", "here:0", "here:99999", "a:b:c"]), WORD)
    return st.one_of(REAL, WORD) if kind is float else st.one_of(WHOLE, REAL, WORD, st.just("None"))


def flag(field):
    """One flag with a value, as words of a command line."""
    name = "--" + field.name.replace("_", "-")
    if field.name in ("quiet", "resume"):
        return st.sampled_from([[name], [f"--no-{name[2:]}"], [name, "1"], [f"{name}=maybe"]])
    if field.name == "layers":
        return st.lists(ENTRIES, max_size=5).map(lambda entries: [name, *entries])
    return values(field).flatmap(lambda value: st.sampled_from([[f"{name}={value}"], [name, value], [name]]))


FLAGS = st.sampled_from(FIELDS).flatmap(flag)
COMMAND_LINES = st.lists(FLAGS, max_size=4).map(lambda flags: [word for words in flags for word in words])


class Ended(NamedTuple):
    """How a command line ended: its exit code, None where training would have begun, and what it said."""

    code: int | None
    out: str
    err: str


def command(default, args):
    """`python -m experiments.NAME ARGS`, in this process, up to the first training step."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(default, "", args)
        except SystemExit as end:
            code = end.code
        except Began:
            code = None
    return Ended(code, out.getvalue(), err.getvalue())


def assert_refused_or_begun(ended, folder, before):
    if ended.code == 0:
        assert "usage:" in ended.out  # A word was -h.
        return
    assert ended.code in (None, 2) and ended.out == "" and "Traceback" not in ended.err
    if ended.code == 2:
        lines = ended.err.strip().split("\n")
        assert 1 <= len(lines) <= LONGEST_MESSAGE and all(line.strip() for line in lines), ended.err
        assert written(folder) == before


def written(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def images(count, classes):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 1), np.uint8)
    return pixels, np.arange(count, dtype=np.int32) % classes


@pytest.fixture(scope="module")
def datasets():
    png = io.BytesIO()
    Image.new("RGB", (40, 30)).save(png, "PNG")
    files = [Encoded(f"{i}.png", png.getvalue(), i % 4) for i in range(70)]
    times = np.random.default_rng(0).integers(0, 2**16, (70, 6), np.uint16)
    labels = np.arange(70, dtype=np.int32) % 4
    return {
        "digits": Images("digits", *images(70, 4), *images(9, 4), num_classes=4, mean=(0.5,), std=(0.5,)),
        "randman": SpikeTimes("randman", times, labels, times, labels, num_classes=4),
        "imagenet": ImageFiles("imagenet", files, files[:9], 4, (0.5,) * 3, (0.5,) * 3, 32),
    }


@pytest.fixture
def stage(tmp_path, monkeypatch, datasets):
    """The current directory of a command: nets are built as shapes only, and no process is waited for."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    build, create = run.build_net, run.open_folder

    def begin(*args):
        """Claims the folder, as a run does, then leaves everything as it was."""
        before = written(tmp_path)
        with create(*args):
            pass
        for path in sorted(written(tmp_path) - before, reverse=True):
            (tmp_path / path).rmdir() if (tmp_path / path).is_dir() else (tmp_path / path).unlink()
        raise Began

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(feed, "load", lambda name, data_dir: datasets.get(name) or datasets["digits"])
    monkeypatch.setattr(run, "build_net", lambda *args: nnx.eval_shape(lambda: build(*args)))
    monkeypatch.setattr(trainer.ParallelStep, "init", lambda step, net: (net, ()))
    monkeypatch.setattr(run, "open_folder", begin)
    monkeypatch.setattr(cli, "join", lambda config: config)
    return tmp_path


@pytest.mark.parametrize("examples", [30, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("experiment", [digits, randman, imagenet])
def test_any_flags(experiment, examples, stage):
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(COMMAND_LINES)
    def property_holds(args):
        before = written(stage)
        assert_refused_or_begun(command(experiment.CONFIG, args), stage, before)

    property_holds()


@pytest.mark.parametrize("name", list(PART_OF))
def test_each_flag(name, stage):
    """Every flag by itself, and many of its values."""
    field = next(field for field in FIELDS if field.name == name)

    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(flag(field))
    def property_holds(args):
        before = written(stage)
        ended = command(digits.CONFIG, args)
        assert_refused_or_begun(ended, stage, before)
        if name != "dataset":  # That other flags do not fit.
            assert ended.code != 2 or f"--{name.replace('_', '-')}" in ended.err or "nrecognized" in ended.err

    property_holds()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--network=resnet18", "--layers", "4"], "--layers says nothing with --network=resnet18"),
        (["--momentum=0.5"], "--momentum says nothing with --optimizer=adam"),
        (["--weight-decay=0.1"], "adamw, which is adam with weight decay"),
        (["--batch-size=71"], "more than all 70 training examples"),
        (["--layers", *"4MMMMM"], "halves the image 5 times"),
        (["--augmentation=resized_crop_flip"], "crops image files"),
        (["--image-size=32"], "crops image files"),
        (["--processes=2"], "but with --coordinator=HOST:PORT"),
        (["--method=saf_e", "--accumulate=2"], "updates at every time step"),
        (["--network=resnet18", "--width=0.01"], "have no variance"),
        (["--epochs=2147483647", "--batch-size=8"], "more than can be counted"),
        (["--workdir=taken"], "is not empty"),
        (["--workdir=file"], "cannot be written"),
        (["--workdir=~nobody-of-that-name/x"], "the name of a folder"),
        (["--devices=1000"], "is more than there are"),
    ],
)
def test_contradictions_are_explained(args, reason, stage):
    before = written(stage)
    ended = command(digits.CONFIG, args)
    assert ended.code == 2 and reason in " ".join(ended.err.replace("│", " ").split())
    assert written(stage) == before and "Traceback" not in ended.err


def test_good_flags_begin(stage):
    assert command(digits.CONFIG, ["--steps=3", "--seed=4294967295", "--batch-size=64"]).code is None
    assert command(randman.CONFIG, ["--batch-size=64", "--precision=float64"]).code is None
    assert command(imagenet.CONFIG, ["--batch-size=64", "--workdir=new"]).code is None
    assert Path.cwd() == stage and os.environ["HOME"] == str(stage)
