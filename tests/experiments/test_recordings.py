"""Whole runs on events: what is said, what is left, and what no data are told."""

import contextlib
import io
import json
import shutil

import pytest
from PIL import Image

from experiments import cifar10_dvs, dvs_gesture, nmnist, saccades, shd, speech_direction, ssc
from experiments.data import DataCorrupt, DataUnavailable, load
from experiments.report.page import page
from experiments.report.runs import read
from experiments.training import cli
from tests.data.test_golden_events import GOLDEN, needs


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
    """Both recordings of a chain are said, drawn, and in the report."""
    tiny = ("--layers", "2", "M", "4", "M", "--steps=4", "--chain=2", "--epochs=1", "--batch-size=32")
    code, summary, said = train(saccades, tmp_path / "run", *tiny)
    assert code == 0 and summary["baseline_test_accuracy"] == 0.5 and summary["chosen_epoch"] == 1
    for line in ("T = 2 bins of 157.5 ms", "classes: 0 then 1, 1 then 0", "0 and 0 of their events lie outside", "MB"):
        assert line in said
    with Image.open(tmp_path / "run" / "inputs.png") as picture:
        assert len(picture.convert("RGB").resize((200, 200)).getcolors(40_000)) > 20
    assert 'src="data:image/png;base64,' in page(read([tmp_path / "run"]), ["not shown"])


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """The golden files where a user would put them; the counts go beside them."""
    root = tmp_path_factory.mktemp("data")
    for name in ("nmnist", "shd", "ssc"):
        (root / name).symlink_to(GOLDEN / name)
    (root / "dvs_gesture").symlink_to(GOLDEN / "dvsgesture")
    shutil.copytree(GOLDEN / "cifar10dvs", root / "cifar10_dvs")
    shutil.copy(GOLDEN / "cifar10dvs/cat/cifar10_cat_250.aedat", root / "cifar10_dvs/cat/cifar10_cat_900.aedat")
    return root


SMALL = ("--held-out=0", "--epochs=1", "--batch-size=2", "--steps=2")
MAPS = (*SMALL, "--layers", "2", "M", "4")


@pytest.mark.parametrize(
    ("recipe", "flags", "said"),
    [
        (nmnist, (*MAPS, "--pool=5"), "T = 2 bins of 157.5 ms, 0.315 s in all; counts 7 × 7 × 2"),
        (cifar10_dvs, (*MAPS, "--head=flatten"), "resized to 48 × 48; counts 48 × 48 × 2\n"),
        (dvs_gesture, (*MAPS, "--pool=19", "--bins=duration"), "T = 2 bins of 3000 ms, 6 s in all"),
        (shd, (*SMALL, "--layers", "4"), "T = 2 bins of 500 ms, 1 s in all; counts 140"),
        (ssc, (*SMALL, "--layers", "4", "--pool=7"), "recordings published as valid choose the epoch"),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_published_layouts_from_end_to_end(recipe, flags, said, data_dir, tmp_path):
    if recipe in (shd, ssc):
        needs("hsd")
    code, summary, told = train(recipe, tmp_path / "run", f"--data-dir={data_dir}", *flags)
    assert code == 0 and summary["epochs"] == 1 and 0 <= summary["baseline_test_accuracy"] <= 1
    assert said in told and "classes: " in told and "lie outside all bins" in told and "MB a batch" in told
    assert (tmp_path / "run" / "inputs.png").is_file()
    # Nothing is held out; of SSC alone recordings to choose by are published.
    assert summary["chosen_epoch"] == (1 if recipe is ssc else None)


@pytest.mark.parametrize("recipe", [nmnist, cifar10_dvs, dvs_gesture, shd, ssc, speech_direction])
def test_data_that_are_not_there(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.data.sound.speech_direction.INSTALLED", tmp_path / "none")
    name = recipe.CONFIG.data.dataset
    with pytest.raises(DataUnavailable, match=rf"'{name}' is not stored here") as told:
        load(name, tmp_path)
    assert str(tmp_path) in str(told.value) and ("https://" in str(told.value) or "apt-get" in str(told.value))


def test_a_damaged_file_is_named(tmp_path):
    shutil.copytree(GOLDEN / "nmnist", tmp_path / "nmnist")
    (tmp_path / "nmnist/Train/5/00001.bin").write_bytes(b"1234567")
    with pytest.raises(DataCorrupt, match=r"'nmnist' is damaged: .*Train/5/00001.bin"):
        load("nmnist", tmp_path).parts(nmnist.CONFIG.data)
    for path in (tmp_path / "nmnist/Test").rglob("*.bin"):
        path.unlink()
    with pytest.raises(DataCorrupt, match="no sample of its split test"):
        load("nmnist", tmp_path)
