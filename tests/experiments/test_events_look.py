"""`python -m experiments.events look FILE`: what it prints and draws, and what it says of files that cannot be read."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from experiments.events.__main__ import main
from experiments.events.look import strip, summary
from experiments.storage.event_pictures import coloured
from safjax import data
from tests.data import writers

GOLDEN = Path(__file__).parent.parent / "golden" / "events"


def looked(capsys, *arguments):
    code = main(["look", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, dict(line.split(None, 1) for line in out.splitlines()), err


@pytest.mark.parametrize("name, want", {
    "nmnist/Test/0/00002.bin": {"format": "40-bit events", "events": "300", "label": "0, Test"},
    "dvsgesture/DvsGesture/user24_lab.aedat": {"format": "AEDAT 3.1", "sensor": "128 × 128 (height × width)"},
    "cifar10dvs/cat/cifar10_cat_250.aedat": {"label": "3 (cat)", "duration": "1.279 s, from t = 13,320 µs"},
    "prophesee/evt3.raw": {"format": "EVT3", "sensor": "720 × 1280 (height × width)", "events": "600"},
    "dvslip/DVS-Lip/train/accused/0.npy": {"label": "accused"}, "asldvs/b/b_0001.mat": {"label": "1 (b)"},
    "tonic_gesture/ibmGestureTrain/user01_led/4.npy": {"label": "4 (right arm counter-clockwise)"},
    "ncaltech101/Caltech101/anchor/image_0001.bin": {"label": "anchor", "events": "200"},
    "broken/empty.bin": {"events": "0"},
}.items())  # fmt: skip
def test_recordings(capsys, tmp_path, name, want):
    code, lines, _ = looked(capsys, GOLDEN / name, "--out", tmp_path / "x.png")
    assert code == 0 and want.items() <= lines.items()
    picture = matplotlib.image.imread(tmp_path / "x.png")[..., :3]
    assert picture.shape[1] > 8 * 100 and (name == "broken/empty.bin" or np.ptp(picture, -1).max() > 0.3), "coloured"


def test_trials_are_listed(capsys, tmp_path):
    _, lines, _ = looked(capsys, GOLDEN / "dvsgesture/DvsGesture/user24_lab.aedat", "--out", tmp_path / "x.png")
    assert lines["label"] == "2 trials: right hand wave 80.0-80.1 s, air drums 80.1-80.1 s"


def test_times_since_1970_are_dated(capsys, tmp_path):
    pytest.importorskip("aedat")
    _, lines, _ = looked(capsys, GOLDEN / "aedat4/a.aedat4", "--out", tmp_path / "x.png")
    assert "2017-07-12 15:56:40 UTC" in lines["duration"] and lines["ON"] == "56.2%"


def test_samples_of_spikes(capsys, tmp_path):
    pytest.importorskip("h5py")
    _, lines, _ = looked(capsys, GOLDEN / "shd/shd_train.h5", "--sample", 1, "--out", tmp_path / "x.png")
    assert (
        lines["samples"].startswith("7, ")
        and "20: zero, one" in lines["classes"]
        and lines["sample"].startswith("1: label")
    )
    assert matplotlib.image.imread(tmp_path / "x.png")[..., :3].min() < 0.5
    code, _, err = looked(capsys, GOLDEN / "shd/shd_train.h5", "--sample", 7, "--out", tmp_path / "x.png")
    assert code == 2 and "out of range" in err


@pytest.mark.parametrize("arguments, match", [
    ([GOLDEN / "broken/nmnist_truncated.bin"], "nmnist_truncated.bin, byte 1,495"),
    ([GOLDEN / "broken/not_aedat.aedat"], "no known format"), ([GOLDEN / "nothing.bin"], "No such file"),
    ([GOLDEN], "directory"),
    ([GOLDEN / "nmnist/Test/0/00002.bin", "--sensor", 10, 10], "expected a sensor of 10 × 10 pixels"),
])  # fmt: skip
def test_files_that_cannot_be_read(capsys, tmp_path, arguments, match):
    code, lines, err = looked(capsys, *arguments, "--out", tmp_path / "x.png")
    assert code == 2 and lines == {} and match in err and not (tmp_path / "x.png").exists()


def test_the_picture_is_beside_nothing_by_default(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert looked(capsys, GOLDEN / "nmnist/Test/0/00002.bin")[0] == 0 and (tmp_path / "00002.bin.png").exists()


def test_blocks_add_up(tmp_path):
    """Times may go back across blocks; large sensors are drawn in squares of pixels."""
    path = tmp_path / "x.dat"
    rows = [(900, 1279, 719, 1), (100, 0, 0, 0), (500, 5, 9, 1), (100, 3, 2, 1)]
    path.write_bytes(writers.dat(rows, b"% Version 2\n"))
    opened = data.open_dat(path, block=1)
    found = summary(opened)
    assert found == (4, 3, 100, 900, 2, 720, 1280)
    counts = strip(opened, found, (720, 1280))
    assert counts.shape == (8, 180, 320, 2) and counts.sum((1, 2, 3)).tolist() == [2, 0, 0, 0, 1, 0, 0, 1]


def test_colours():
    colours = coloured(np.array([[0, 0], [0, 5], [5, 0]]))
    assert colours[0].tolist() == [1, 1, 1] and colours[1].argmax() == 0 and colours[2].argmax() == 2
