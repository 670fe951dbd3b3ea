"""Fashion-MNIST by way of TensorFlow Datasets and by way of Debian's package."""

import hashlib
import http.server
import shutil
import struct
import threading

import numpy as np
import pytest
from tensorflow_datasets.core.download import checksums

from experiments.data import DataCorrupt, DataUnavailable, load
from experiments.data.images import fashion_mnist, idx

DEBIAN = fashion_mnist.DEBIAN_FOLDER
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
installed = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs dataset-fashion-mnist")

# Seconds since 1970 in the gzip headers of the published files, which Debian's lack.
TIME = {
    "train-images-idx3-ubyte.gz": 1504176606,
    "train-labels-idx1-ubyte.gz": 1504176606,
    "t10k-images-idx3-ubyte.gz": 1504176627,
    "t10k-labels-idx1-ubyte.gz": 1504176627,
}


def assert_holds(dataset, splits):
    for field, expected in splits._asdict().items():
        np.testing.assert_array_equal(getattr(dataset, field), expected)


def test_files_placed_by_hand_give_their_images_in_their_order(fashion, place_by_hand, tmp_path):
    archives, splits = fashion
    for file, content in archives.items():
        place_by_hand(file, content)
    assert_holds(load("fashion_mnist", tmp_path), splits)
    assert (tmp_path / "fashion_mnist" / "3.0.1").is_dir()


def test_debian_folder_gives_the_same(fashion, tmp_path, monkeypatch):
    archives, splits = fashion
    folder = tmp_path / "package"
    folder.mkdir()
    for file, content in archives.items():
        (folder / file).write_bytes(content)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    dataset = load("fashion_mnist", tmp_path)
    assert_holds(dataset, splits)
    assert (dataset.mean, dataset.std) == ((0.2860,), (0.3530,))


@pytest.fixture
def server(use_proxy):
    """Files by name, served over HTTP to whoever asks for the published addresses."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.rsplit("/", 1)[1])
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        use_proxy(proxy.server_address[1])
        yield files
        proxy.shutdown()


def test_download(fashion, server, tmp_path):
    archives, splits = fashion
    server.update(archives)
    assert_holds(load("fashion_mnist", tmp_path), splits)


def test_downloaded_files_are_used_again(fashion, server, tmp_path):
    archives, splits = fashion
    server.update(archives)
    load("fashion_mnist", tmp_path)
    shutil.rmtree(tmp_path / "arrays")
    shutil.rmtree(tmp_path / "fashion_mnist")
    server.clear()
    assert_holds(load("fashion_mnist", tmp_path), splits)


def test_download_of_something_else_is_refused(fashion, server, tmp_path):
    server.update(dict.fromkeys(fashion[0], b"something else"))
    with pytest.raises(DataCorrupt, match="not the published one"):
        load("fashion_mnist", tmp_path)


def test_file_that_the_server_lacks(fashion, server, tmp_path):
    with pytest.raises(DataUnavailable, match="HTTP status 404"):
        load("fashion_mnist", tmp_path)


def test_server_that_lacks_a_later_file(fashion, server, tmp_path):
    first = fashion_mnist.FILES["train_images"].file
    server[first] = fashion[0][first]
    with pytest.raises(DataUnavailable, match="HTTP code: 404"):
        load("fashion_mnist", tmp_path)


@installed
def test_debian_package(tmp_path):
    dataset = load("fashion_mnist", tmp_path)
    assert dataset.train_images.shape == (60_000, 28, 28, 1)
    assert dataset.test_images.shape == (10_000, 28, 28, 1)
    assert np.bincount(dataset.train_labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    levels, counts = np.arange(256) / 255, np.bincount(dataset.train_images.ravel(), minlength=256)
    mean = np.average(levels, weights=counts)
    std = np.average((levels - mean) ** 2, weights=counts) ** 0.5
    assert (mean, std) == pytest.approx((dataset.mean[0], dataset.std[0]), abs=1e-4)


@installed
@pytest.mark.parametrize("file", TIME)
def test_debian_files_are_the_published_ones_but_for_the_gzip_header(file):
    compressed = (DEBIAN / file).read_bytes()[10:]
    with_name = bytes((0x1F, 0x8B, 8, 8)) + struct.pack("<I", TIME[file]) + bytes((0, 3))
    restored = with_name + file.removesuffix(".gz").encode() + b"\0" + compressed
    published = checksums.get_all_url_infos()[FASHION_URL + file]
    assert hashlib.sha256(restored).hexdigest() == published.checksum
    assert len(restored) == published.size


@installed
@pytest.mark.parametrize("damage", ["truncated", "another split", "missing"])
def test_damaged_copy_of_the_package_is_refused(damage, tmp_path, monkeypatch):
    shutil.copytree(DEBIAN, tmp_path / "copy")
    labels = tmp_path / "copy" / fashion_mnist.FILES["train_labels"].file
    if damage == "truncated":
        labels.write_bytes(labels.read_bytes()[:-2000])
    elif damage == "another split":
        shutil.copy(DEBIAN / fashion_mnist.FILES["test_labels"].file, labels)
    else:
        labels.unlink()
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "copy")
    with pytest.raises(DataCorrupt, match="copy"):
        load("fashion_mnist", tmp_path)
    assert not (tmp_path / "arrays").exists()


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5), (0, 28, 28)])
def test_idx_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(idx.from_bytes(idx.to_bytes(array)), array)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\0", b"\0\0\x08\x02\0\0", b"\0\0\x08\x01\0\0\0\x05a"],
)
def test_idx_of_another_form_is_refused(content):
    with pytest.raises(ValueError):
        idx.from_bytes(content)
