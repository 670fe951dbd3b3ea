"""Training examples that are held out choose the best epoch, and the test has no part in it."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.config import Config, ConfigError
from experiments.data import Binned, Images, held_out
from experiments.data.events.randman import load_randman
from experiments.storage import checkpoints
from safjax.data import Split
from tests.experiments.making import feed_of

COUNT = 45


def images(augmentation, **changes):
    """Images of one level each, which is their number, and so are their labels."""
    levels = np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
    pixels, labels = np.broadcast_to(levels, (COUNT, 6, 6, 1)).copy(), np.arange(COUNT, dtype=np.int32)
    data = Images("toy", pixels, labels, pixels[:5] + 200, labels[:5], COUNT, (0.0,), (1 / 255,))
    return feed_of(data, Config().changed(augmentation=augmentation, batch_size=4, **changes))


def numbers(batches):
    return np.concatenate([np.asarray(batch.labels)[np.asarray(batch.weights) > 0] for batch in batches])


def test_what_is_held_out_is_not_trained_on():
    fed = images("crop", held_out=0.2)
    held = numbers(fed.held_out_batches())
    assert (len(held), len(set(held)), fed.batches) == (9, 9, 9)
    for epoch in (1, 2):
        trained = numbers(fed.train_batches(epoch))
        assert len(trained) == 36 and set(trained) == set(range(COUNT)) - set(held)
    assert set(numbers(fed.test_batches())) == set(range(5))
    for batch in fed.held_out_batches():
        level = np.asarray(batch.labels)[:, None, None, None]
        np.testing.assert_allclose(batch.inputs, np.broadcast_to(level, batch.inputs.shape), rtol=1e-6)


def test_who_is_held_out_depends_on_the_seed_alone():
    one, same, other = (held_out(100, 0.1, seed) for seed in (0, 0, 1))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1].tolist() != other[1].tolist()
    assert sorted([*one[0], *one[1]]) == list(range(100))
    assert len(held_out(100, 1e-9, 0)[1]) == 1


def test_groups_are_held_out_whole():
    groups = np.random.default_rng(0).integers(0, 40, 200)
    trained, chosen = held_out(200, 0.1, 3, groups)
    assert sorted([*trained, *chosen]) == list(range(200)) and 17 <= len(chosen) <= 23
    assert not set(groups[trained]) & set(groups[chosen])
    assert set(groups[held_out(200, 0.1, 4, groups)[1]]) != set(groups[chosen])
    for each, alone in zip(held_out(200, 0.1, 3, np.arange(200)), held_out(200, 0.1, 3), strict=True):
        np.testing.assert_array_equal(each, alone)


def test_without_any_nothing_changes():
    fed = images("none")
    assert not fed.chooses and fed.batches == 11 and held_out(COUNT, 0.0, 0) == (None, None)
    with pytest.raises(ConfigError, match="--batch-size=4 is more than all 2 training examples .*--held-out=0.95"):
        images("none", held_out=0.95)
    with pytest.raises(ConfigError, match=r"--held-out=1.* is not possible: expected a number in \[0, 1\)"):
        images("none", held_out=1.0)


def binned(valid):
    counts = np.arange(COUNT, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    labels = np.arange(COUNT, dtype=np.int32)
    train, test, other = (Split(counts[s], labels[s], 0) for s in (slice(0, 30), slice(30, 37), slice(37, COUNT)))
    return Binned("toy", train, test, tuple(map(str, range(COUNT))), valid=other if valid else None)


def test_examples_published_to_choose_by_are_taken():
    config = Config().changed(augmentation="none", batch_size=4, steps=2)
    fed, without = (feed_of(binned(valid), config) for valid in (True, False))
    assert fed.chooses and not without.chooses and fed.batches == 7
    assert set(numbers(fed.held_out_batches())) == set(range(37, COUNT))
    for batch in fed.held_out_batches():
        np.testing.assert_array_equal(batch.inputs[0, :, 0], batch.labels)
    assert set(numbers(fed.test_batches())) == set(range(30, 37))
    with pytest.raises(ConfigError, match="--held-out=0.2 .* has 8 that are published for that. Give --held-out=0"):
        feed_of(binned(True), config.changed(held_out=0.2))


def test_of_what_is_made_of_one_recording_nothing_is_trained_on():
    data = dataclasses.replace(binned(False), groups=np.repeat(np.arange(10), 3))
    fed = feed_of(data, Config().changed(augmentation="none", batch_size=4, steps=2, held_out=0.2))
    held = set(numbers(fed.held_out_batches()))
    assert len(held) == 6 and all({i // 3 * 3 + k for k in range(3)} <= held for i in held)
    assert not held & set(numbers(fed.train_batches(1)))


def test_spike_times_are_held_out_too():
    fed = feed_of(
        load_randman(classes=3, units=5, train=20, test=11),
        Config().changed(dataset="randman", augmentation="none", batch_size=4, held_out=0.25, steps=5),
    )
    assert len(numbers(fed.held_out_batches())) == 5 and fed.batches == 3


def test_the_best_epoch_is_theirs(run):
    """The best checkpoint is that of the epoch which they choose, whatever the test says."""
    ended = run("--method=saf_f", "--held-out=0.2", "--epochs=3", "--learning-rate=0.1", "--keep=1")
    assert ended.code == 0, ended.err
    records, summary = ended.records, ended.summary
    chosen = 1 + int(np.argmax([record["held_out_accuracy"] for record in records]))
    assert summary["chosen_epoch"] == chosen
    assert summary["chosen_test_accuracy"] == records[chosen - 1]["test_accuracy"]
    assert summary["test_accuracy"] == records[-1]["test_accuracy"]
    moments = checkpoints.steps(ended.workdir / "checkpoints")
    # An epoch of 1150 examples has 4 batches, and one moment more.
    assert chosen * 5 in moments
    assert json.loads((ended.workdir / "config.json").read_text())["held_out"] == 0.2


def test_where_nothing_is_held_out_nothing_is_chosen(finished):
    summary = finished("--method=saf_f").summary
    assert summary["chosen_epoch"] is None and summary["chosen_test_accuracy"] is None
