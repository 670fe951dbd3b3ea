"""Small data sets written in the published formats, with their checksums made known for a test."""

import gzip
import hashlib
import io
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.utils import Size

from experiments.data.images import fashion_mnist, idx
from experiments.data.images.images import Splits

CIFAR_BATCHES = {
    "cifar10": [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"],
    "cifar100": ["train.bin", "test.bin"],
}
CIFAR_LABEL_FILES = {
    "cifar10": {"batches.meta.txt": 10},
    "cifar100": {"coarse_label_names.txt": 20, "fine_label_names.txt": 100},
}
CIFAR_PREFIX = {"cifar10": "cifar-10-batches-bin/", "cifar100": "cifar-100-binary/"}
CIFAR_URL = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
}
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PER_BATCH = 7


@pytest.fixture
def use_proxy(monkeypatch):
    """Call with a port: sends every request to a proxy there on this machine."""

    def use(port: int) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)

    return use


@pytest.fixture
def no_network(use_proxy):
    """A proxy that refuses connections, so that no request leaves this machine."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    use_proxy(port)


@pytest.fixture
def register(monkeypatch):
    """Call with an address and bytes: makes them its published file until the end of the test."""

    def known(url: str, content: bytes) -> None:
        digest, file = hashlib.sha256(content).hexdigest(), url.rsplit("/", 1)[1]
        info = checksums.UrlInfo(Size(len(content)), digest, file)
        monkeypatch.setitem(checksums.get_all_url_infos(), url, info)

    return known


@pytest.fixture
def place_by_hand(tmp_path):
    """Call with a name and bytes: writes the file where a user would put it; returns its path."""

    def place(file: str, content: bytes) -> Path:
        path = tmp_path / "downloads" / "manual" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return place


@pytest.fixture
def cifar(register, place_by_hand, no_network):
    """Call with "cifar10" or "cifar100": places a small archive, returns its images and labels."""

    def place(name: str) -> Splits:
        archive, splits = cifar_archive(name)
        register(CIFAR_URL[name], archive)
        place_by_hand(CIFAR_URL[name].rsplit("/", 1)[1], archive)
        return splits

    return place


def cifar_archive(name: str) -> tuple[bytes, Splits]:
    """A .tar.gz in CIFAR's binary format, and what it holds (for CIFAR-100, the fine labels)."""
    random = np.random.default_rng(0)
    classes = list(CIFAR_LABEL_FILES[name].values())
    members, images, labels = {}, [], []
    for batch in CIFAR_BATCHES[name]:
        images.append(random.integers(0, 256, (PER_BATCH, 32, 32, 3), np.uint8))
        labels.append(random.integers(0, classes, (PER_BATCH, len(classes)), np.uint8))
        planes = images[-1].transpose(0, 3, 1, 2).reshape(PER_BATCH, -1)
        members[batch] = np.concatenate([labels[-1], planes], axis=1).tobytes()
    for file, count in CIFAR_LABEL_FILES[name].items():
        members[file] = "".join(f"{file}_{number}\n" for number in range(count)).encode() + b"\n"
    numbers = [label[:, -1].astype(np.int32) for label in labels]
    train = np.concatenate(images[:-1]), np.concatenate(numbers[:-1])
    return tar_gz(CIFAR_PREFIX[name], members), Splits(*train, images[-1], numbers[-1])


def tar_gz(prefix: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in members.items():
            member = tarfile.TarInfo(prefix + file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def fashion(tmp_path, monkeypatch, register, no_network):
    """A small Fashion-MNIST, known by its content and archives: (archives by file name, splits).

    Debian's package counts as not installed.
    """
    random = np.random.default_rng(0)
    arrays = {
        "train_images": random.integers(0, 256, (20, 28, 28), np.uint8),
        "train_labels": random.integers(0, 10, 20).astype(np.uint8),
        "test_images": random.integers(0, 256, (6, 28, 28), np.uint8),
        "test_labels": random.integers(0, 10, 6).astype(np.uint8),
    }
    archives = {}
    for field, array in arrays.items():
        content, file = idx.to_bytes(array), fashion_mnist.FILES[field].file
        published = fashion_mnist.Published(file, hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(fashion_mnist.FILES, field, published)
        archives[file] = gzip.compress(content)
        register(FASHION_URL + file, archives[file])
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "not installed")
    splits = Splits(
        train_images=arrays["train_images"][..., None],
        train_labels=arrays["train_labels"].astype(np.int32),
        test_images=arrays["test_images"][..., None],
        test_labels=arrays["test_labels"].astype(np.int32),
    )
    return archives, splits
