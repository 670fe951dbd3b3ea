"""CIFAR's genuine loading path on small archives in the genuine format."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from tensorflow_datasets.image_classification import cifar as stock

from experiments.data import DataCorrupt, DataUnavailable, load
from experiments.data.images import cifar, published

NAMES = ("cifar10", "cifar100")
STOCK = {"cifar10": stock.Cifar10, "cifar100": stock.Cifar100}


def assert_holds(dataset, splits):
    for field, expected in splits._asdict().items():
        found = getattr(dataset, field)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_archive_placed_by_hand_gives_its_images_in_its_order(name, cifar, tmp_path):
    splits = cifar(name)
    dataset = load(name, tmp_path)
    assert_holds(dataset, splits)
    assert dataset.num_classes == {"cifar10": 10, "cifar100": 100}[name]
    assert dataset.mean == (0.4914, 0.4822, 0.4465)
    assert dataset.std == (0.2023, 0.1994, 0.2010)


@pytest.mark.parametrize("name", NAMES)
def test_stock_builder_finds_what_was_prepared(name, cifar, tmp_path):
    splits = cifar(name)
    load(name, tmp_path)
    builder = STOCK[name](data_dir=tmp_path)
    assert builder.is_prepared()
    assert builder.info.features["label"].names[3].endswith("_3")
    example = builder.as_data_source(split="test")[0]
    position = int(example["id"].decode().removeprefix("test_"))
    np.testing.assert_array_equal(example["image"], splits.test_images[position])
    assert example["label"] == splits.test_labels[position]


def test_preparing_leaves_stdout_alone(cifar, tmp_path, capsys):
    cifar("cifar10")
    load("cifar10", tmp_path)
    assert capsys.readouterr().out == ""


def test_second_load_reads_the_cache(cifar, tmp_path, monkeypatch):
    splits = cifar("cifar10")
    load("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "cifar10")
    monkeypatch.setattr(published, "_from_tfds", None)
    assert_holds(load("cifar10", tmp_path), splits)


def test_prepared_data_needs_neither_archive_nor_network(cifar, tmp_path):
    splits = cifar("cifar10")
    load("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "arrays")
    shutil.rmtree(tmp_path / "downloads")
    assert_holds(load("cifar10", tmp_path), splits)


def test_prepared_data_of_a_format_for_tensorflow_is_named(cifar, tmp_path):
    cifar("cifar10")
    load("cifar10", tmp_path)
    shutil.rmtree(tmp_path / "arrays")
    info = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(DataUnavailable, match="format tfrecord.*array_record is needed"):
        load("cifar10", tmp_path)


def test_archive_with_another_checksum_is_refused(no_network, place_by_hand, tmp_path):
    path = place_by_hand("cifar-10-binary.tar.gz", b"not the archive")
    with pytest.raises(DataCorrupt, match="not the published one") as error:
        load("cifar10", tmp_path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "arrays").exists()


def archive_without_members() -> bytes:
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w:gz").close()
    return buffer.getvalue()


@pytest.mark.parametrize("archive", [b"no archive at all", archive_without_members()], ids=["no archive", "no members"])
def test_incomplete_archive_is_refused(archive, no_network, register, place_by_hand, tmp_path):
    register("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", archive)
    place_by_hand("cifar-10-binary.tar.gz", archive)
    with pytest.raises(DataCorrupt, match="not a complete CIFAR archive"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "cifar10" / "3.0.2").exists()


def test_batch_that_ends_within_a_record_is_refused():
    with pytest.raises(DataCorrupt, match="3072 bytes is not a whole number.*3073"):
        cifar.decode(bytes(3072), label_bytes=1)
