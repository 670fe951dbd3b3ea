"""A whole run: from a configuration to a trained net and its results on disk, epoch after epoch."""

import math
from collections.abc import Iterator
from typing import Any

from experiments.config import Config
from experiments.config.settings import with_settings
from experiments.console.interrupt import Interrupt
from experiments.console.messages import say
from experiments.distribution.devices import Agreement, choose
from experiments.distribution.exchange import from_first, snapshot_from_first
from experiments.distribution.processes import writes
from experiments.storage import folders, workdir
from experiments.storage.arrays import all_finite
from experiments.storage.no_workdir import NoWorkdir
from experiments.storage.workdir import Workdir
from experiments.training.feed import Feed
from experiments.training.firing_rates import warn_of_firing_rates
from experiments.training.metrics import Means
from experiments.training.networks import build_net
from experiments.training.position import Position
from experiments.training.progress import ProgressReport
from experiments.training.summary import summarise
from experiments.training.trainer import Trainer, make_feed


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
    devices = choose(config.run, config.data.batch_size)
    if (summary := from_first(folders.finished(config) if writes() else None)) is not None:
        say(f"nothing is left to do: {summary['workdir']} is finished")
        return summary
    feed = make_feed(config, devices)
    net = build_net(config.net, feed.shape, config.training.seed)
    trainer = Trainer(config.training, feed, net, devices)
    baseline = feed.baseline() if feed.baseline is not None and writes() else None
    with Interrupt(Agreement(devices)) as interrupt, open_folder(config, feed) as folder:
        say(f"{config.data.dataset}, {config.training.method}, {trainer.parameters:,} parameters: {folder.path}")
        for line in feed.about if writes() else ():
            say(line)
        if baseline is not None:
            say(f"test accuracy of counts alone, without their times: {baseline:.2%} (logistic regression)")
        position = resume(trainer, folder)
        run_epochs(trainer, folder, interrupt, position, config.run.quiet)
        summary = summarise(config, trainer.parameters, folder, interrupt, position.seconds, baseline)
        folder.finish(summary)
    tell_of_pictures(folder)
    return summary


def tell_of_pictures(folder: Workdir | NoWorkdir) -> None:
    """Says where the figures of a run are."""
    pictures = sorted(folder.path.glob("*.png")) if folder.path is not None else []
    if pictures:
        say(f"pictures: {', '.join(map(str, pictures))}")


def open_folder(config: Config, feed: Feed) -> Workdir | NoWorkdir:
    """The folder of a run; of several processes the first has it."""
    return workdir.create(config, feed.shape, feed.shown) if writes() else NoWorkdir()


def resume(trainer: Trainer, folder: Workdir | NoWorkdir) -> Position:
    """Where the latest checkpoint was taken, with the trainer as it was then; without any, the beginning."""
    snapshot = snapshot_from_first(folder.restore())
    if snapshot is None:
        return Position()
    position = trainer.restore(snapshot)
    say(f"resumed in epoch {position.epoch}, after {position.tally.batches} of its {trainer.batches} batches")
    return position


def run_epochs(
    trainer: Trainer, folder: Workdir | NoWorkdir, interrupt: Interrupt, position: Position, quiet: bool
) -> None:
    """Trains epoch after epoch, until all are done or a stop is requested; stores and prints what comes of each."""
    epochs = trainer.training.epochs
    with ProgressReport(epochs, trainer.batches, quiet) as progress:
        while position.epoch <= epochs:
            progress.begin_epoch(position.epoch)
            record = run_epoch(trainer, folder, interrupt, position, progress)
            if record is None:
                break
            folder.append(record)
            position.next_epoch()
            save(trainer, folder, position)
            progress.end_epoch(record)
            if writes():
                warn_of_firing_rates(folder.records)
    if position.epoch <= epochs:
        save(trainer, folder, position)
        say(f"interrupted in epoch {position.epoch}; with --resume the run goes on from there")


def run_epoch(
    trainer: Trainer, folder: Workdir | NoWorkdir, interrupt: Interrupt, position: Position, progress: ProgressReport
) -> dict[str, Any] | None:
    """Trains on all batches that are left, then evaluates; the record of the epoch, or None if it was interrupted."""
    trained = _all(_watched(trainer, folder, position, progress), interrupt)
    tested = None if trained is None else _all(trainer.evaluate(), interrupt)
    if trained is None or tested is None:
        return None
    _check_finite(tested, trainer, position.epoch, trainer.batches)
    chosen_by: dict[str, float] = {}
    if trainer.chooses:
        held_out = _all(trainer.evaluate_held_out(), interrupt)
        if held_out is None:
            return None
        chosen_by = {"held_out_loss": held_out.loss, "held_out_accuracy": held_out.accuracy}
    return {
        "epoch": position.epoch,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "test_loss": tested.loss,
        "test_accuracy": tested.accuracy,
        **chosen_by,
        "learning_rate": trainer.learning_rate(position.epoch, 1),
        "examples_per_second": trained.examples_per_second,
        "seconds": position.seconds - sum(record["seconds"] for record in folder.records),
        "rates": trained.rates,
    }


def save(trainer: Trainer, folder: Workdir | NoWorkdir, position: Position) -> None:
    """Writes a checkpoint in the background, unless training has diverged."""
    snapshot = trainer.snapshot(position, folder.best_epoch)
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


def _watched(
    trainer: Trainer, folder: Workdir | NoWorkdir, position: Position, progress: ProgressReport
) -> Iterator[Means]:
    """Trains on the batches of an epoch; shows how it goes, and saves when it is time."""
    for batch, means in enumerate(trainer.train_epoch(position.epoch, position.tally), position.tally.batches + 1):
        _check_finite(means, trainer, position.epoch, batch)
        progress.show(position.epoch, batch, means)
        if position.tally.batches < trainer.batches and folder.due(trainer.moment(position)):
            save(trainer, folder, position)
        yield means


def _check_finite(means: Means, trainer: Trainer, epoch: int, batch: int) -> None:
    if math.isfinite(means.loss):
        return
    raise NonFiniteLoss(
        f"the loss is not finite in epoch {epoch}, step {batch} of {trainer.batches}, at a learning rate of "
        f"{trainer.learning_rate(epoch, batch):.3g}. Try a --learning-rate a tenth of that, --optimizer=adam with "
        "--learning-rate=0.001, or another --surrogate."
    )
