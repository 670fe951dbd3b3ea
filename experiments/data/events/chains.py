"""Recordings joined one after the other, so that their order is the task: what happened is the same in every class.

In the manner of the DVS-Gesture-Chain of A. Vicente-Sola et al., "Spiking neural networks for event-based action
recognition: a new task to understand their advantage", 2022 (arXiv 2209.14915).
"""

import itertools
from typing import NamedTuple

import numpy as np


class Chains(NamedTuple):
    """Which recordings make up each example.

    Attributes:
      members: int64 [N, K], numbers of recordings in the order in which they come.
      labels: int32 [N].
      classes: names of the labels.
      groups: whole numbers [N], of the recordings or sets of recordings; chains of one set differ in their order alone.
        None where each example is for itself.
    """

    members: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None


def chains(labels: np.ndarray, classes: tuple[str, ...], length: int, seed: int) -> Chains:
    """Recordings of the first K classes joined to chains, one of each class, in every order: the label is the order.

    Each set of K recordings comes in all K! orders, so that its counts say nothing of the label: without time there is
    nothing to be told. Of a class with more recordings than another, some drawn at random are in no chain.

    Args:
      labels: int [N], of the recordings of one split.
      classes: names of the labels.
      length: K; 1 leaves the recordings single, with their own labels.
      seed: of who meets whom.

    Raises:
      ValueError: there are fewer than K classes, or one of the first K has no recording.
    """
    if length == 1:
        return Chains(np.arange(len(labels))[:, None], labels.astype(np.int32), classes)
    if length > len(classes):
        raise ValueError(f"chains of {length} recordings of different classes, but there are {len(classes)} classes.")
    rng = np.random.default_rng(seed)
    of_class = [rng.permutation(np.flatnonzero(labels == k)) for k in range(length)]
    count = min(map(len, of_class))
    if not count:
        empty = [classes[k] for k, own in enumerate(of_class) if not len(own)]
        raise ValueError(f"chains of {length} recordings, but there is none of the class {empty[0]!r}.")
    sets = np.stack([own[:count] for own in of_class], axis=1)
    orders = list(itertools.permutations(range(length)))
    members = np.concatenate([sets[:, order] for order in orders])
    names = tuple(" then ".join(classes[k] for k in order) for order in orders)
    labels = np.repeat(np.arange(len(orders), dtype=np.int32), count)
    return Chains(members, labels, names, np.tile(np.arange(count), len(orders)))
