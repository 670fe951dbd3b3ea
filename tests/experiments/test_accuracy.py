"""What `make train` promises: real trainings with the defaults, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from experiments.data.images.fashion_mnist import DEBIAN_FOLDER
from tests.tables import BROAD


def train(tmp_path, *flags):
    # The other tests' compiler flags save compilation and cost speed; here speed counts.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", *flags, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("method", BROAD)
def test_digits(method, tmp_path):
    summary = train(tmp_path, "experiments.digits", f"--method={method}")
    assert summary["test_accuracy"] >= (0.97 if method == "saf_f" else 0.95)


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="needs dataset-fashion-mnist")
def test_fashion_mnist(tmp_path):
    summary = train(tmp_path, "experiments.fashion_mnist", "--method=saf_f")
    assert summary["test_accuracy"] >= 0.90


@pytest.mark.slow
def test_randman(tmp_path):
    """Where only spike timing tells the classes apart."""
    summary = train(tmp_path, "experiments.randman", "--method=exodus")
    assert summary["test_accuracy"] >= 0.98


@pytest.mark.slow
def test_cifar_recipe_on_digits(tmp_path):
    flags = ["--dataset=digits", "--epochs=1", "--width=0.125"]
    summary = train(tmp_path, "experiments.cifar10", *flags)
    assert summary["dataset"] == "digits" and summary["epochs"] == 1
