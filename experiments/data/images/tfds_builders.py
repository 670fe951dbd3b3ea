"""TensorFlow Datasets builders that prepare their data without TensorFlow.

Each keeps the name, version, features and examples of the stock builder that it extends, hence
also its folder: what the stock builder has prepared is found, and the other way round. Only the
steps that call TensorFlow are replaced: unpacking the archives, and encoding, which `Image`
features leave to pillow when they are given a pillow image, and leave out when given bytes.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from etils import epath
from PIL import Image
from tensorflow_datasets.datasets.imagenet2012 import imagenet2012_dataset_builder as stock_imagenet
from tensorflow_datasets.image_classification import cifar as stock_cifar
from tensorflow_datasets.image_classification import mnist as stock_mnist

from experiments.data.images import cifar, idx, imagenet
from experiments.data.images.fashion_mnist import FILES

Examples = Iterator[tuple[int | str, dict[str, Any]]]


class _CifarBinary:
    """What the two CIFAR builders share; all that differs is in the stock `_cifar_info`."""

    info: Any
    _cifar_info: Any

    def published_urls(self) -> list[str]:
        return [self._cifar_info.url]

    def _split_generators(self, dl_manager) -> dict[str, Examples]:
        meta = self._cifar_info
        names = [*meta.label_files, *meta.train_files, *meta.test_files]
        archive = Path(dl_manager.download(meta.url))
        content = cifar.read_members(archive, [meta.prefix + name for name in names])
        for key, name in zip(meta.label_keys, meta.label_files, strict=True):
            lines = content[meta.prefix + name].decode().splitlines()
            self.info.features[key].names = [line for line in lines if line]
        train = b"".join(content[meta.prefix + name] for name in meta.train_files)
        test = b"".join(content[meta.prefix + name] for name in meta.test_files)
        return {
            "train": self._generate_examples("train_", train),
            "test": self._generate_examples("test_", test),
        }

    def _generate_examples(self, prefix: str, data: bytes) -> Examples:
        keys = self._cifar_info.label_keys
        for index, (labels, image) in enumerate(zip(*cifar.decode(data, len(keys)), strict=True)):
            example = dict(zip(keys, labels.tolist(), strict=True))
            yield index, example | {"id": f"{prefix}{index:05d}", "image": Image.fromarray(image)}


class Cifar10(_CifarBinary, stock_cifar.Cifar10, skip_registration=True):  # type: ignore[call-arg]
    """CIFAR-10 under its stock name and version."""


class Cifar100(_CifarBinary, stock_cifar.Cifar100, skip_registration=True):  # type: ignore[call-arg]
    """CIFAR-100 under its stock name and version."""


class FashionMNIST(stock_mnist.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """Fashion-MNIST under its stock name and version."""

    def published_urls(self) -> list[str]:
        return [urljoin(self.URL, published.file) for published in FILES.values()]

    def _split_generators(self, dl_manager) -> dict[str, Examples]:
        # One after the other: a failure must not leave other downloads retrying behind its back,
        # which would hold up the exit of the program for minutes.
        urls = zip(FILES, self.published_urls(), strict=True)
        paths = {field: Path(dl_manager.download(url)) for field, url in urls}
        return {
            split: self._generate_examples(paths[f"{split}_images"], paths[f"{split}_labels"])
            for split in ("train", "test")
        }

    def _generate_examples(self, images: Path, labels: Path) -> Examples:
        pairs = zip(idx.read(images), idx.read(labels).tolist(), strict=True)
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": Image.fromarray(image), "label": label}


class Imagenet2012(stock_imagenet.Builder, skip_registration=True):  # type: ignore[call-arg]
    """ILSVRC 2012 under its stock name and version; its archives are placed by hand."""

    # Where the stock builder keeps its description and the names of the synsets.
    pkg_dir_path = epath.Path(stock_imagenet.__file__).parent

    def _split_generators(self, dl_manager) -> dict[str, Examples]:
        archives = imagenet.find_archives(Path(dl_manager.manual_dir))
        synsets = self.info.features["label"].names
        validation_synsets = (self.pkg_dir_path / "validation_labels.txt").read_text().split()
        return {
            "train": self._generate_examples(imagenet.train_images(archives["train"], synsets)),
            "validation": self._generate_examples(
                imagenet.validation_images(archives["validation"], validation_synsets)
            ),
        }

    def _generate_examples(self, images: Iterator[imagenet.ImageFile]) -> Examples:
        # The files that are stored as they are make up all but 23 of 1.3 million: those that are not RGB or not JPEG.
        others = {*stock_imagenet.CMYK_IMAGES, *stock_imagenet.PNG_IMAGES}
        for name, synset, content in images:
            image = imagenet.to_rgb_jpeg(content) if name in others else content
            yield name, {"file_name": name, "label": synset, "image": image}


BUILDERS = {builder.name: builder for builder in (Cifar10, Cifar100, FashionMNIST)}


def is_prepared(builder: Any) -> bool:
    """Whether the data are there. That they are not is no warning: it is said where they are asked for."""
    log = logging.getLogger("absl")
    log.addFilter(_says_more)
    try:
        return builder.is_prepared()
    finally:
        log.removeFilter(_says_more)


def _says_more(record: logging.LogRecord) -> bool:
    return "has no dataset_info.json" not in record.getMessage()
