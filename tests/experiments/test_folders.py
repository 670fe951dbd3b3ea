"""Which folder a run gets, and that it has it alone."""

import json
import os
import subprocess
import sys

import pytest

from experiments.config import Config, ConfigError, to_json
from experiments.data import Shape
from experiments.storage import folders, workdir

CONFIG = Config().changed(dataset="digits", layers=(4, "M", 8), steps=2)
RESUME = CONFIG.changed(resume=True)


def runs(folder, **states):
    """Folders of runs: of each, whether it is finished."""
    for name, finished in states.items():
        path = folder / "runs" / name.replace("_", "-").replace("saf-f", "saf_f")
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(to_json(CONFIG)))
        (path / "summary.json").write_text(json.dumps({"interrupted": not finished, "workdir": str(path)}))


def claimed(config):
    with folders.claim(config).lock as lock:
        return lock.name.split("/")[-2]


def test_without_a_folder_the_latest_unfinished_one_is_resumed(empty_folder):
    runs(empty_folder, digits_saf_f_0=False, digits_saf_f_0_2=False, digits_saf_f_0_3=True, digits_saf_f_1=False)
    assert folders.finished(RESUME) is None
    assert claimed(RESUME) == "digits-saf_f-0-2"
    assert claimed(CONFIG) == "digits-saf_f-0-4"


def test_if_all_are_finished_there_is_nothing_to_do(empty_folder):
    runs(empty_folder, digits_saf_f_0=True, digits_saf_f_0_2=True)
    assert folders.finished(RESUME)["workdir"].endswith("digits-saf_f-0-2")
    assert folders.finished(CONFIG) is None


def test_if_there_is_none_it_begins(empty_folder):
    assert folders.finished(RESUME) is None
    assert claimed(RESUME) == "digits-saf_f-0"


def test_one_process_a_folder(tmp_path):
    config = RESUME.changed(workdir=str(tmp_path))
    held = workdir.create(config, Shape((16, 16, 1), 10))
    before = (tmp_path / "config.json").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="another process is training in"):
        workdir.create(config, Shape((16, 16, 1), 10))
    assert (tmp_path / "config.json").stat().st_mtime_ns == before
    held.__exit__(None, None, None)
    workdir.create(config, Shape((16, 16, 1), 10)).__exit__(None, None, None)


def test_a_killed_process_gives_the_folder_back(tmp_path):
    program = f"""
import time
from experiments.storage import folders
from tests.experiments.test_folders import RESUME
held = folders.claim(RESUME.changed(workdir={str(tmp_path)!r}))
print("held", flush=True)
time.sleep(600)
"""
    config = RESUME.changed(workdir=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process"):
            folders.claim(config)
        process.kill()
        process.wait()
    folders.claim(config).lock.close()


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    file = tmp_path / "file"
    folders.replace(file, "old")

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        folders.replace(file, "new")
    assert file.read_text() == "old"


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"interrupted"'])
def test_damaged_summary_is_told_of(content, empty_folder):
    runs(empty_folder, digits_saf_f_0=True)
    (empty_folder / "runs" / "digits-saf_f-0" / "summary.json").write_text(content)
    with pytest.raises(ConfigError, match=r"summary.json cannot be read.*put the file back"):
        folders.finished(RESUME)


@pytest.mark.parametrize("place", ["file/below", "x" * 300])
def test_nothing_is_resumed_where_no_folder_can_be(place, tmp_path):
    (tmp_path / "file").touch()
    config = RESUME.changed(workdir=str(tmp_path / place))
    assert folders.finished(config) is None
    with pytest.raises(ConfigError, match="the work directory cannot be written"):
        workdir.create(config, Shape((16, 16, 1), 10))


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    program = "import pathlib, sys; from experiments.storage.folders import replace; "
    program += "replace(pathlib.Path(sys.argv[1]), chr(177))"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "page")], env=plain, check=True)
    assert (tmp_path / "page").read_bytes() == chr(177).encode()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a file system that nobody can write to")
def test_folder_that_cannot_be_written():
    with pytest.raises(ConfigError, match="cannot be written"):
        workdir.create(CONFIG.changed(workdir="/proc/run"), Shape((16, 16, 1), 10))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is locked to root")
def test_folder_that_one_may_only_read(tmp_path):
    workdir.create(CONFIG.changed(workdir=str(tmp_path)), Shape((16, 16, 1), 10)).__exit__(None, None, None)
    (tmp_path / "lock").unlink()
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match="cannot be written"):
        workdir.create(RESUME.changed(workdir=str(tmp_path)), Shape((16, 16, 1), 10))
