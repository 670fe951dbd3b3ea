"""Folders of published data sets: labels, class names, splits, and what is said of a folder that is not one."""

import numpy as np
import pytest

from safjax import data
from safjax.data import datasets
from tests.data.test_golden_events import GOLDEN, needs

incomplete = pytest.mark.filterwarnings("ignore::safjax.data.datasets.Incomplete")


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def found(samples, split):
    return [(sample.path.name, sample.label) for sample in samples.splits[split]]


def test_a_folder_that_lacks_samples_is_told():
    with pytest.warns(datasets.Incomplete, match="2 of 60,000 train, 2 of 10,000 test samples"):
        samples = datasets.nmnist(GOLDEN / "nmnist")
    assert found(samples, "train") == [("00002.bin", 0), ("00001.bin", 5)] and samples.mirrored is None
    assert str(samples) == "N-MNIST: train 2, test 2 samples of 10 classes (as published)"


@pytest.mark.parametrize("read", [
    datasets.nmnist, datasets.gesture_cut, datasets.cifar10dvs, datasets.dvslip, datasets.asldvs, datasets.ncaltech101,
    datasets.shd, datasets.ssc, datasets.fsdd, datasets.nmnist_small, datasets.gesture,
])  # fmt: skip
def test_a_folder_of_something_else(read, tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path)


@incomplete
def test_nmnist_in_small(tmp_path):
    tree(tmp_path, "1.bs2", "2.bs2", "60001.bs2")
    (tmp_path / "train1K.txt").write_text("#sample #class\n1\t5\n2\t0\n")
    (tmp_path / "test100.txt").write_text("#sample #class\r\n60001\t7\r\n\r\n")
    samples = datasets.nmnist_small(tmp_path)
    assert found(samples, "train") == [("1.bs2", 5), ("2.bs2", 0)] and found(samples, "test") == [("60001.bs2", 7)]
    (tmp_path / "test100.txt").write_text("60001 7\n60002 1\n")
    with pytest.raises(FileNotFoundError, match=r"60002\.bs2: listed in test100\.txt"):
        datasets.nmnist_small(tmp_path)
    (tmp_path / "test100.txt").write_text("60001 7\n60001\n")
    with pytest.raises(data.BadFile, match=r"test100\.txt, byte 8"):
        datasets.nmnist_small(tmp_path)
    (tmp_path / "test100.txt").write_text("60001 10\n")
    with pytest.raises(data.BadFile, match=r"label 10 of .* 10 classes"):
        datasets.nmnist_small(tmp_path)


@incomplete
def test_gestures():
    samples = datasets.gesture(GOLDEN / "dvsgesture/DvsGesture")
    assert samples.labels("train").tolist() == [0, 7, 7, 10, 2, 3] and samples.labels("test").tolist() == [1, 8]
    assert samples.splits["test"][0][2:4] == (80002000, 80080000)
    assert samples.labels("train").dtype == np.int32
    mirrored = [samples.classes[i] for i in samples.mirrored]
    assert mirrored[1:7] == [
        "left hand wave", "right hand wave", "left arm counter-clockwise", "left arm clockwise",
        "right arm counter-clockwise", "right arm clockwise",
    ]  # fmt: skip


@incomplete
def test_gestures_that_were_cut_in_advance(tmp_path):
    tree(
        tmp_path,
        *(f"ibmGestureTrain/user0{u}_led/{c}.npy" for u in (2, 1) for c in (10, 2)),
        "ibmGestureTest/user24_lab/0.npy",
    )
    samples = datasets.gesture_cut(tmp_path)
    assert samples.labels("train").tolist() == [2, 10, 2, 10] and samples.labels("test").tolist() == [0]
    assert samples.splits["train"][0].path.parent.name == "user01_led"


@incomplete
def test_cifar10dvs_is_split_by_number(tmp_path):
    names = [f"cat/cifar10_cat_{n}.aedat" for n in (10, 2, 99, 100, 899, 900)]
    samples = datasets.cifar10dvs(tree(tmp_path, *names))
    assert [n.split("_")[-1] for n, _ in found(samples, "train")] == [f"{n}.aedat" for n in (2, 10, 99, 100, 899)]
    assert found(samples, "test") == [("cifar10_cat_900.aedat", 3)] and "900-999" in samples.rule
    samples = datasets.cifar10dvs(tmp_path, test="first")
    assert len(samples.splits["test"]) == 3 and "0-99" in samples.rule
    with pytest.raises(ValueError, match="test='random'"):
        datasets.cifar10dvs(tmp_path, test="random")
    with pytest.raises(ValueError, match="expected a name such as cifar10_cat_17"):
        datasets.cifar10dvs(tree(tmp_path, "cat/x.aedat"))


@incomplete
def test_classes_by_folder(tmp_path):
    samples = datasets.asldvs(GOLDEN / "asldvs")
    assert found(samples, "all") == [("b_0001.mat", 1)] and len(samples.classes) == 24
    assert datasets.asldvs(tree(tmp_path / "asl", "k/k_1.mat", "y/y_1.mat")).labels("all").tolist() == [9, 23]
    samples = datasets.dvslip(tree(tmp_path / "lip", "train/b/0.npy", "train/a/1.npy", "test/a/0.npy", "test/b/1.npy"))
    assert samples.classes == ("a", "b") and samples.labels("train").tolist() == [0, 1]
    samples = datasets.ncaltech101(GOLDEN / "ncaltech101/Caltech101")
    assert samples.classes == ("anchor",) and samples.sensor is None


@incomplete
def test_spoken_digits(tmp_path):
    names = [f"{d}_{s}_{k}.wav" for d in (0, 7) for s in ("theo", "lucas") for k in (0, 4, 5, 49)]
    tree(tmp_path, *names, "README.wav")
    samples = datasets.fsdd(tmp_path)
    assert {n for n, _ in found(samples, "test")} == {n for n in names if n[-6:-4] in ("_0", "_4")}
    samples = datasets.fsdd(tmp_path, speaker="theo")
    assert {n for n, _ in found(samples, "test")} == {n for n in names if "theo" in n}
    with pytest.raises(FileNotFoundError, match="speaker 'nobody'"):
        datasets.fsdd(tmp_path, speaker="nobody")


def test_spikes_of_speech():
    needs("hsd")
    files = datasets.shd(GOLDEN / "shd")
    train, held = datasets.held_out(files["train"], {11})
    assert sorted([*train, *held]) == list(range(7)) and (files["train"].speakers[held] == 11).all() and len(held)
    with pytest.raises(ValueError, match=r"speakers=\[99\]"):
        datasets.held_out(files["train"], {99})
    assert set(datasets.ssc(GOLDEN / "ssc")) == {"train", "valid", "test"}
    samples = datasets.samples_of(files, "SHD")
    assert [sample.place for sample in samples.splits["test"]] == [0, 1, 2, 3] and samples.classes[10] == "null"
