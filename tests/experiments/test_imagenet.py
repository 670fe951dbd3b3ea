"""`python -m experiments.imagenet` from the archives to the results, on a small net and small images."""

import contextlib
import io
import json
import math
import time

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments import imagenet
from experiments.config import from_json, to_json
from experiments.training import cli, trained
from safjax.nn import LIF
from tests.experiments.making import net_of
from tests.experiments.test_trainer import FILES
from tests.imagenet import VALIDATION

SMALL = ["--image-size=32", "--steps=2", "--batch-size=4", "--epochs=1"]
NETWORKS = {
    "vgg": (["--layers", "4", "M", "8"], 2),
    "resnet18": (["--width=0.03125"], 16),
    "nf_resnet34": (["--width=0.03125"], 32),
}
"""How each network is made small, and its layers of neurons."""


def run(folder, *flags):
    """(exit code, stdout, stderr) of the experiment, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        flags = [f"--data-dir={folder}", f"--workdir={folder / 'run'}", *flags]
        code = cli.main(imagenet.CONFIG, imagenet.__doc__, flags)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    "network",
    ["vgg", pytest.param("resnet18", marks=pytest.mark.slow), pytest.param("nf_resnet34", marks=pytest.mark.slow)],
)
def test_archives_to_results(network, imagenet_archives, tmp_path):
    flags, neurons = NETWORKS[network]
    code, out, err = run(tmp_path, *SMALL, f"--network={network}", *flags)
    assert code == 0, err
    line, last = out.splitlines()
    summary = json.loads(last)
    assert line.startswith("epoch 1/1  train loss ") and summary["epochs"] == 1 and not summary["interrupted"]
    assert all(math.isfinite(summary[name]) for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"))
    # At first all of the 1,000 classes are about as likely.
    assert 0.8 * math.log(1000) < summary["train_loss"] < 1.1 * math.log(1000)
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == FILES
    record = json.loads((folder / "metrics.jsonl").read_text())
    assert len(record["rates"]) == neurons and (record["test_accuracy"] * VALIDATION) % 1 == 0
    config = json.loads((folder / "config.json").read_text())
    shape = [config.pop(name) for name in ("input_shape", "num_classes", "input_rate")]
    assert shape == [[32, 32, 3], 1000, None]
    assert from_json(config).net.network == network
    learned = jax.tree.leaves(nnx.state(trained.load_parameters(folder).classifier, nnx.Param))
    assert all(jnp.isfinite(leaf).all() for leaf in learned) and any(jnp.abs(leaf).max() > 0 for leaf in learned)


def test_missing_archives_end_with_2_soon_and_name_both(tmp_path):
    start = time.monotonic()
    code, out, err = run(tmp_path)
    assert time.monotonic() - start < 10
    assert code == 2 and out == "" and err.startswith("error: ") and "Traceback" not in err
    assert all(word in err for word in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"))
    assert str(tmp_path / "downloads" / "manual") in err
    assert not (tmp_path / "run").exists()


def test_published_recipe():
    values = to_json(imagenet.CONFIG)
    expected = {
        "dataset": "imagenet",
        "network": "nf_resnet34",
        "width": 1.0,
        "image_size": 224,
        "augmentation": "resized_crop_flip",
        "steps": 6,
        "decay": 0.5,
        "threshold": 1.0,
        "surrogate": "sigmoid",
        "epochs": 100,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 2e-5,
        "loss_mse": 0.0,
    }
    assert {name: values[name] for name in expected} == expected


def test_published_net():
    net = nnx.eval_shape(lambda: net_of(imagenet.CONFIG, (224, 224, 3), 1000))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == 21_797_688
    assert sum(isinstance(module, LIF) for _, module in nnx.iter_modules(net)) == 32
