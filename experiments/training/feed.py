"""The batches of a run: read on the host where they must be, ahead of time, and made on the devices."""

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.config import ConfigError, Data
from experiments.data import DataCorrupt, DataSet, Examples, Made, Parts, Plan, Planned, common_edges, held_out, load
from experiments.distribution.devices import Devices

AHEAD = 3
"""Batches that are read while the device works on another."""


def load_dataset(name: str, data_dir: str) -> DataSet:
    """The data set of a run.

    Raises:
      ConfigError: it cannot be stored in the data directory.
      DataUnavailable: it is neither stored nor to be fetched.
      DataCorrupt: what is stored has other shapes, dtypes or labels than it must have.
    """
    try:
        return load(name, data_dir)
    except ValueError as error:
        raise DataCorrupt(f"the data set in --data-dir={data_dir} cannot be used: {error}") from error
    except OSError as error:
        raise ConfigError(f"--data-dir={data_dir} cannot be used: {error}.") from error


def full_batches(data: Data, count: int) -> int:
    """Batches of an epoch; the few examples that do not fill another are left out, other ones each time.

    Raises:
      ConfigError: all `count` training examples are less than one batch.
    """
    if data.batch_size > count:
        left = f", which --held-out={data.held_out} leaves" if data.held_out else ""
        raise ConfigError(
            f"--batch-size={data.batch_size} is more than all {count} training examples of {data.dataset}{left}."
        )
    return count // data.batch_size


def _refuse_two_choices(parts: Parts, data: Data) -> None:
    if parts.validation is not None and data.held_out:
        raise ConfigError(
            f"--held-out={data.held_out} takes training examples to choose the epoch by, but {data.dataset} has "
            f"{parts.validation.size:,} that are published for that. Give --held-out=0."
        )


class Batch(NamedTuple):
    """What a training step or an evaluation is given.

    Attributes:
      inputs: images [B, H, W, C], or sequences [T, B, ...]; float32, or float64 under --precision=float64.
      labels: int32 [B].
      weights: float32 [B]; 1 for an example, 0 for one that only fills up the batch.
      lengths: int32 [B], how many of the T steps each sequence has; None where all have all, and of images.
    """

    inputs: jax.Array
    labels: jax.Array
    weights: jax.Array
    lengths: jax.Array | None


class Feed:
    """The batches of a run, the same for the same seed.

    Args:
      dataset: what of it is held, each device keeps whole.
      data: batch size, and what `DataSet.parts` needs.
      seed: of the order of the examples and of their augmentation.
      devices: each makes its part of every batch, from what its own process has read.

    Attributes:
      batches: batches of an epoch.
      shape: what the net takes and gives.
      steps: for how many steps an image is shown; None where the inputs are sequences.
      chooses: whether examples are held out, or published, to choose the best epoch.
      baseline, about, shown: as of `Parts`.

    Raises:
      ConfigError: the data set is smaller than one batch, or cannot be augmented, cropped or divided into steps as
        asked for.
    """

    def __init__(self, dataset: DataSet, data: Data, seed: int, devices: Devices):
        parts = dataset.parts(data)
        _refuse_two_choices(parts, data)
        trained_on, chosen_by = held_out(parts.train.size, data.held_out, seed, parts.train.groups)
        # The same of all: what is compiled for the test serves those that choose, too.
        edges = common_edges(parts.train, parts.test, *([parts.validation] if parts.validation else []))
        plan = Plan(parts.train, data.batch_size, edges, trained_on)
        self.batches, self.baseline = full_batches(data, plan.size), parts.baseline
        self.shape, self.steps = parts.shape, parts.steps
        self.about, self.shown = parts.about, parts.shown
        self._train, self._plan = parts.train, plan
        self._test = parts.test, Plan(parts.test, data.batch_size, edges)
        choosing = parts.plain if parts.validation is None and chosen_by is not None else parts.validation
        self._choosing = choosing and (choosing, Plan(choosing, data.batch_size, edges, chosen_by))
        self._held, self._test_held = devices.replicate((parts.train.held, parts.test.held))
        # Those that are held out lie where the training examples do.
        self._choosing_held = devices.replicate(parts.validation.held) if parts.validation else self._held
        self.chooses = self._choosing is not None
        self._devices, self._seed, self._steps = devices, seed, data.steps
        self._pool = ThreadPoolExecutor(os.cpu_count(), "read")

    def train_batches(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The augmented batches of an epoch after the first `done`; all depend on (seed, epoch) alone."""
        planned = self._plan.epoch(self._seed, epoch)[done:]
        for number, (plan, rows) in enumerate(self._rows(self._train, planned, epoch), done):
            yield self._batch(self._train.make, self._held, plan, rows, (self._seed, epoch, number))

    def test_batches(self) -> Iterator[Batch]:
        """Every test example once, in batches of few shapes."""
        return self._every_example(*self._test, self._test_held)

    def some_test_examples(self, count: int) -> Batch:
        """At most so many, spread evenly over the test, in one batch; their number is a multiple of that of devices."""
        examples, plan = self._test
        ((planned, rows),) = self._rows(examples, [plan.some(count)], 0)
        return self._batch(examples.make, self._test_held, planned, rows, (0, 0, 0))

    def held_out_batches(self) -> Iterator[Batch]:
        """Every example that chooses the epoch, held out or published for that, once, without augmentation."""
        assert self._choosing is not None, "nothing is held out"
        return self._every_example(*self._choosing, self._choosing_held)

    def _every_example(self, examples: Examples, plan: Plan, held: Any) -> Iterator[Batch]:
        for planned, rows in self._rows(examples, plan.every_example(), 0):
            yield self._batch(examples.make, held, planned, rows, (0, 0, 0))

    def steps_of_batches(self, epochs: int) -> int | np.ndarray:
        """How many steps each batch of a run has, [epochs · batches]; one number where all have as many."""
        if self._train.lengths is None:
            assert self._steps is not None, "without lengths --steps says it"
            return self._steps
        planned = (self._plan.epoch(self._seed, epoch) for epoch in range(1, epochs + 1))
        return np.array([plan.steps for plan in itertools.chain.from_iterable(planned)])

    def _batch(self, make: Callable[..., Made], held: Any, plan: Planned, rows: Any, place: tuple[int, ...]) -> Batch:
        divide, weights = self._devices.divide, self._devices.share(plan.weights)
        # Seeds go up to 2^32 - 1, Python's numbers in a jitted function to 2^31 - 1.
        return _make(make, held, jax.tree.map(divide, rows), divide(weights), np.array(place, np.uint32))

    def _rows(self, examples: Examples, planned: Sequence[Planned], epoch: int) -> Iterator[tuple[Planned, Any]]:
        """Each batch with what the device is handed of this process's share, [B, ...]; `AHEAD` more are on the way."""
        read = examples.read
        if read is None:
            yield from ((plan, self._devices.share(plan.indices)) for plan in planned)
            return
        waiting: deque[tuple[Planned, list[Future]]] = deque()
        try:
            for plan in planned:
                own = map(int, self._devices.share(plan.indices))
                reads = [self._pool.submit(read, index, plan.steps, (self._seed, epoch, index)) for index in own]
                waiting.append((plan, reads))
                if len(waiting) > AHEAD:
                    yield _stacked(*waiting.popleft())
            while waiting:
                yield _stacked(*waiting.popleft())
        finally:
            # Reached early when training is interrupted: what is not wanted any more need not be read.
            for future in itertools.chain.from_iterable(reads for _, reads in waiting):
                future.cancel()


def _stacked(plan: Planned, reads: list[Future]) -> tuple[Planned, Any]:
    return plan, jax.tree.map(lambda *rows: np.stack(rows), *(future.result() for future in reads))


def batch_key(seed: int, epoch: int, number: int) -> jax.Array:
    """The random key of a batch."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), epoch), number)


@functools.partial(jax.jit, static_argnums=0)
def _make(make: Callable[..., Made], held: Any, rows: Any, weights: jax.Array, place: jax.Array) -> Batch:
    made = make(batch_key(*place), held, rows)
    return Batch(made.inputs, made.labels, weights, made.lengths)
