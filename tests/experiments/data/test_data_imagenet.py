"""ImageNet's genuine loading path on small archives in the genuine layout."""

import io
import json
import resource

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as stock

from experiments.data import DataCorrupt, DataUnavailable, load
from experiments.data.images.imagenet import ARCHIVES
from tests.imagenet import LISTED, SYNSETS, image, tar, write

LABELS = {"n01440764": 0, "n01739381": 59, "n02105855": 230}
"""Places of the synsets among the 1,000 in order."""


def files(split):
    """{name: file} of a split, each file once."""
    found = {file.name: file for file in (split[index] for index in range(len(split)))}
    assert len(found) == len(split)
    return found


def test_archives_placed_by_hand_give_their_images(imagenet_archives, tmp_path):
    dataset = load("imagenet", tmp_path)
    train, test = files(dataset.train), files(dataset.test)
    assert set(train) == set(imagenet_archives.train) and set(test) == set(imagenet_archives.validation)
    assert {name: file.label for name, file in train.items()} == {
        name: LABELS[synset] for name, synset in imagenet_archives.synsets.items()
    }
    for name, content in {**imagenet_archives.train, **imagenet_archives.validation}.items():
        assert ({**train, **test}[name].content == content) == (name not in LISTED)
    assert (dataset.num_classes, dataset.size) == (1000, 224)
    assert (dataset.mean, dataset.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_validation_labels_are_the_published_ones(imagenet_archives, tmp_path):
    """The first five of the 50,000: a sea snake, an alp, a Shetland sheepdog, a soup bowl, a cradle."""
    published = ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729"]
    names = stock.Builder(data_dir=tmp_path).info.features["label"].names
    test = files(load("imagenet", tmp_path).test)
    assert [names[test[name].label] for name in sorted(test)] == published


def test_files_that_tensorflow_cannot_read_are_stored_as_rgb_jpeg(imagenet_archives, tmp_path):
    train = files(load("imagenet", tmp_path).train)
    for name in LISTED:
        stored = Image.open(io.BytesIO(train[name].content))
        assert (stored.format, stored.mode) == ("JPEG", "RGB")
        original = Image.open(io.BytesIO(imagenet_archives.train[name])).convert("RGB")
        assert np.abs(np.asarray(stored, int) - np.asarray(original, int)).mean() < 4
    others = {Image.open(io.BytesIO(file.content)).mode for name, file in train.items() if name not in LISTED}
    assert others == {"RGB", "L", "CMYK"}


def test_stock_builder_finds_what_was_prepared(imagenet_archives, tmp_path):
    load("imagenet", tmp_path)
    builder = stock.Builder(data_dir=tmp_path)
    assert builder.is_prepared()
    assert builder.info.features["label"].names[59] == SYNSETS[1]
    example = builder.as_data_source(split="train")[0]
    assert example["image"].dtype == np.uint8 and example["image"].shape[-1] == 3
    assert (
        imagenet_archives.synsets[example["file_name"].decode()]
        == SYNSETS[list(LABELS.values()).index(example["label"])]
    )


def test_prepared_data_needs_no_archives(imagenet_archives, tmp_path):
    before = files(load("imagenet", tmp_path).train)
    for archive in ARCHIVES.values():
        (tmp_path / "downloads" / "manual" / archive.file).unlink()
    assert files(load("imagenet", tmp_path).train) == before


def test_enough_files_may_be_open(imagenet_archives, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        load("imagenet", tmp_path)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(4096, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_published_sizes():
    recorded = {url.rsplit("/", 1)[1]: info.size for url, info in stock.Builder.url_infos.items()}
    assert {archive.file: archive.size for archive in ARCHIVES.values()} == recorded


@pytest.mark.parametrize("missing", [["train"], ["validation"], ["train", "validation"]])
def test_missing_archives_are_named(missing, imagenet_archives, tmp_path):
    folder = tmp_path / "downloads" / "manual"
    for split in missing:
        (folder / ARCHIVES[split].file).unlink()
    with pytest.raises(DataUnavailable) as error:
        load("imagenet", tmp_path)
    first, rest = str(error.value).split("\n")
    assert [archive.file in first for archive in ARCHIVES.values()] == [split in missing for split in ARCHIVES]
    assert all(archive.file in rest for archive in ARCHIVES.values()) and str(folder) in rest
    assert "https://image-net.org" in rest and "'digits'" in rest
    assert not (tmp_path / "imagenet2012" / "5.1.0").exists()


def test_archive_of_another_length_is_refused(imagenet_archives, tmp_path):
    path = tmp_path / "downloads" / "manual" / ARCHIVES["validation"].file
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataCorrupt, match=f"{path} has .* bytes, but the published archive has"):
        load("imagenet", tmp_path)


GOOD = image((9, 9, 9), (20, 20), "RGB", "JPEG")


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", b"no archive at all", "not a complete ImageNet archive"),
        ("train", tar({"n01440764.tar": b"no archive"}), "not a complete ImageNet archive"),
        ("train", tar({"n01440764.tar": tar({"a.JPEG": GOOD})})[:1500], "not a complete ImageNet archive"),
        ("train", tar({"n00000000.tar": tar({"a.JPEG": GOOD})}), "holds n00000000.tar, expected one archive for each"),
        ("validation", b"no archive at all", "not a complete ImageNet archive"),
        ("validation", tar({"cat.JPEG": GOOD}), "holds cat.JPEG, expected ILSVRC2012_val_00000001.JPEG .. 00050000"),
        ("validation", tar({"ILSVRC2012_val_00050001.JPEG": GOOD}), "holds ILSVRC2012_val_00050001.JPEG"),
    ],
)
def test_archive_that_cannot_be_read_is_refused(split, content, message, known_sizes, tmp_path):
    folder = tmp_path / "downloads" / "manual"
    write(folder)
    (folder / ARCHIVES[split].file).write_bytes(content)
    known_sizes(folder)
    with pytest.raises(DataCorrupt, match=message):
        load("imagenet", tmp_path)
    assert not (tmp_path / "imagenet2012" / "5.1.0").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info | {"fileFormat": "tfrecord"}, "'train' in the format array_record: .* in tfrecord"),
        (lambda info: info | {"splits": info["splits"][:1]}, r"without the split 'validation'.* it has \['train'\]"),
    ],
)
def test_prepared_data_that_cannot_be_used_is_named(change, message, imagenet_archives, tmp_path):
    load("imagenet", tmp_path)
    info = tmp_path / "imagenet2012" / "5.1.0" / "dataset_info.json"
    info.write_text(json.dumps(change(json.loads(info.read_text()))))
    with pytest.raises(DataUnavailable, match=message):
        load("imagenet", tmp_path)
