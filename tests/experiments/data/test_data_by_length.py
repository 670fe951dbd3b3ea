"""Batches by length: little padding, every example once, the same from the same seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import Examples, Plan, common_edges, epoch_indices
from experiments.data.by_length import EDGES, FINEST, POOL, edges, shuffled

LENGTHS = np.random.default_rng(0).integers(20, 201, 5000)
BATCH = 32


def plan(lengths=LENGTHS, batch_size=BATCH):
    examples = Examples(len(lengths), make=None, lengths=lengths)
    return Plan(examples, batch_size, common_edges(examples))


def padding(planned, lengths=LENGTHS):
    """The share of all steps of some batches that no sequence has."""
    steps = sum(len(batch.indices) * batch.steps for batch in planned)
    return 1 - sum(lengths[batch.indices].sum() for batch in planned) / steps


def test_little_is_padding():
    """Without regard to length a batch is as long as the longest of its members."""
    drawn = epoch_indices(0, 1, len(LENGTHS), BATCH)
    unbucketed = 1 - LENGTHS[np.concatenate(drawn)].sum() / sum(BATCH * LENGTHS[batch].max() for batch in drawn)
    planned = plan().epoch(0, 1)
    assert 0.4 < unbucketed < 0.5
    assert 0.05 < padding(planned) < 0.1
    assert 0.05 < padding(plan().every_example()) < 0.1
    assert len({batch.steps for batch in planned}) <= EDGES


def test_examples_are_those_of_an_epoch_without_lengths():
    """Each once, but for the few that do not fill another batch; other ones are left out in another epoch."""
    for epoch in (1, 2):
        expected = np.concatenate(epoch_indices(3, epoch, len(LENGTHS), BATCH))
        got = np.concatenate([batch.indices for batch in plan().epoch(3, epoch)])
        assert got.dtype == np.int32
        np.testing.assert_array_equal(np.sort(got), np.sort(expected))


def test_seed_and_epoch_decide_and_nothing_else():
    first = shuffled(LENGTHS, 7, 3, BATCH)
    np.testing.assert_array_equal(first, shuffled(LENGTHS, 7, 3, BATCH))
    for other in (shuffled(LENGTHS, 7, 4, BATCH), shuffled(LENGTHS, 8, 3, BATCH)):
        assert len(other) == len(first) and not np.array_equal(first, other)


def test_batches_come_in_no_order_of_length_and_meet_others_each_epoch():
    longest = [np.array([LENGTHS[batch].max() for batch in shuffled(LENGTHS, 0, epoch, BATCH)]) for epoch in (1, 2)]
    for one in longest:
        assert abs(np.corrcoef(one, np.arange(len(one)))[0, 1]) < 0.3
    together = [{tuple(sorted(batch)) for batch in shuffled(LENGTHS, 0, epoch, BATCH)} for epoch in (1, 2)]
    assert not together[0] & together[1]


def test_a_pool_is_not_the_whole_epoch():
    """Batches of one epoch overlap in length where there are several pools: which members meet is left to chance."""
    lengths = np.arange(4 * POOL)
    batches = shuffled(lengths, 0, 1, 2)
    spread = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert any(one[1] > other[0] for one, other in itertools.pairwise(spread))


def test_every_example_once_in_an_evaluation():
    planned = plan().every_example()
    indices, weights = (np.concatenate([getattr(batch, name) for batch in planned]) for name in ("indices", "weights"))
    assert sorted(indices[weights == 1]) == list(range(len(LENGTHS)))
    assert weights.sum() == len(LENGTHS) and len(indices) % BATCH == 0
    assert all(LENGTHS[batch.indices].max() <= batch.steps for batch in planned)


def test_without_lengths_a_plan_is_as_it_was():
    planned = Plan(Examples(50, make=None), 8).epoch(1, 2)
    np.testing.assert_array_equal([batch.indices for batch in planned], epoch_indices(1, 2, 50, 8))
    assert {batch.steps for batch in planned} == {None}


def wasted(lengths, to):
    return sum(min(edge for edge in to if edge >= length) for length in lengths)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 4))
def test_edges_waste_least(lengths, count):
    """Beside all other sets of edges."""
    got = edges(np.array(lengths), count)
    assert len(got) <= count and got[-1] == max(lengths) and (np.diff(got) > 0).all()
    values = sorted(set(lengths))
    others = (
        (*some, values[-1])
        for size in range(min(count, len(values)))
        for some in itertools.combinations(values[:-1], size)
    )
    assert wasted(lengths, got) == min(wasted(lengths, other) for other in others)


def test_edges_of_very_long_sequences_are_found_quickly():
    lengths = np.random.default_rng(0).integers(1, 10**6, 10**5)
    got = edges(lengths)
    assert len(got) == EDGES and lengths.max() <= got[-1] < lengths.max() * (1 + 2 / FINEST)


@pytest.mark.parametrize("batch_size", [1, 7, 5000])
def test_batches_of_any_size(batch_size):
    batches = shuffled(LENGTHS, 0, 0, batch_size)
    assert {len(batch) for batch in batches} == {batch_size} and len(batches) == 5000 // batch_size
