"""Batches of an epoch and of an evaluation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import epoch_indices, evaluation_batches

sizes = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(sizes, st.integers(0, 2**31), st.integers(0, 500))
def test_an_epoch_is_a_permutation(size, seed, epoch):
    n, batch_size = size
    batches = epoch_indices(seed, epoch, n, batch_size, drop_last=False)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert batches[0].dtype == np.int32


@given(sizes)
def test_dropping_the_last_leaves_full_batches(size):
    n, batch_size = size
    full = epoch_indices(0, 0, n, batch_size)
    everything = epoch_indices(0, 0, n, batch_size, drop_last=False)
    assert len(full) == n // batch_size
    for batch, same in zip(full, everything, strict=False):
        assert len(batch) == batch_size
        np.testing.assert_array_equal(batch, same)


def test_seed_and_epoch_decide_and_nothing_else():
    first = np.concatenate(epoch_indices(7, 3, 100, 10))
    np.testing.assert_array_equal(first, np.concatenate(epoch_indices(7, 3, 100, 20)))
    assert not np.array_equal(first, np.concatenate(epoch_indices(7, 4, 100, 10)))
    assert not np.array_equal(first, np.concatenate(epoch_indices(8, 3, 100, 10)))
    assert not np.array_equal(first, np.concatenate(epoch_indices(3, 7, 100, 10)))


@given(st.integers(1, 60), st.integers(1, 80))
def test_evaluation_weighs_every_example_once(n, batch_size):
    indices, weights = evaluation_batches(n, batch_size)
    assert indices.shape == weights.shape == (-(-n // batch_size), batch_size)
    assert (indices.dtype, weights.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(indices[weights == 1], np.arange(n))
    assert np.all(indices[weights == 0] == 0)
    values = np.random.default_rng(0).normal(size=n)
    assert (weights * values[indices]).sum() / n == pytest.approx(values.mean())


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="batch_size is 11 with only 10 examples"):
        epoch_indices(0, 0, 10, 11, drop_last=False)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 1), (5, 0), (5, -1)])
def test_sizes_must_be_positive(n, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        epoch_indices(0, 0, n, batch_size)
    with pytest.raises(ValueError, match="at least 1"):
        evaluation_batches(n, batch_size)
