"""The one trainer of all experiments: from a configuration to a trained net and its results on disk."""

import functools
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

import safjax
from experiments import workdir
from experiments.config import Config
from experiments.data import ImageFiles
from experiments.feed import Feed, load_dataset
from experiments.interrupt import Interrupt
from experiments.losses import mean_loss
from experiments.metrics import Means, Measured, measure, running_means
from experiments.networks import build_net
from experiments.optimizers import learning_rate, make_optimizer
from experiments.progress import ProgressReport
from experiments.streamed_feed import StreamedFeed
from safjax.rules import RULES


class NonFiniteLoss(ArithmeticError):
    """The loss of a batch is infinite or not a number; the message says where, and what to try."""


def train(config: Config) -> dict[str, Any]:
    """Trains a net as `config` says and leaves the results in the work directory (see `experiments.workdir`).

    Ctrl-C stops after the current batch and saves the parameters as they then are.

    Returns:
      The summary. Losses and accuracies are those of the last whole epoch, None without any.

    Raises:
      ConfigError: a setting does not fit the data, or the work directory cannot be used; nothing has been written.
      DataUnavailable: the data set is neither stored nor to be fetched; nothing has been written.
      NonFiniteLoss: training diverged; the parameters saved are those of the last whole epoch.
    """
    feed = make_feed(config)
    trainer = Trainer(config, feed, build_net(config, feed.input_shape, feed.num_classes))
    with Interrupt() as interrupt, workdir.create(config, feed.input_shape, feed.num_classes) as folder:
        say(f"{config.dataset}, {config.method}, {trainer.parameters:,} parameters: {folder.path}")
        began = time.perf_counter()
        run_epochs(trainer, folder, interrupt)
        summary = summarise(trainer, folder, time.perf_counter() - began)
        folder.write_summary(summary)
    return summary


def make_feed(config: Config) -> Feed | StreamedFeed:
    """The batches of a run: image files are read as they are needed, everything else is kept on the device."""
    dataset = load_dataset(config)
    return StreamedFeed(dataset, config) if isinstance(dataset, ImageFiles) else Feed(dataset, config)


class Trainer:
    """A net in training.

    Attributes:
      config: of the run.
      net: the net, with its parameters after the latest batch.
      batches: batches of an epoch.
      parameters: how many numbers the net learns.
    """

    def __init__(self, config: Config, feed: Feed | StreamedFeed, net: nnx.Module):
        rule = RULES[config.method]()
        self.config, self.net = config, net
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
        self._feed, self.batches = feed, feed.batches
        loss = functools.partial(mean_loss, mse_weight=config.loss_mse)
        optimizer = make_optimizer(config, rule, config.epochs * self.batches)
        self._step = safjax.train_step(loss, rule, optimizer, feed.steps)
        self._opt_state = self._step.init(net)
        self._rate = learning_rate(config, config.epochs * self.batches)
        self._measure = functools.partial(measure, rule=rule, mse_weight=config.loss_mse)

    def learning_rate(self, epoch: int, batch: int) -> float:
        """The learning rate at a batch of an epoch, both counted from 1."""
        return float(self._rate((epoch - 1) * self.batches + batch - 1))

    def train_epoch(self, epoch: int) -> Iterator[Means]:
        """Trains on the batches of an epoch, counted from 1; yields the means so far after each."""
        return running_means(self._train_batches(epoch))

    def evaluate(self) -> Iterator[Means]:
        """Classifies the test examples; yields the means so far after each batch."""
        return running_means(self._test_batches())

    def _train_batches(self, epoch: int) -> Iterator[Measured]:
        for inputs, labels, weights in self._feed.train_batches(epoch):
            self.net, self._opt_state, (_, aux) = self._step(self.net, self._opt_state, inputs, labels)
            yield self._measure(aux.outputs, labels, weights, aux.rates)

    def _test_batches(self) -> Iterator[Measured]:
        for inputs, labels, weights in self._feed.test_batches():
            yield self._measure(safjax.predict(self.net, inputs, self._feed.steps), labels, weights, {})


def run_epochs(trainer: Trainer, folder: workdir.Workdir, interrupt: Interrupt) -> None:
    """Trains epoch after epoch, until all are done or Ctrl-C is pressed; stores and prints what comes of each."""
    epochs = trainer.config.epochs
    with ProgressReport(epochs, trainer.batches) as progress:
        for epoch in range(1, epochs + 1):
            progress.begin_epoch(epoch)
            record = run_epoch(trainer, epoch, interrupt, progress)
            if record is None:
                break
            folder.append(record)
            folder.save_parameters(trainer.net)
            progress.end_epoch(record)
    if len(folder.records) < epochs:
        folder.save_parameters(trainer.net)
        say(f"interrupted in epoch {epoch}; the parameters are saved as they were then")


def run_epoch(trainer: Trainer, epoch: int, interrupt: Interrupt, progress: ProgressReport) -> dict[str, Any] | None:
    """Trains on all batches, then evaluates; the record of the epoch, or None if it was interrupted."""
    began = time.perf_counter()
    trained = _all(_watched(trainer, epoch, progress), interrupt)
    tested = None if trained is None else _all(trainer.evaluate(), interrupt)
    if trained is None or tested is None:
        return None
    _check_finite(tested, trainer, epoch, trainer.batches)
    return {
        "epoch": epoch,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "test_loss": tested.loss,
        "test_accuracy": tested.accuracy,
        "learning_rate": trainer.learning_rate(epoch, 1),
        "examples_per_second": trained.examples_per_second,
        "seconds": time.perf_counter() - began,
        "rates": trained.rates,
    }


def _all(running: Iterator[Means], interrupt: Interrupt) -> Means | None:
    """The means over all batches; None if a stop is requested on the way."""
    latest = None
    for means in running:
        if interrupt.requested:
            return None
        latest = means
    return latest


def _watched(trainer: Trainer, epoch: int, progress: ProgressReport) -> Iterator[Means]:
    """Trains on the batches of an epoch, and shows how it goes."""
    for batch, means in enumerate(trainer.train_epoch(epoch), 1):
        _check_finite(means, trainer, epoch, batch)
        progress.show(means)
        yield means


def _check_finite(means: Means, trainer: Trainer, epoch: int, batch: int) -> None:
    if math.isfinite(means.loss):
        return
    raise NonFiniteLoss(
        f"the loss is not finite in epoch {epoch}, step {batch} of {trainer.batches}, at a learning rate of "
        f"{trainer.learning_rate(epoch, batch):.3g}. Try a --learning-rate a tenth of that, --optimizer=adam with "
        "--learning-rate=0.001, or another --surrogate."
    )


def summarise(trainer: Trainer, folder: workdir.Workdir, seconds: float) -> dict[str, Any]:
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
        "workdir": str(folder.path),
    }


def say(message: str) -> None:
    """Tells the user, on stderr: stdout is for the epochs and the summary."""
    print(message, file=sys.stderr, flush=True)
