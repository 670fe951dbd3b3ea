"""The one trainer of all experiments: from a configuration to a trained net and its results on disk."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.config import Config, ConfigError
from experiments.config.settings import with_settings
from experiments.distribution.devices import Agreement, Devices, choose
from experiments.distribution.exchange import from_first, snapshot_from_first
from experiments.distribution.follower import Follower
from experiments.distribution.parallel import ParallelStep, predict
from experiments.distribution.processes import writes
from experiments.feed import Feed, load_dataset
from experiments.interrupt import Interrupt
from experiments.losses import mean_loss
from experiments.messages import say
from experiments.metrics import Means, Measured, Tally, measure
from experiments.networks import build_net
from experiments.optimizers import learning_rate, make_optimizer, updates_of_a_batch
from experiments.place import Place
from experiments.progress import ProgressReport
from experiments.silence import warn_of_silence
from experiments.storage import folders, workdir
from experiments.storage.arrays import all_finite, from_arrays, to_arrays, variables
from experiments.storage.checkpoints import Snapshot
from experiments.storage.workdir import Workdir
from safjax.rules import RULES, Rule


class NonFiniteLoss(ArithmeticError):
    """The loss of a batch is infinite or not a number; the message says where, and what to try."""


@with_settings
def train(config: Config) -> dict[str, Any]:
    """Trains a net as `config` says and leaves the results in the work directory (see `experiments.storage.workdir`).

    Ctrl-C and SIGTERM stop after the current batch, with a checkpoint from which --resume goes on.

    Returns:
      The summary. Losses and accuracies are those of the last whole epoch, None without any.

    Raises:
      ConfigError: a setting does not fit the data, the work directory cannot be used, or the run to be resumed is
        another one; nothing has been written.
      DataUnavailable: the data set is neither stored nor to be fetched; nothing has been written.
      NonFiniteLoss: training diverged; the latest checkpoint is from before that.
      SaveFailed: the last results could not be written; what was written before is whole.
    """
    devices = choose(config)
    if (summary := from_first(folders.finished(config) if writes() else None)) is not None:
        say(f"nothing is left to do: {summary['workdir']} is finished")
        return summary
    feed = make_feed(config, devices)
    trainer = Trainer(config, feed, build_net(config, feed.input_shape, feed.num_classes, feed.input_rate), devices)
    with Interrupt(Agreement(devices)) as interrupt, open_folder(config, feed) as folder:
        say(f"{config.dataset}, {config.method}, {trainer.parameters:,} parameters: {folder.path}")
        place = resume(trainer, folder)
        run_epochs(trainer, folder, interrupt, place)
        summary = summarise(trainer, folder, interrupt, place.seconds)
        folder.finish(summary)
    return summary


def make_feed(config: Config, devices: Devices) -> Feed:
    """The batches of a run."""
    return Feed(load_dataset(config), config, devices)


def open_folder(config: Config, feed: Feed) -> Workdir | Follower:
    """The folder of a run; of several processes the first has it."""
    return workdir.create(config, feed.input_shape, feed.num_classes, feed.input_rate) if writes() else Follower()


class Trainer:
    """A net in training.

    Attributes:
      config: of the run.
      net: the net, with its parameters after the latest batch.
      batches: batches of an epoch.
      parameters: how many numbers the net learns.
    """

    def __init__(self, config: Config, feed: Feed, net: nnx.Module, devices: Devices):
        rule = RULES[config.method]()
        self.config = config
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
        self._feed, self.batches = feed, feed.batches
        loss = functools.partial(mean_loss, mse_weight=config.loss_mse)
        optimizer = make_optimizer(config, rule, config.epochs * self.batches, self._lengths(rule))
        self._step = ParallelStep(loss, rule, optimizer, feed.steps, devices)
        self.net, self._opt_state = self._step.init(net)
        self._predict = functools.partial(predict, steps=feed.steps, devices=devices)
        self._rate = learning_rate(config, config.epochs * self.batches)
        self._measure = functools.partial(measure, rule=rule, mse_weight=config.loss_mse)

    def learning_rate(self, epoch: int, batch: int) -> float:
        """The learning rate at a batch of an epoch, both counted from 1."""
        return float(self._rate((epoch - 1) * self.batches + batch - 1))

    def train_epoch(self, epoch: int, tally: Tally) -> Iterator[Means]:
        """Trains on the batches of an epoch that `tally` does not hold yet; yields the means so far after each."""
        return tally.over(self._train_batches(epoch, tally.batches))

    def evaluate(self) -> Iterator[Means]:
        """Classifies the test examples; yields the means so far after each batch."""
        return Tally().over(self._test_batches())

    def snapshot(self, place: Place, best_epoch: int | None) -> Snapshot:
        """Copies of all that training changes, as it is after the batches of `place`."""
        best = None if best_epoch is None else self.moment(Place(best_epoch + 1))
        values = {"place": place.values(), "best": best}
        return Snapshot(self.moment(place), to_arrays(variables(self.net)), to_arrays(self._opt_state), values)

    def restore(self, snapshot: Snapshot) -> Place:
        """Goes back, or on, to the moment of a snapshot.

        Raises:
          ConfigError: it is of another net.
        """
        try:
            nnx.update(self.net, from_arrays(variables(self.net), snapshot.net))
            self._opt_state = from_arrays(self._opt_state, snapshot.optimizer)
        except ValueError as error:
            raise ConfigError(f"the checkpoint is of another net or optimizer ({error}).") from error
        return Place(**snapshot.values["place"])

    def moment(self, place: Place) -> int:
        """The number of a place: the later, the larger."""
        # An epoch has one moment more than batches: that before its evaluation, and that after it.
        return (place.epoch - 1) * (self.batches + 1) + place.tally.batches

    def _lengths(self, rule: Rule) -> np.ndarray | None:
        """How many steps each batch of the run has; None where all have as many, or the rule does not ask."""
        return self._feed.lengths_of_batches(self.config.epochs) if updates_of_a_batch(rule, None) > 1 else None

    def _train_batches(self, epoch: int, done: int) -> Iterator[Measured]:
        for inputs, labels, weights, lengths in self._feed.train_batches(epoch, done):
            self.net, self._opt_state, (_, aux) = self._step(self.net, self._opt_state, inputs, labels, lengths=lengths)
            yield self._measure(aux.outputs, labels, weights, aux.rates, lengths)

    def _test_batches(self) -> Iterator[Measured]:
        for inputs, labels, weights, lengths in self._feed.test_batches():
            outputs = self._predict(self.net, inputs, lengths=lengths)
            yield self._measure(outputs, labels, weights, {}, lengths)


def resume(trainer: Trainer, folder: Workdir | Follower) -> Place:
    """Where the latest checkpoint was taken, with the trainer as it was then; without any, the beginning."""
    snapshot = snapshot_from_first(folder.restore())
    if snapshot is None:
        return Place()
    place = trainer.restore(snapshot)
    say(f"resumed in epoch {place.epoch}, after {place.tally.batches} of its {trainer.batches} batches")
    return place


def run_epochs(trainer: Trainer, folder: Workdir | Follower, interrupt: Interrupt, place: Place) -> None:
    """Trains epoch after epoch, until all are done or a stop is requested; stores and prints what comes of each."""
    epochs = trainer.config.epochs
    with ProgressReport(epochs, trainer.batches, trainer.config.quiet) as progress:
        while place.epoch <= epochs:
            progress.begin_epoch(place.epoch)
            record = run_epoch(trainer, folder, interrupt, place, progress)
            if record is None:
                break
            folder.append(record)
            place.next_epoch()
            save(trainer, folder, place)
            progress.end_epoch(record)
            if writes():
                warn_of_silence(folder.records)
    if place.epoch <= epochs:
        save(trainer, folder, place)
        say(f"interrupted in epoch {place.epoch}; with --resume the run goes on from there")


def run_epoch(
    trainer: Trainer, folder: Workdir | Follower, interrupt: Interrupt, place: Place, progress: ProgressReport
) -> dict[str, Any] | None:
    """Trains on all batches that are left, then evaluates; the record of the epoch, or None if it was interrupted."""
    trained = _all(_watched(trainer, folder, place, progress), interrupt)
    tested = None if trained is None else _all(trainer.evaluate(), interrupt)
    if trained is None or tested is None:
        return None
    _check_finite(tested, trainer, place.epoch, trainer.batches)
    return {
        "epoch": place.epoch,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "test_loss": tested.loss,
        "test_accuracy": tested.accuracy,
        "learning_rate": trainer.learning_rate(place.epoch, 1),
        "examples_per_second": trained.examples_per_second,
        "seconds": place.seconds - sum(record["seconds"] for record in folder.records),
        "rates": trained.rates,
    }


def save(trainer: Trainer, folder: Workdir | Follower, place: Place) -> None:
    """Writes a checkpoint in the background, unless training has diverged."""
    snapshot = trainer.snapshot(place, folder.best_epoch)
    if all_finite(snapshot.net):
        folder.save(snapshot)


def _all(running: Iterator[Means], interrupt: Interrupt) -> Means | None:
    """The means over all batches; None if a stop is requested on the way."""
    latest = None
    for means in running:
        if interrupt.requested:
            return None
        latest = means
    return latest


def _watched(trainer: Trainer, folder: Workdir | Follower, place: Place, progress: ProgressReport) -> Iterator[Means]:
    """Trains on the batches of an epoch; shows how it goes, and saves when it is time."""
    for batch, means in enumerate(trainer.train_epoch(place.epoch, place.tally), place.tally.batches + 1):
        _check_finite(means, trainer, place.epoch, batch)
        progress.show(place.epoch, batch, means)
        if place.tally.batches < trainer.batches and folder.due(trainer.moment(place)):
            save(trainer, folder, place)
        yield means


def _check_finite(means: Means, trainer: Trainer, epoch: int, batch: int) -> None:
    if math.isfinite(means.loss):
        return
    raise NonFiniteLoss(
        f"the loss is not finite in epoch {epoch}, step {batch} of {trainer.batches}, at a learning rate of "
        f"{trainer.learning_rate(epoch, batch):.3g}. Try a --learning-rate a tenth of that, --optimizer=adam with "
        "--learning-rate=0.001, or another --surrogate."
    )


def summarise(trainer: Trainer, folder: Workdir | Follower, interrupt: Interrupt, seconds: float) -> dict[str, Any]:
    """What a run comes to, in one JSON object."""
    config, last = trainer.config, folder.records[-1] if folder.records else {}
    return {
        "method": config.method,
        "dataset": config.dataset,
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "train_loss": last.get("train_loss"),
        "epochs": len(folder.records),
        "steps": config.steps,
        "seed": config.seed,
        "parameters": trainer.parameters,
        "seconds": seconds,
        "examples_per_second": last.get("examples_per_second"),
        "interrupted": len(folder.records) < config.epochs,
        "signal": interrupt.signal and interrupt.signal.name,
        "workdir": str(folder.path),
    }
