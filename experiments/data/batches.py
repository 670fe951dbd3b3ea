"""Which examples make up a batch: arrays of indices, the images stay where they are."""

from typing import NamedTuple

import numpy as np


class EvaluationBatches(NamedTuple):
    """All examples once, in batches of one shape.

    Attributes:
      indices: int32 [K, B]; beyond the last example, 0.
      weights: float32 [K, B]; 1 for an example, 0 beyond the last.
    """

    indices: np.ndarray
    weights: np.ndarray


def epoch_indices(seed: int, epoch: int, n: int, batch_size: int, drop_last: bool = True) -> list[np.ndarray]:
    """The batches of one epoch, shuffled by (seed, epoch) alone.

    Args:
      seed: non-negative seed of the run.
      epoch: non-negative number of the epoch; each has its own permutation.
      n: number of examples.
      batch_size: examples in a batch.
      drop_last: whether to leave out the last n mod batch_size examples of the permutation. If
        kept, they form a smaller batch, for which a jitted step compiles once more.

    Returns:
      One int32 array [batch_size] a batch; no index comes twice.

    Raises:
      ValueError: n or batch_size is not positive, or batch_size exceeds n.
    """
    _check_sizes(n, batch_size)
    if batch_size > n:
        raise ValueError(
            f"batch_size is {batch_size} with only {n} examples, so not one batch is full; "
            f"use a batch_size of at most {n}."
        )
    order = np.random.default_rng((seed, epoch)).permutation(n).astype(np.int32)
    stop = n - n % batch_size if drop_last else n
    return [order[start : start + batch_size] for start in range(0, stop, batch_size)]


def evaluation_batches(n: int, batch_size: int) -> EvaluationBatches:
    """All n examples in order, the last batch padded so that one compilation serves all.

    A mean over the data set is Σ weights · values / n.

    Args:
      n: number of examples.
      batch_size: examples in a batch; may exceed n.

    Returns:
      `EvaluationBatches` with K = ⌈n / batch_size⌉ batches.

    Raises:
      ValueError: n or batch_size is not positive.
    """
    _check_sizes(n, batch_size)
    count = -(-n // batch_size)
    places = np.arange(count * batch_size, dtype=np.int32).reshape(count, batch_size)
    real = places < n
    return EvaluationBatches(np.where(real, places, 0), real.astype(np.float32))


def _check_sizes(n: int, batch_size: int) -> None:
    if n < 1 or batch_size < 1:
        raise ValueError(f"n is {n} and batch_size {batch_size}; both must be at least 1.")
