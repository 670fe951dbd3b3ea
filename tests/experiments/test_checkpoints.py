"""Checkpoints are whole or not believed, the right ones are kept, and what fails is told."""

import os
import pickletools
import resource
import shutil
import subprocess
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.storage import checkpoints
from experiments.storage.checkpoints import Checkpoints, SaveFailed, Snapshot

VALUES = {"place": {"epoch": 2, "seconds": 0.1 + 0.2}, "records": [{"rates": {"b": 1e-300, "a": 0.5}}]}


def snapshot(step, best=None, size=5):
    random = np.random.default_rng(step)
    net = {"layers.0.kernel": random.random((size, 3), np.float32), "half": np.array([step], ml_dtypes.bfloat16)}
    optimizer = {"0.count": np.array(step, np.int32), "1.key": random.integers(0, 9, 2, np.uint32)}
    return Snapshot(step, net, optimizer, {**VALUES, "best": best})


def assert_same(back, saved):
    assert (back.step, back.values) == (saved.step, saved.values)
    for got, expected in ((back.net, saved.net), (back.optimizer, saved.optimizer)):
        assert got.keys() == expected.keys()
        for name, array in expected.items():
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
            assert got[name].tobytes() == array.tobytes()


def write(path, *snapshots, keep=3):
    """Saves one after the other, as one run."""
    writer = Checkpoints(path, keep)
    for each in snapshots:
        writer.save(each)
        writer.wait()
    writer.close()


def copy_of(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints 1 and 2."""
    path = tmp_path_factory.mktemp("run") / "checkpoints"
    write(path, snapshot(1), snapshot(2))
    return path


def test_what_is_read_is_what_was_written(two):
    assert_same(checkpoints.latest(two), snapshot(2))
    assert_same(checkpoints.read(two, 1), snapshot(1))
    net_only = checkpoints.read(two, 1, ["net"])
    assert net_only.net.keys() == snapshot(1).net.keys() and net_only.optimizer == {}


def test_no_checkpoint(tmp_path):
    assert checkpoints.latest(tmp_path / "none") is None and checkpoints.latest(tmp_path) is None


def test_the_latest_and_the_best_are_kept_also_by_another_process(tmp_path):
    path = tmp_path / "checkpoints"
    write(path, snapshot(1), snapshot(2, best=2), snapshot(3, best=2), snapshot(4, best=2), keep=2)
    assert checkpoints.steps(path) == [4, 3, 2]
    write(path, snapshot(5, best=2), snapshot(6, best=6), keep=2)
    assert checkpoints.steps(path) == [6, 5]
    write(path, snapshot(7, best=6), snapshot(8, best=6), keep=1)
    assert checkpoints.steps(path) == [8, 6]


def test_one_that_lacks_nothing_but_checksums_gets_them(two, tmp_path):
    path = copy_of(two, tmp_path)
    (path / "2" / "SHA256SUMS").rename(path / "2" / ".SHA256SUMS.new")
    before = (path / "2" / "_CHECKPOINT_METADATA").read_bytes()
    assert checkpoints.steps(path) == [1]
    write(path, snapshot(2))
    assert (path / "2" / "_CHECKPOINT_METADATA").read_bytes() == before
    assert_same(checkpoints.latest(path), snapshot(2))


def test_the_old_is_deleted_only_when_the_new_is_whole(two, tmp_path, monkeypatch):
    path = copy_of(two, tmp_path)

    def fail(*args):
        raise OSError("no space")

    with monkeypatch.context() as context:
        context.setattr(checkpoints, "replace", fail)
        with pytest.raises(SaveFailed, match="no space"):
            write(path, snapshot(3), keep=1)
    assert_same(checkpoints.latest(path), snapshot(2))
    write(path, snapshot(4), keep=1)
    assert [entry.name for entry in path.iterdir()] == ["4"]


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "missing":
        return file.unlink()
    if how == "truncated":
        content = content[: len(content) // 2]
    if how == "changed":
        content[len(content) // 2] ^= 0x10
    if how == "zeros":
        content = bytes(len(content))
    return file.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "changed", "zeros"])
def test_any_damaged_file_is_found(how, two, tmp_path, capfd):
    files = sorted(file.relative_to(two) for file in (two / "2").rglob("*") if file.is_file())
    assert {file.parts[1] for file in files} >= {"net", "optimizer", "values", "SHA256SUMS"}
    for file in files:
        path = Path(shutil.copytree(two, tmp_path / "checkpoints"))
        damage(path / file, how)
        assert_same(checkpoints.latest(path), snapshot(1))
        err = capfd.readouterr().err
        # Without its checksums, a checkpoint is one that a kill has cut short.
        cut_short = (file.name, how) == ("SHA256SUMS", "missing")
        assert err == "" if cut_short else f"{path / '2'} is damaged" in err and len(err.splitlines()) == 1
        shutil.rmtree(path)


def test_checksums_are_those_of_sha256sum(two):
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=two / "2")
    assert done.returncode == 0


def test_all_damaged(two, tmp_path):
    path = copy_of(two, tmp_path)
    for step in ("1", "2"):
        shutil.rmtree(path / step / "net")
    with pytest.raises(ConfigError, match=r"/2 is damaged.*/1 is damaged.*Put a sound copy back") as error:
        checkpoints.latest(path)
    assert len(str(error.value).splitlines()) == 1


def test_what_comes_after_is_set_aside(two, tmp_path):
    path = copy_of(two, tmp_path)
    (path / "2.damaged").mkdir()
    checkpoints.set_aside(path, 1)
    assert sorted(entry.name for entry in path.iterdir()) == ["1", "2.damaged"]
    write(path, snapshot(2))
    assert_same(checkpoints.latest(path), snapshot(2))


def test_what_a_kill_left_half_written_is_ignored_and_cleared_away(two, tmp_path):
    path = copy_of(two, tmp_path)
    half = path / "3.orbax-checkpoint-tmp"
    shutil.copytree(path / "2" / "net", half / "net")
    assert checkpoints.steps(path) == [2, 1]
    write(path, snapshot(3))
    assert checkpoints.steps(path) == [3, 2, 1] and not half.exists()


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    disk, write_now = threading.Event(), Checkpoints._write
    monkeypatch.setattr(Checkpoints, "_write", lambda *args: (disk.wait(60), write_now(*args)))
    writer = Checkpoints(tmp_path / "checkpoints", 3)
    writer.save(snapshot(1))
    assert writer.busy and checkpoints.steps(writer.path) == []
    disk.set()
    writer.wait()
    assert not writer.busy and checkpoints.steps(writer.path) == [1]
    writer.close()


@pytest.fixture
def small_files():
    """No file can grow beyond 20 kB: a write fails as on a full disk, with an error of the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_told_loses_nothing_and_is_tried_again(tmp_path, small_files):
    writer, path = Checkpoints(tmp_path / "checkpoints", 1), tmp_path / "checkpoints"
    writer.save(snapshot(1))
    writer.wait()
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    small_files()
    writer.save(snapshot(2, size=50_000))
    with pytest.raises(SaveFailed, match="could not be written") as error:
        writer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert len(str(error.value).splitlines()) == 1
    assert_same(checkpoints.latest(path), snapshot(1))
    writer.save(snapshot(3, size=50_000))
    writer.wait()
    writer.close()
    assert [entry.name for entry in path.iterdir()] == ["3"]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveFailed):
        write(tmp_path / "file" / "checkpoints", snapshot(1))


def test_nothing_in_a_checkpoint_is_a_pickle(two):
    """A pickle is a program; orbax's formats are not. No file parses as one, and orbax's reader imports no pickle."""
    for file in two.rglob("*"):
        if file.is_file():
            with pytest.raises((ValueError, IndexError)):
                list(pickletools.genops(file.read_bytes()))


def test_reading_executes_nothing(two, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("reading a checkpoint must not unpickle")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    assert_same(checkpoints.latest(two), snapshot(2))
