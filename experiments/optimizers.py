"""Optimizers, and a learning rate that follows the progress of training under every rule."""

import jax.numpy as jnp
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
    if batches > MOST:
        raise ConfigError(
            f"--epochs={config.epochs} makes {batches} batches, more than can be counted: give fewer than "
            f"{MOST * config.epochs // batches + 1} epochs, or a larger --batch-size."
        )
    cosine = optax.cosine_decay_schedule(config.learning_rate, batches)
    return lambda done: cosine(done // config.accumulate * config.accumulate)


def make_optimizer(config: Config, rule: Rule, batches: int) -> optax.GradientTransformation:
    """The optimizer of a run.

    Optax counts updates. Divided by the updates of one batch, the count gives every rule the same learning rate at the
    same batch, and one rate to all time steps of a batch.

    Args:
      batches: all batches of the run. What is left of them when they are accumulated makes no update.

    Raises:
      ConfigError: batches are to be accumulated under a rule that updates within each.
    """
    if config.accumulate == 1:
        return _each_time(config, rule, batches)
    if rule.schedule.updates(config.steps) > 1:
        raise ConfigError(
            f"--accumulate={config.accumulate} gathers the gradients of several batches for one update, but "
            f"--method={config.method} updates at every time step of each. Give --method=ottt_a, which gathers the "
            f"gradients that {config.method} has at given weights, or --accumulate=1."
        )
    mean = optax.MultiSteps(
        _each_time(config, rule, batches), config.accumulate, accumulator_dtype=jnp.result_type(float)
    )
    return mean.gradient_transformation()


def _each_time(config: Config, rule: Rule, batches: int) -> optax.GradientTransformation:
    """The optimizer, with an update for each gradient that it is given."""
    per_batch = rule.schedule.updates(config.steps)
    by_batch = learning_rate(config, batches)

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
