"""Recordings of different lengths through the one trainer: Randman, each example played at a speed of its own."""

import dataclasses
import json
import os
import signal

import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from experiments import randman
from experiments.config import ConfigError, parse
from experiments.config.settings import settings
from experiments.data import Recordings, Sequences, load
from experiments.data.events.randman import load_randman
from experiments.report.activity import activity
from experiments.report.runs import read as read_runs
from experiments.training import cli, feed, trained, trainer
from experiments.training.losses import example_losses
from experiments.training.metrics import Tally
from experiments.training.trainer import Trainer
from tests.experiments.making import devices_of, feed_of, net_of, trainer_of
from tests.experiments.test_resume import final
from tests.experiments.test_trainer import measured

FLAGS = ("--steps=None", "--layers", "32", "--batch-size=32", "--learning-rate=0.02")
SMALL = randman.CONFIG.changed(batch_size=8, steps=None)
LENGTHS = (10, 18, 24)


def recordings(times, labels, seed):
    """Spike trains of three lengths, one after the other."""
    lengths = np.random.default_rng(seed).choice(LENGTHS, len(times))
    values = np.zeros((lengths.sum(), times.shape[1]), np.uint8)
    for begin, length, row in zip(np.cumsum(lengths) - lengths, lengths, times.astype(int), strict=True):
        values[begin + row * length // 2**16, np.arange(len(row))] = 1
    return Recordings(values, lengths, labels)


def sequences(train=1000, test=199, classes=4, units=40):
    spikes = load_randman(classes=classes, units=units, train=train, test=test)
    return Sequences("randman", recordings(*spikes.train, 0), recordings(*spikes.test, 1), classes)


@pytest.fixture
def of_all_lengths(monkeypatch):
    """`python -m experiments.randman` has recordings of different lengths."""
    data = sequences()
    monkeypatch.setattr(feed, "load", lambda name, data_dir: data)
    return data


def run(folder, *flags):
    return cli.main(randman.CONFIG, randman.__doc__, [*FLAGS, f"--workdir={folder}", *flags])


def own_steps(data, index):
    """The steps of one recording [length, 1, units], its label."""
    ends = np.cumsum(data.lengths)
    values = data.values[ends[index] - data.lengths[index] : ends[index]]
    return jnp.asarray(values, float)[:, None], data.labels[index]


def alone(net, data, last):
    """Mean loss and accuracy of recordings that are shown to a net one by one, without any padding."""
    losses, right = [], []
    for index in range(len(data.labels)):
        x, label = own_steps(data, index)
        outputs = np.asarray(safjax.predict(net, x))[:, 0]
        seen = outputs[-1:] if last else outputs
        losses.append(np.mean([example_losses(jnp.asarray(o[None]), jnp.asarray([label]), 0.0) for o in seen]))
        right.append(seen.mean(0).argmax() == label)
    return np.mean(losses), np.mean(right)


@pytest.mark.parametrize("method", ["exodus", "saf_f"])
def test_it_learns_and_is_tested_as_one_by_one(method, tmp_path, of_all_lengths):
    assert run(tmp_path / "run", f"--method={method}", "--epochs=3") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_accuracy"] > (0.6 if method == "exodus" else 0.33), "chance is 0.25"
    assert summary["steps"] is None
    test = of_all_lengths.test
    some = Recordings(test.values[: test.lengths[:40].sum()], test.lengths[:40], test.labels[:40])
    net = trained.load_parameters(tmp_path / "run")
    fed = feed_of(dataclasses.replace(of_all_lengths, test=some), SMALL)
    config = SMALL.changed(method=method)
    *_, got = Trainer(config.training, fed, net, devices_of(config)).evaluate()
    loss, accuracy = alone(net, some, method == "saf_f")
    assert (got.loss, got.accuracy) == (pytest.approx(loss, rel=1e-5), accuracy)
    # Of a report, too, each counts with its own steps.
    (one,) = read_runs([tmp_path / "run"])
    seen = activity(one, 5)
    own = test.lengths[np.linspace(0, len(test.lengths) - 1, 5).astype(int)]
    assert [synapse.steps for synapse in seen.inference.synapses.values()] == [own.mean()] * 2
    assert (len(seen.classes), len(seen.inference.outputs)) == (5, own.max()) and seen.training > 0


def test_stopped_and_resumed_it_is_the_same_run(tmp_path, of_all_lengths, monkeypatch):
    """Online, where the learning rate depends on how many updates the batches before had."""
    flags = ("--method=ottt_o", "--epochs=2", "--learning-rate=0.001")
    assert run(tmp_path / "whole", *flags) == 0
    show, shown = feed.Feed._batch, []

    def stop(self, *arguments):
        shown.append(arguments)
        if len(shown) == 40:
            os.kill(os.getpid(), signal.SIGTERM)
        return show(self, *arguments)

    monkeypatch.setattr(feed.Feed, "_batch", stop)
    assert run(tmp_path / "parts", *flags) == 143
    assert run(tmp_path / "parts", *flags, "--resume") == 0
    whole, parts = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    )
    assert measured(whole) == measured(parts)

    class Ended:
        def __init__(self, name):
            self.workdir = tmp_path / name

    ours, theirs = final(Ended("parts")), final(Ended("whole"))
    assert all(ours.net[name].tobytes() == theirs.net[name].tobytes() for name in theirs.net)


@pytest.fixture(scope="module")
def small():
    return sequences(train=50, test=11, classes=3, units=5)


def listed(batches):
    return [tuple(np.asarray(part) for part in batch) for batch in batches]


def test_batches_are_recordings_with_their_labels_filled_up_with_zeros(small):
    fed = feed_of(small, SMALL)
    assert (fed.steps, fed.batches, fed.shape[:2]) == (None, 6, ((5,), 3))
    assert fed.shape.input_rate == pytest.approx(small.train.values.mean())
    whole = {own_steps(small.train, index)[0].tobytes(): index for index in range(50)}
    seen = []
    for inputs, labels, weights, lengths in listed(fed.train_batches(1)):
        assert inputs.shape[1:] == (8, 5) and (weights == 1).all()
        for member, (label, length) in enumerate(zip(labels, lengths, strict=True)):
            assert not inputs[length:, member].any()
            index = whole[inputs[:length, [member]].tobytes()]
            assert (small.train.labels[index], small.train.lengths[index]) == (label, length)
            seen.append(index)
    assert len(seen) == len(set(seen)) == 48
    weights = np.concatenate([weights for _, _, weights, _ in listed(fed.test_batches())])
    assert weights.sum() == 11 and len(weights) == 16


def test_an_epoch_goes_on_with_the_batches_that_are_left(small):
    fed = feed_of(small, SMALL)
    whole, rest = listed(fed.train_batches(2)), listed(fed.train_batches(2, 4))
    for one, other in zip(whole[4:], rest, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert fed.steps_of_batches(2)[6:].tolist() == [len(inputs) for inputs, *_ in whole]


def test_rates_are_those_of_the_recordings_alone(small):
    """An epoch's firing rates count each recording's own steps, and no padding."""
    config = SMALL.changed(method="bptt", layers=(12,), learning_rate=1e-30, precision="float64", threshold=0.5)
    with settings(config.net.precision):
        fed = feed_of(small, config)
        net = net_of(config, *fed.shape)
        expected = [0.0, 0]
        for _, _, _, lengths in (batches := listed(fed.train_batches(1))):
            expected[1] += lengths.sum()
        for inputs, _, _, lengths in batches:
            for member, length in enumerate(lengths):
                (spikes,) = safjax.simulate(net, jnp.asarray(inputs[:length, [member]])).spikes.values()
                expected[0] += float(spikes.sum()) / 12
        *_, got = trainer_of(config, fed).train_epoch(1, Tally())
        (rate,) = got.rates.values()
    assert 0.05 < rate < 0.6 and rate == pytest.approx(expected[0] / expected[1], rel=1e-9)


@pytest.mark.parametrize(("method", "updates"), [("ottt_o", "a step"), ("bptt", "a batch")])
def test_the_optimizer_knows_how_often_each_batch_updates(method, updates, small, monkeypatch):
    """So that the learning rate follows the batches, as of sequences of one length."""
    config, given = SMALL.changed(method=method, epochs=2), []
    make = trainer.make_optimizer
    monkeypatch.setattr(trainer, "make_optimizer", lambda *args: (given.append(args[2:]), make(*args))[1])
    fed = feed_of(small, config)
    trainer_of(config, fed)
    ((batches, steps),) = given
    lengths = [len(inputs) for epoch in (1, 2) for inputs, *_ in listed(fed.train_batches(epoch))]
    assert batches == len(lengths) == 12
    np.testing.assert_array_equal(steps, lengths if updates == "a step" else 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"augmentation": "crop"}, "--augmentation=none"),
        ({"batch_size": 51}, "--batch-size=51 is more than all 50 training examples of randman"),
        ({"steps": 30}, "each recording of randman has as many steps as it has. Give --steps=None"),
        ({"image_size": 3}, "crops images"),
    ],
)
def test_feed_refuses(change, words, small):
    with pytest.raises(ConfigError, match=words):
        feed_of(small, SMALL.changed(**change))


def test_images_and_spike_times_need_steps():
    config = parse(randman.CONFIG, "", ["--steps=None"])
    for name in ("digits", "randman"):
        with pytest.raises(ConfigError, match=f"sequences with lengths of their own, which {name} has not"):
            feed_of(load(name, ""), config.changed(augmentation="none"))


VALUES, LABELS = np.zeros((6, 4), np.uint8), np.zeros(2, np.int32)
BAD = {
    "a sum that is not theirs": (VALUES, np.array([2, 3]), r"shape \(6, 4\), expected \[5, ...units\]"),
    "no units": (VALUES[:, 0], np.array([2, 4]), r"expected \[6, ...units\]"),
    "a recording without steps": (VALUES, np.array([6, 0]), "recording 1 has no step"),
    "lengths of another dtype": (VALUES, np.array([2.0, 4.0]), "lengths are float64"),
    "values of another dtype": (VALUES.astype("U1"), np.array([2, 4]), "expected whole or real numbers"),
}


@pytest.mark.parametrize(("values", "lengths", "words"), BAD.values(), ids=BAD)
def test_recordings_refuse(values, lengths, words):
    with pytest.raises(ValueError, match=words):
        Recordings(values, lengths, LABELS)


def test_sequences_refuse_other_units_and_labels():
    one, two = Recordings(VALUES, np.array([2, 4]), LABELS), Recordings(VALUES[:, :3], np.array([2, 4]), LABELS)
    with pytest.raises(ValueError, match="record the same units"):
        Sequences("toy", one, two, 2)
    with pytest.raises(ValueError, match="count classes from 0"):
        Sequences("toy", one, Recordings(VALUES, np.array([2, 4]), LABELS + 2), 2)
