"""Missing data without a network: soon, and with advice."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments
from experiments.data import DataUnavailable, load
from experiments.data.images import fashion_mnist
from experiments.data.probe import why_unreachable

FILES = {
    "cifar10": ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
    "cifar100": ["https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"],
    "fashion_mnist": [
        f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{published.file}"
        for published in fashion_mnist.FILES.values()
    ],
}


@pytest.mark.parametrize("name", FILES)
def test_message_names_the_sources_the_files_and_an_alternative(name, no_network, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "not installed")
    start = time.monotonic()
    with pytest.raises(DataUnavailable) as error:
        load(name, tmp_path)
    assert time.monotonic() - start < 10
    message = str(error.value)
    assert repr(name) in message and "'digits'" in message and "ProxyError" in message
    assert str(tmp_path / name) in message
    for url in FILES[name]:
        path = tmp_path / "downloads" / "manual" / url.rsplit("/", 1)[1]
        assert f"{url} -> {path}" in message
    assert message.count("SHA-256") == len(FILES[name])


def test_message_names_the_debian_package(fashion, tmp_path):
    with pytest.raises(DataUnavailable, match="dataset-fashion-mnist.*not installed"):
        load("fashion_mnist", tmp_path)


def test_only_missing_files_are_asked_for(fashion, place_by_hand, tmp_path):
    placed, *_ = fashion[0]
    place_by_hand(placed, fashion[0][placed])
    with pytest.raises(DataUnavailable) as error:
        load("fashion_mnist", tmp_path)
    assert placed not in str(error.value)
    assert str(error.value).count("SHA-256") == 3


def test_server_that_never_answers(tmp_path, use_proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_proxy(silent.getsockname()[1])
        start = time.monotonic()
        with pytest.raises(DataUnavailable, match=r"no answer within 3 s|[Tt]imed? ?out"):
            load("cifar10", tmp_path)
        assert time.monotonic() - start < 10


def test_limit_of_the_probe(use_proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_proxy(silent.getsockname()[1])
        assert why_unreachable("http://example.invalid/file", limit=0.1)


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'mnist'.*cifar10, cifar100, fashion_mnist, digits"):
        load("mnist", tmp_path)


def test_import_loads_no_data_library():
    code = (
        "import sys, experiments.data\n"
        "names = 'tensorflow_datasets tensorflow matplotlib sklearn'.split()\n"
        "print([name for name in names if name in sys.modules])"
    )
    root = Path(experiments.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
