"""The largest batch that fits, by few compilations: what a step needs grows with the batch along a straight line."""

from typing import NamedTuple

TRIES = 3
"""Batches that are compiled to see whether they fit, before the search gives up."""
ENOUGH = 1.02
"""A batch larger by less than this factor is not looked for."""


class Trial(NamedTuple):
    """Bytes that a step of some batch needs; None where the compiler says that they are too many."""

    batch: int
    bytes: int | None


class Search:
    """The search for the largest batch of one rule.

    Args:
      limit: bytes that there are.
      multiple: the batch is a multiple of this number.
      trials: two batches, already compiled.
    """

    def __init__(self, limit: float, multiple: int, trials: list[Trial]):
        self._limit, self._multiple, self._trials = limit, multiple, trials
        self._tries = 0

    @property
    def largest(self) -> int:
        """The largest batch that is known to fit; 0 if none is."""
        return max((t.batch for t in self._trials if t.bytes is not None and t.bytes <= self._limit), default=0)

    @property
    def next(self) -> int | None:
        """The batch to be compiled next; None where it would be hardly larger than what fits, or has been tried."""
        batch = self._predicted()
        tried = {trial.batch for trial in self._trials}
        done = batch is None or batch <= ENOUGH * self.largest or batch in tried or self._tries == TRIES
        return None if done else batch

    def add(self, trial: Trial) -> None:
        """What `next` has been found to need."""
        self._trials.append(trial)
        self._tries += 1

    def _predicted(self) -> int | None:
        """Where the line through the two largest known batches meets the limit, below all that did not fit."""
        known = sorted((t.batch, t.bytes) for t in self._trials if t.bytes is not None)
        over = min((t.batch for t in self._trials if t.bytes is None or t.bytes > self._limit), default=None)
        if len(known) < 2:
            return None if over is None or over <= 1 else self._rounded(over // 2)
        (few, small), (many, large) = known[-2:]
        slope = (large - small) / (many - few)
        if slope <= 0:
            return None
        batch = self._rounded(int(many + (self._limit - large) / slope))
        return batch if over is None else min(batch, self._rounded(over - self._multiple))

    def _rounded(self, batch: int) -> int:
        """Down, of large batches to a multiple of eight."""
        multiple = self._multiple * (8 if batch >= 64 * self._multiple else 1)
        return max(multiple, batch // multiple * multiple)
