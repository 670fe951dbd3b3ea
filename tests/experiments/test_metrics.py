"""What is measured of a batch, and averaged over batches."""

import numpy as np
import pytest

from experiments.training.losses import example_losses
from experiments.training.metrics import Measured, Tally, measure
from safjax.rules import RULES

LAST = {"saf_f", "spike_representation", "ide"}


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    outputs = random.normal(size=(3, 8, 5)).astype(np.float32)
    return outputs, random.integers(0, 5, 8).astype(np.int32)


@pytest.mark.parametrize("method", RULES)
def test_reads_the_steps_that_the_rule_is_trained_on(batch, method):
    outputs, labels = batch
    got = measure(outputs, labels, np.ones(8, np.float32), {}, rule=RULES[method](), mse_weight=0.1)
    seen = outputs[-1:] if method in LAST else outputs
    loss = np.mean([np.sum(example_losses(logits, labels, 0.1)) for logits in seen])
    np.testing.assert_allclose(got.loss, loss, rtol=1e-5)
    assert got.correct == np.sum(seen.mean(0).argmax(-1) == labels)
    assert got.examples == 8


def test_padding_does_not_count_whatever_it_holds(batch):
    outputs, labels = batch
    weights = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    spoilt = outputs.copy()
    spoilt[:, 5:] = np.nan
    arguments = {"rule": RULES["bptt"](), "mse_weight": 0.1}
    got = measure(spoilt, labels, weights, {"layer.0": np.float32(0.5)}, **arguments)
    expected = measure(outputs[:, :5], labels[:5], np.ones(5, np.float32), {}, **arguments)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-6)
    assert (got.examples, got.correct, got.rates["layer.0"]) == (5, expected.correct, 2.5)


@pytest.mark.parametrize("method", ["bptt", "saf_f"])
def test_sequences_are_measured_by_their_own_steps(batch, method):
    """Whatever stands beyond: each as by itself, without its padding."""
    outputs, labels = batch
    lengths, weights = np.array([1, 3, 2, 2, 3, 1, 2, 3]), np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)
    padded = np.where((np.arange(3)[:, None] < lengths)[..., None], outputs, 1e30)
    arguments = {"rule": RULES[method](), "mse_weight": 0.1}
    got = measure(padded, labels, weights, {"a.0": np.float32(0.5)}, lengths, **arguments)
    alone = [
        measure(outputs[: lengths[b], [b]], labels[[b]], np.ones(1, np.float32), {}, **arguments) for b in range(6)
    ]
    np.testing.assert_allclose(got.loss, sum(one.loss for one in alone), rtol=1e-6)
    assert got.correct == sum(one.correct for one in alone) and got.examples == 6
    assert (got.steps, got.rates["a.0"]) == (12, 6.0)


def test_means_are_over_examples_not_batches():
    batches = [Measured(4, 8.0, 1, {"a.0": 2.0}, 4), Measured(1, 7.0, 1, {"a.0": 1.0}, 1)]
    first, second = Tally().over(batches)
    assert (first.loss, first.accuracy, first.rates) == (2.0, 0.25, {"a.0": 0.5})
    assert (second.loss, second.accuracy, second.rates) == (3.0, 0.4, {"a.0": 0.6})
    assert first.examples_per_second > 0 and second.examples_per_second > 0


def test_each_batch_is_read_after_the_next_is_handed_over():
    handed = []

    def batches():
        for number in range(3):
            handed.append(number)
            yield Measured(1, float(number), 0, {}, 1)

    means = Tally().over(batches())
    next(means)
    assert handed == [0, 1]


def test_layers_come_in_order_of_depth():
    rates = {f"features.layers.{number}": 0.0 for number in (1, 11, 13, 3, 5)}
    (means,) = Tally().over([Measured(1, 0.0, 0, rates, 1)])
    assert [path.rsplit(".")[-1] for path in means.rates] == ["1", "3", "5", "11", "13"]


def test_sums_hold_all_that_was_handed_over_and_change_nothing():
    tally = Tally()
    means = tally.over([Measured(1, 0.1, 1, {"a.0": 0.2}, 5), Measured(2, 0.7, 0, {"a.0": 0.3}, 7)])
    assert tally.sums() is None
    assert next(means).loss == 0.1 and tally.batches == 2
    assert tally.sums() == tally.sums() == Measured(3.0, 0.1 + 0.7, 1.0, {"a.0": 0.5}, 12.0)
    assert next(means).loss == (0.1 + 0.7) / 3


@pytest.mark.parametrize("done", range(4))
def test_a_tally_goes_on_from_sums_to_the_last_bit(done):
    batches = [Measured(3, 0.1 * number + 0.7, 1, {"a.0": 1 / (3 + number)}, 4) for number in range(3)]
    *_, whole = Tally().over(batches)
    before = Tally()
    list(before.over(batches[:done])) if done else None
    *_, resumed = Tally(done, before.sums()).over(batches[done:])
    assert resumed[:3] == whole[:3]
