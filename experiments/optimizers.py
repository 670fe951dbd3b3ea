"""Optimizers, and a learning rate that follows the progress of training under every rule."""

import optax

from experiments.config import Config
from safjax.rules import Rule


def learning_rate(config: Config, batches: int) -> optax.Schedule:
    """batches done ↦ η/2 (1 + cos(π · batches done / all batches)), from η at the start to 0 at the end.

    Args:
      batches: all batches of the run.
    """
    return optax.cosine_decay_schedule(config.learning_rate, batches)


def make_optimizer(config: Config, rule: Rule, batches: int) -> optax.GradientTransformation:
    """The optimizer of a run.

    Optax counts updates. Divided by the updates of one batch, the count gives every rule the same learning rate at the
    same batch, and one rate to all time steps of a batch.

    Args:
      batches: all batches of the run.
    """
    per_batch = rule.schedule.updates(config.steps)
    by_batch = learning_rate(config, batches)

    def by_update(count):
        return by_batch(count // per_batch)

    match config.optimizer:
        case "sgd":
            sgd = optax.sgd(by_update, momentum=config.momentum)
            return optax.chain(optax.add_decayed_weights(config.weight_decay), sgd) if config.weight_decay else sgd
        case "adam":
            return optax.adam(by_update)
        case "adamw":
            return optax.adamw(by_update, weight_decay=config.weight_decay)
