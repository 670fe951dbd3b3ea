"""Optimizers, and a learning rate that follows the progress of training under every rule."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.config import ConfigError, Training
from experiments.config.ranges import MOST
from safjax.rules import Rule


def learning_rate(training: Training, batches: int) -> optax.Schedule:
    """batches done ↦ η/2 (1 + cos(π · batches done / all batches)), from η at the start to 0 at the end.

    Of batches that are accumulated into one update, all have the rate of the first.

    Args:
      batches: all batches of the run.

    Raises:
      ConfigError: they are more than can be counted in 32 bits.
    """
    _check_countable(training, batches)
    cosine = optax.cosine_decay_schedule(training.learning_rate, batches)
    return lambda done: cosine(done // training.accumulate * training.accumulate)


def _check_countable(training: Training, batches: int) -> None:
    if batches > MOST:
        raise ConfigError(
            f"--epochs={training.epochs} makes {batches} batches, more than can be counted: give fewer than "
            f"{MOST * training.epochs // batches + 1} epochs, or a larger --batch-size."
        )


def make_optimizer(
    training: Training, rule: Rule, batches: int, steps: int | np.ndarray
) -> optax.GradientTransformation:
    """The optimizer of a run.

    Optax counts updates. From their count follows the batch, and so every rule has the same learning rate at the same
    batch, and all time steps of a batch have one rate.

    Args:
      batches: all batches of the run. What is left of them when they are accumulated makes no update.
      steps: how many time steps each of them has, [batches], or all of them have.

    Raises:
      ConfigError: batches are to be accumulated under a rule that updates within each.
    """
    if training.accumulate == 1:
        return _each_time(training, rule, batches, steps)
    if rule.schedule.updates(int(np.max(steps))) > 1:
        raise ConfigError(
            f"--accumulate={training.accumulate} gathers the gradients of several batches for one update, but "
            f"--method={training.method} updates at every time step of each. Give --method=ottt_a, which gathers the "
            f"gradients that {training.method} has at given weights, or --accumulate=1."
        )
    mean = optax.MultiSteps(
        _each_time(training, rule, batches, steps), training.accumulate, accumulator_dtype=jnp.result_type(float)
    )
    return mean.gradient_transformation()


def _each_time(training: Training, rule: Rule, batches: int, steps: int | np.ndarray) -> optax.GradientTransformation:
    """The optimizer, with an update for each gradient that it is given."""
    by_batch, batch_of = learning_rate(training, batches), _batch_of(training, rule, steps)

    def by_update(count):
        return by_batch(batch_of(count))

    match training.optimizer:
        case "sgd":
            sgd = optax.sgd(by_update, momentum=training.momentum)
            return optax.chain(optax.add_decayed_weights(training.weight_decay), sgd) if training.weight_decay else sgd
        case "adam":
            return optax.adam(by_update)
        case "adamw":
            return optax.adamw(by_update, weight_decay=training.weight_decay)


def _batch_of(training: Training, rule: Rule, steps: int | np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Updates done ↦ batches done."""
    lengths = np.unique(steps)
    if len(lengths) == 1 or rule.schedule.updates(int(lengths[-1])) == 1:
        per_batch = rule.schedule.updates(int(lengths[0]))
        return lambda count: count * training.accumulate // per_batch
    after = np.cumsum([rule.schedule.updates(int(length)) for length in np.ravel(steps)], dtype=np.int64)
    _check_countable(training, int(after[-1]))
    return lambda count: jnp.searchsorted(jnp.asarray(after, jnp.int32), count, side="right")
