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


def held_out(
    size: int, share: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The examples that are trained on, and those that are not but choose the epoch; (None, None) of a share of 0.

    Args:
      size: of all training examples.
      share: that is held out, in [0, 1); one example at least, where it is not 0.
      seed: on which it depends who they are.
      groups: whole numbers [size], of `Examples`. No group is divided: an example in training would tell of one that
        chooses. So some more or fewer may be held out than the share says, by half a group.
    """
    if not share:
        return None, None
    of = np.arange(size) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(of)
    order = np.random.default_rng((seed, 2**32)).permutation(len(sizes))
    count = 1 + int(np.abs(np.cumsum(sizes[order]) - max(1, round(share * size))).argmin())
    chosen = np.isin(of, order[:count])
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def common_edges(*examples: Examples) -> np.ndarray | None:
    """The lengths to which all of some examples are filled up; None where they have none."""
    lengths = [each.lengths for each in examples if each.lengths is not None]
    return by_length.edges(np.concatenate(lengths)) if lengths else None


class Plan:
    """The batches of some examples.

    Args:
      examples: of which lengths and number are used.
      batch_size: examples in a batch.
      edges: the lengths that batches may have, of `common_edges`; None without lengths.
      among: the numbers of those that may be in a batch; None for all.
    """

    def __init__(
        self, examples: Examples, batch_size: int, edges: np.ndarray | None = None, among: np.ndarray | None = None
    ):
        self._among = np.arange(examples.size, dtype=np.int32) if among is None else among.astype(np.int32)
        self._count, self._batch_size = len(self._among), batch_size
        self._lengths = None if examples.lengths is None else examples.lengths[self._among]
        self._edges = edges

    @property
    def size(self) -> int:
        """How many examples there are."""
        return self._count

    def epoch(self, seed: int, epoch: int) -> list[Planned]:
        """Every example once, but for those that do not fill another batch; depends on (seed, epoch) alone."""
        if self._lengths is None:
            batches = epoch_indices(seed, epoch, self._count, self._batch_size)
        else:
            batches = by_length.shuffled(self._lengths, seed, epoch, self._batch_size)
        weights = np.ones(self._batch_size, np.float32)
        return [Planned(self._among[batch], weights, self._steps(batch)) for batch in batches]

    def some(self, count: int) -> Planned:
        """At most so many examples, spread evenly over all."""
        batch = np.linspace(0, self._count - 1, min(count, self._count)).astype(np.int32)
        return Planned(self._among[batch], np.ones(len(batch), np.float32), self._steps(batch))

    def every_example(self) -> list[Planned]:
        """Every example once, in the order of their lengths, where they have some, else in their own."""
        indices, weights = evaluation_batches(self._count, self._batch_size)
        if self._lengths is not None:
            indices = np.argsort(self._lengths, kind="stable").astype(np.int32)[indices]
        return [
            Planned(self._among[batch], weight, self._steps(batch))
            for batch, weight in zip(indices, weights, strict=True)
        ]

    def _steps(self, batch: np.ndarray) -> int | None:
        if self._lengths is None:
            return None
        assert self._edges is not None, "sequences of different lengths have edges"
        return by_length.filled_up(self._lengths, batch, self._edges)
