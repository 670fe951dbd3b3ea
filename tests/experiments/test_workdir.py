"""A folder holds one run, and what it holds can be read back."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from experiments.config import Config, ConfigError
from experiments.data import Shape
from experiments.storage import workdir
from experiments.storage.arrays import to_arrays, variables
from experiments.storage.checkpoints import Snapshot
from experiments.training import trained
from tests.experiments.making import net_of
from tests.experiments.test_progress import RECORD

CONFIG = Config().changed(dataset="digits", layers=(4, "M", 8), steps=2)
SHAPE = (16, 16, 1)


def create(folder, seed=0):
    return workdir.create(
        Config().changed(dataset="digits", layers=(4, "M", 8), seed=seed, workdir=folder), Shape(SHAPE, 10)
    )


def snapshot(net, step, best=None):
    return Snapshot(step, to_arrays(variables(net)), {"count": np.array(step, np.int32)}, {"best": best})


def test_default_folder_is_the_first_name_that_is_free(empty_folder):
    names = []
    for _ in range(3):
        with workdir.create(CONFIG, Shape(SHAPE, 10)) as folder:
            names.append(str(folder.path.relative_to(empty_folder)))
            assert json.loads((folder.path / "config.json").read_text())["workdir"] == str(folder.path)
    assert names == ["runs/digits-saf_f-0", "runs/digits-saf_f-0-2", "runs/digits-saf_f-0-3"]


def test_folder_with_results_is_refused(tmp_path):
    with create(str(tmp_path / "run")):
        pass
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ConfigError, match="not empty"):
        create(str(tmp_path / "run"), seed=1)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        create(str(tmp_path / "file" / "run"))


def test_lines_are_on_disk_as_soon_as_appended(tmp_path):
    folder = create(str(tmp_path / "run"))
    record = {**RECORD, "rates": {}, "train_loss": 0.1 + 0.2}
    folder.append(record)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text()) == record


def test_parameters_read_back_are_those_saved_last(tmp_path):
    net = net_of(CONFIG, SHAPE, 10)
    with create(str(tmp_path / "run")) as folder:
        folder.save(snapshot(net, 1))
        net.classifier.layer.layers[2].bias[...] = jnp.arange(10.0)
        folder.save(snapshot(net, 2))
    images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    back = trained.load_parameters(tmp_path / "run")
    np.testing.assert_array_equal(safjax.predict(back, images, 2), safjax.predict(net, images, 2))


def test_the_best_parameters_read_back(tmp_path):
    net, images = net_of(CONFIG, SHAPE, 10), np.random.default_rng(0).random((3, *SHAPE), np.float32)
    best = np.asarray(safjax.predict(net, images, 2))
    with create(str(tmp_path / "run")) as folder:
        folder.save(snapshot(net, 1, best=1))
        net.classifier.layer.layers[2].bias[...] = jnp.arange(10.0)
        for step in range(2, 7):
            folder.save(snapshot(net, step, best=1))
    back = trained.load_parameters(tmp_path / "run", "best")
    np.testing.assert_array_equal(safjax.predict(back, images, 2), best)


def test_the_best_epoch_is_the_first_of_the_best_accuracy(tmp_path):
    with create(str(tmp_path / "run")) as folder:
        assert folder.best_epoch is None
        for epoch, accuracy in enumerate([0.1, 0.7, 0.3, 0.7], 1):
            folder.append({**RECORD, "rates": {}, "epoch": epoch, "test_accuracy": accuracy})
        assert folder.best_epoch == 2


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError):
        trained.load_parameters(tmp_path)
    with create(str(tmp_path / "run")):
        pass
    with pytest.raises(FileNotFoundError):
        trained.load_parameters(tmp_path / "run")
