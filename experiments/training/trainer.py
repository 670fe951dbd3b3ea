"""A net in training: its batches, its steps, and its moments."""

import functools
from collections.abc import Iterator

import jax
from flax import nnx

from experiments.config import Config, ConfigError, Training
from experiments.distribution.devices import Devices
from experiments.distribution.parallel import ParallelStep, predict
from experiments.storage.arrays import from_arrays, to_arrays, variables
from experiments.storage.checkpoints import Snapshot
from experiments.training.feed import Batch, Feed, load_dataset
from experiments.training.losses import mean_loss
from experiments.training.metrics import Means, Measured, Tally, measure
from experiments.training.optimizers import learning_rate, make_optimizer
from experiments.training.position import Position
from safjax.rules import RULES


def make_feed(config: Config, devices: Devices) -> Feed:
    """The batches of a run."""
    dataset = load_dataset(config.data.dataset, config.run.data_dir)
    return Feed(dataset, config.data, config.training.seed, devices)


class Trainer:
    """A net in training.

    Attributes:
      training: the flags of training.
      net: the net, with its parameters after the latest batch.
      batches: batches of an epoch.
      chooses: whether training examples are held out, to choose the best epoch.
      parameters: how many numbers the net learns.
    """

    def __init__(self, training: Training, feed: Feed, net: nnx.Module, devices: Devices):
        rule = RULES[training.method]()
        self.training = training
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))
        self._feed, self.batches, self.chooses = feed, feed.batches, feed.chooses
        loss = functools.partial(mean_loss, mse_weight=training.loss_mse)
        batches = training.epochs * self.batches
        self._rate = learning_rate(training, batches)
        steps = feed.steps_of_batches(training.epochs) if rule.schedule.updates(2) > 1 else 1
        optimizer = make_optimizer(training, rule, batches, steps)
        self._step = ParallelStep(loss, rule, optimizer, feed.steps, devices)
        self.net, self._opt_state = self._step.init(net)
        self._predict = functools.partial(predict, steps=feed.steps, devices=devices)
        self._measure = functools.partial(measure, rule=rule, mse_weight=training.loss_mse)

    def learning_rate(self, epoch: int, batch: int) -> float:
        """The learning rate at a batch of an epoch, both counted from 1."""
        return float(self._rate((epoch - 1) * self.batches + batch - 1))

    def train_epoch(self, epoch: int, tally: Tally) -> Iterator[Means]:
        """Trains on the batches of an epoch that `tally` does not hold yet; yields the means so far after each."""
        return tally.over(self._train_batches(epoch, tally.batches))

    def evaluate(self) -> Iterator[Means]:
        """Classifies the test examples; yields the means so far after each batch."""
        return Tally().over(self._evaluated(self._feed.test_batches()))

    def evaluate_held_out(self) -> Iterator[Means]:
        """As `evaluate`, of the training examples that are held out."""
        return Tally().over(self._evaluated(self._feed.held_out_batches()))

    def snapshot(self, position: Position, best_epoch: int | None) -> Snapshot:
        """Copies of all that training changes, as it is after the batches of `position`."""
        best = None if best_epoch is None else self.moment(Position(best_epoch + 1))
        values = {"position": position.values(), "best": best}
        return Snapshot(self.moment(position), to_arrays(variables(self.net)), to_arrays(self._opt_state), values)

    def restore(self, snapshot: Snapshot) -> Position:
        """Goes back, or on, to the moment of a snapshot.

        Raises:
          ConfigError: it is of another net.
        """
        try:
            nnx.update(self.net, from_arrays(variables(self.net), snapshot.net))
            self._opt_state = from_arrays(self._opt_state, snapshot.optimizer)
        except ValueError as error:
            raise ConfigError(f"the checkpoint is of another net or optimizer ({error}).") from error
        return Position(**snapshot.values["position"])

    def moment(self, position: Position) -> int:
        """The number of a position: the later, the larger."""
        # An epoch has one moment more than batches: that before its evaluation, and that after it.
        return (position.epoch - 1) * (self.batches + 1) + position.tally.batches

    def _train_batches(self, epoch: int, done: int) -> Iterator[Measured]:
        for inputs, labels, weights, lengths in self._feed.train_batches(epoch, done):
            self.net, self._opt_state, (_, aux) = self._step(self.net, self._opt_state, inputs, labels, lengths=lengths)
            yield self._measure(aux.outputs, labels, weights, aux.rates, lengths)

    def _evaluated(self, batches: Iterator[Batch]) -> Iterator[Measured]:
        for inputs, labels, weights, lengths in batches:
            outputs = self._predict(self.net, inputs, lengths=lengths)
            yield self._measure(outputs, labels, weights, {}, lengths)
