"""Optimizers, and a learning rate that follows the progress of training under every rule."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from experiments.config import Config, ConfigError
from experiments.config.ranges import MOST
from safjax.rules import Rule


def learning_rate(config: Config, batches: int) -> optax.Schedule:
    """batches done ↦ η/2 (1 + cos(π · batches done / all batches)), from η at the start to 0 at the end.

    Of batches that are accumulated into one update, all have the rate of the first.

    Args:
      batches: all batches of the run.

    Raises:
      ConfigError: they are more than can be counted in 32 bits.
    """
    _check_countable(config, batches)
    cosine = optax.cosine_decay_schedule(config.learning_rate, batches)
    return lambda done: cosine(done // config.accumulate * config.accumulate)


def _check_countable(config: Config, batches: int) -> None:
    if batches > MOST:
        raise ConfigError(
            f"--epochs={config.epochs} makes {batches} batches, more than can be counted: give fewer than "
            f"{MOST * config.epochs // batches + 1} epochs, or a larger --batch-size."
        )


def updates_of_a_batch(rule: Rule, steps: int | None) -> int:
    """How many updates a rule makes in a batch of so many time steps; of None, whether it makes more than one."""
    return rule.schedule.updates(2 if steps is None else steps)


def make_optimizer(
    config: Config, rule: Rule, batches: int, lengths: Sequence[int] | np.ndarray | None = None
) -> optax.GradientTransformation:
    """The optimizer of a run.

    Optax counts updates. From their count follows the batch, and so every rule has the same learning rate at the same
    batch, and all time steps of a batch have one rate.

    Args:
      batches: all batches of the run. What is left of them when they are accumulated makes no update.
      lengths: how many time steps each of them has, [batches]; None where all have --steps.

    Raises:
      ConfigError: batches are to be accumulated under a rule that updates within each.
    """
    if config.accumulate == 1:
        return _each_time(config, rule, batches, lengths)
    if updates_of_a_batch(rule, config.steps) > 1:
        raise ConfigError(
            f"--accumulate={config.accumulate} gathers the gradients of several batches for one update, but "
            f"--method={config.method} updates at every time step of each. Give --method=ottt_a, which gathers the "
            f"gradients that {config.method} has at given weights, or --accumulate=1."
        )
    mean = optax.MultiSteps(
        _each_time(config, rule, batches, None), config.accumulate, accumulator_dtype=jnp.result_type(float)
    )
    return mean.gradient_transformation()


def _each_time(
    config: Config, rule: Rule, batches: int, lengths: Sequence[int] | np.ndarray | None
) -> optax.GradientTransformation:
    """The optimizer, with an update for each gradient that it is given."""
    by_batch = learning_rate(config, batches)
    if lengths is not None and updates_of_a_batch(rule, None) > 1:
        after = np.cumsum([updates_of_a_batch(rule, int(length)) for length in lengths], dtype=np.int64)
        _check_countable(config, int(after[-1]))
        ends = after.astype(np.int32)

        def by_update(count):
            return by_batch(jnp.searchsorted(jnp.asarray(ends), count, side="right"))

    else:
        per_batch = updates_of_a_batch(rule, config.steps)

        def by_update(count):
            return by_batch(count * config.accumulate // per_batch)

    match config.optimizer:
        case "sgd":
            sgd = optax.sgd(by_update, momentum=config.momentum)
            return optax.chain(optax.add_decayed_weights(config.weight_decay), sgd) if config.weight_decay else sgd
        case "adam":
            return optax.adam(by_update)
        case "adamw":
            return optax.adamw(by_update, weight_decay=config.weight_decay)
