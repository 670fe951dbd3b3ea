"""Which examples make up the batches of an epoch, and of an evaluation."""

from typing import NamedTuple

import numpy as np

from experiments.data import by_length
from experiments.data.batches import epoch_indices, evaluation_batches
from experiments.data.examples import Examples


class Planned(NamedTuple):
    """A batch to be made.

    Attributes:
      indices: int32 [B].
      weights: float32 [B]; 1 for an example, 0 for one that only fills up the batch.
      steps: to how many its sequences are filled up; None without lengths.
    """

    indices: np.ndarray
    weights: np.ndarray
    steps: int | None


class Plan:
    """The batches of some examples.

    Args:
      examples: of which lengths and number are used.
      batch_size: examples in a batch.
    """

    def __init__(self, examples: Examples, batch_size: int):
        self._count, self._lengths, self._batch_size = examples.size, examples.lengths, batch_size
        self._edges = None if self._lengths is None else by_length.edges(self._lengths)

    def epoch(self, seed: int, epoch: int) -> list[Planned]:
        """Every example once, but for those that do not fill another batch; depends on (seed, epoch) alone."""
        if self._lengths is None:
            batches = epoch_indices(seed, epoch, self._count, self._batch_size)
        else:
            batches = by_length.shuffled(self._lengths, seed, epoch, self._batch_size)
        weights = np.ones(self._batch_size, np.float32)
        return [Planned(batch, weights, self._steps(batch)) for batch in batches]

    def every_example(self) -> list[Planned]:
        """Every example once, in the order of their lengths, where they have some, else in their own."""
        indices, weights = evaluation_batches(self._count, self._batch_size)
        if self._lengths is not None:
            indices = np.argsort(self._lengths, kind="stable").astype(np.int32)[indices]
        return [Planned(batch, weight, self._steps(batch)) for batch, weight in zip(indices, weights, strict=True)]

    def _steps(self, batch: np.ndarray) -> int | None:
        if self._lengths is None or self._edges is None:
            return None
        return by_length.filled_up(self._lengths, batch, self._edges)
