"""Batches of sequences that differ in length, made so that little of them is padding.

A batch is as long as its longest member, and all that is missing to it is computed for nothing. So a batch has members
of nearly the same length: the permutation of an epoch is cut into pools of 64 batches, each pool is sorted by length
and cut into batches, and the batches of all pools are shuffled. Which examples meet in a batch still changes from epoch
to epoch.

Every length that a batch has is compiled once. So batches are filled up to one of ten lengths only, those with the
least padding for the lengths at hand (`edges`). Of lengths spread evenly over 20 .. 200, 8 % of all steps are then
padding, where batches drawn without regard to length have 44 %.
"""

import numpy as np

EDGES = 10
"""Different lengths of batches, at most."""

POOL = 64
"""Batches that are sorted together."""

FINEST = 1000
"""Of longer sequences so many different lengths are told apart."""


def edges(lengths: np.ndarray, count: int = EDGES) -> np.ndarray:
    """The lengths to which sequences are filled up: of all sets of `count`, one with the least padding in all.

        minimise Σ_n min {e ∈ edges : e ≥ length[n]},   by dynamic programming over the different lengths

    Args:
      lengths: of all sequences, [N].
      count: how many edges at most.

    Returns:
      int64, ascending; the last is the largest length, of more than `FINEST` steps rounded up.
    """
    unit = -(-int(lengths.max()) // FINEST)
    values, counts = np.unique(-(-lengths.astype(np.int64) // unit) * unit, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # Steps of all sequences up to values[j], if the last edge is there; and how many values lie up to the one before.
    cost = values * below[1:]
    before = []
    for _ in range(min(count, len(values)) - 1):
        through = np.concatenate([[0], cost])[None, :] + values[:, None] * (below[1:, None] - below[None, :])
        allowed = np.where(np.arange(len(below))[None, :] <= np.arange(len(values))[:, None], through, np.inf)
        before.append(allowed.argmin(1))
        cost = allowed.min(1)
    chosen, j = [], len(values)
    for previous in [*reversed(before), None]:
        chosen.append(values[j - 1])
        j = 0 if previous is None else int(previous[j - 1])
        if j == 0:
            break
    return np.array(chosen[::-1], np.int64)


def shuffled(lengths: np.ndarray, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
    """The batches of one epoch; they depend on (seed, epoch) alone.

    The examples are those of `epoch_indices`: each once, but for the last N mod batch_size of the permutation.

    Args:
      lengths: of all sequences, [N].
      seed, epoch, batch_size: as of `epoch_indices`.

    Returns:
      One int32 array [batch_size] a batch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(lengths)).astype(np.int32)
    count = len(lengths) // batch_size
    batches = []
    for numbers in np.array_split(np.arange(count), -(-count // POOL)):
        pool = order[numbers[0] * batch_size : (numbers[-1] + 1) * batch_size]
        batches += list(pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, batch_size))
    shuffle = np.random.default_rng((seed, epoch, 1)).permutation(count)
    return [batches[number] for number in shuffle]


def filled_up(lengths: np.ndarray, batch: np.ndarray, to: np.ndarray) -> int:
    """To which of the edges `to` a batch is filled up."""
    return int(to[np.searchsorted(to, lengths[batch].max())])
