"""Spike trains through the one trainer: a tiny net on Randman."""

import json
import time

import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from experiments import randman
from experiments.config import ConfigError
from experiments.data import load, spike_trains
from experiments.data.events.randman import load_randman
from experiments.training import cli, trained
from tests.experiments.making import feed_of, net_of

TINY = ("--layers", "48", "--steps=25", "--batch-size=64", "--learning-rate=0.02")
METHODS = ("bptt", "saf_f")
SMALL = randman.CONFIG.changed(batch_size=8, steps=12)


@pytest.fixture(scope="module", params=METHODS)
def ended(request, tmp_path_factory):
    """(method, summary, seconds, work directory) of `python -m experiments.randman` on the tiny net."""
    folder = tmp_path_factory.mktemp("run") / "run"
    flags = [*TINY, f"--method={request.param}", "--epochs=2", f"--workdir={folder}"]
    began = time.monotonic()
    assert cli.main(randman.CONFIG, randman.__doc__, flags) == 0
    return request.param, json.loads((folder / "summary.json").read_text()), time.monotonic() - began, folder


def test_learns_in_seconds(ended):
    _, summary, seconds, _ = ended
    assert summary["test_accuracy"] > 0.3, "chance is 0.1"
    assert (summary["dataset"], summary["steps"], summary["parameters"]) == ("randman", 25, 100 * 48 + 48 + 480 + 10)
    assert seconds < 30


def test_saved_parameters_have_the_accuracy_of_the_summary(ended):
    """Spike trains made one spike at a time, by an index."""
    method, summary, _, folder = ended
    data = load("randman", "")
    spikes = np.zeros((25, *data.test_times.shape), np.float32)
    examples, units = np.indices(data.test_times.shape)
    spikes[data.test_times.astype(int) * 25 // 2**16, examples, units] = 1
    outputs = np.asarray(safjax.predict(trained.load_parameters(folder), jnp.asarray(spikes)))
    seen = outputs[-1:] if method == "saf_f" else outputs
    assert summary["test_accuracy"] == pytest.approx(np.mean(seen.mean(0).argmax(-1) == data.test_labels), abs=1e-3)


def test_records(ended):
    *_, folder = ended
    first, second = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert second["train_loss"] < first["train_loss"]
    assert list(first["rates"]) == ["features.layers.1"] and 0.05 < first["rates"]["features.layers.1"] < 0.3
    assert (folder / "curves.png").exists() and (folder / "firing_rates.png").exists()


def test_layers_of_the_recipe_fire_at_the_start():
    data = load("randman", "")
    net = net_of(randman.CONFIG, (100,), 10, 1 / 100)
    spikes = safjax.simulate(net, spike_trains(jnp.asarray(data.train_times[:64]), randman.CONFIG.data.steps)).spikes
    assert len(spikes) == 2 and all(0.05 < float(s.mean()) < 0.3 for s in spikes.values())


@pytest.fixture(scope="module")
def small():
    return load_randman(classes=3, units=5, train=20, test=11)


def test_batches_are_time_major_sequences(small):
    batches = feed_of(small, SMALL)
    assert (batches.steps, batches.batches, batches.shape) == (None, 2, ((5,), 3, 1 / 12))
    train = list(batches.train_batches(1))
    assert len(train) == 2
    for inputs, labels, weights, _ in train:
        assert (inputs.shape, labels.shape, float(weights.sum())) == ((12, 8, 5), (8,), 8)
        # Each is a training example, with the label of that example.
        times = np.asarray(inputs).argmax(0)
        stored = small.train_times.astype(int) * 12 // 2**16
        for time_row, label in zip(times, labels, strict=True):
            assert int(label) in small.train_labels[(stored == time_row).all(1)]
    assert sum(float(batch.weights.sum()) for batch in batches.test_batches()) == 11


def test_order_depends_on_seed_and_epoch(small):
    def inputs(seed, epoch):
        config = SMALL.changed(seed=seed)
        return np.asarray(next(feed_of(small, config).train_batches(epoch)).inputs)

    np.testing.assert_array_equal(inputs(0, 1), inputs(0, 1))
    assert np.any(inputs(0, 1) != inputs(0, 2)) and np.any(inputs(0, 1) != inputs(1, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"augmentation": "crop"}, "--augmentation=none"),
        ({"batch_size": 21}, "--batch-size=21 is more than all 20 training examples of randman"),
        ({"steps": 2**16 + 1}, "--steps=65537 is too many.*65536 or fewer"),
    ],
)
def test_feed_refuses(change, words, small):
    with pytest.raises(ConfigError, match=words):
        feed_of(small, SMALL.changed(**change))


@pytest.mark.parametrize(
    ("change", "words"), [({"layers": (8, "M", 8)}, "--layers has an M"), ({"network": "resnet18"}, "--network")]
)
def test_net_refuses(change, words):
    with pytest.raises(ConfigError, match=words):
        net_of(SMALL.changed(**change), (5,), 3)


def test_width_scales_the_layers():
    net = net_of(SMALL.changed(layers=(8, 4), width=0.5), (5,), 3)
    shapes = [
        synapse.layer.kernel.shape for synapse in (net.features.layers[0], net.features.layers[2], net.classifier)
    ]
    assert shapes == [(5, 4), (4, 2), (2, 3)]
