"""One tiny net on the digits, trained once for each set of flags and shared by the tests that only look at it."""

import contextlib
import functools
import io
import json
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import digits
from experiments.data.images import imagenet as imagenet_data
from experiments.storage.workdir import Workdir
from experiments.training import cli
from tests import imagenet as small_imagenet

DRAW = Workdir._draw

TINY = ("--layers", "4", "M", "8", "--steps=2", "--batch-size=256", "--epochs=2")


class Ended(NamedTuple):
    """A run that has ended: its exit code, what it printed, and its work directory."""

    code: int
    out: str
    err: str
    workdir: Path

    @property
    def summary(self):
        return json.loads(self.out.splitlines()[-1])

    @property
    def records(self):
        return [json.loads(line) for line in (self.workdir / "metrics.jsonl").read_text().splitlines()]


def run_digits(workdir, *flags):
    """Runs `python -m experiments.digits` on the tiny net, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(digits.CONFIG, digits.__doc__, [*TINY, f"--workdir={workdir}", *flags])
    return Ended(code, out.getvalue(), err.getvalue(), Path(workdir))


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """Runs of the same net share what they compile, in this test session only."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.getbasetemp() / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    configure_cache(settings)
    yield
    configure_cache(before)


def configure_cache(settings):
    for name, value in settings.items():
        jax.config.update(name, value)
    # The cache looks at its settings once.
    compilation_cache.reset_cache()


@pytest.fixture
def run(tmp_path):
    """Call with flags: an `Ended` run of its own, in `tmp_path / "run"`."""
    return functools.partial(run_digits, tmp_path / "run")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Call with flags: an `Ended` run, shared by all who ask for the same flags."""

    @functools.cache
    def whole(*flags):
        # With its pictures, also where the test that asks first draws none.
        with mock.patch.object(Workdir, "_draw", DRAW):
            return run_digits(tmp_path_factory.mktemp("finished"), *flags)

    return whole


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current directory, for a test that nothing is written there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def known_sizes(monkeypatch):
    """Call with a folder: makes the archives there as long as the published ones until the end of the test."""

    def know(folder):
        for split, archive in imagenet_data.ARCHIVES.items():
            size = (folder / archive.file).stat().st_size
            monkeypatch.setitem(imagenet_data.ARCHIVES, split, archive._replace(size=size))

    return know


@pytest.fixture
def imagenet_archives(tmp_path, known_sizes):
    """Small ImageNet archives, placed where a user would put them below `tmp_path`."""
    folder = tmp_path / "downloads" / "manual"
    archives = small_imagenet.write(folder)
    known_sizes(folder)
    return archives
