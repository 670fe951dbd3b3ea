"""Loss, accuracy and firing rates: measured batch by batch, averaged over the examples."""

import functools
import operator
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.losses import example_losses
from safjax.rules import Rule


class Measured(NamedTuple):
    """Sums over the examples of a batch.

    Attributes:
      examples: how many there are.
      loss: their losses.
      correct: how many are classified correctly.
      rates: firing rate of every layer by its path, times `examples`.
    """

    examples: Any
    loss: Any
    correct: Any
    rates: dict[str, Any]


class Means(NamedTuple):
    """Means over the examples of some batches.

    Attributes:
      loss: as trained.
      accuracy: in [0, 1].
      rates: firing rate of every layer by its path, from the input up.
      examples_per_second: since the first batch was done, and so without compilation; of the first batch, since its
        start.
    """

    loss: float
    accuracy: float
    rates: dict[str, float]
    examples_per_second: float


@functools.partial(jax.jit, static_argnames=("rule", "mse_weight"))
def measure(
    outputs: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    rates: Mapping[str, jax.Array],
    *,
    rule: Rule,
    mse_weight: float,
) -> Measured:
    """Measures a batch by the time steps that the rule's loss looks at.

    A net trained on its last step is judged by that step. One trained on every step is judged by all: its loss is the
    mean of theirs, its answer the largest entry of their mean output.

    Args:
      outputs: o[T, B, C].
      labels: y[B].
      weights: [B], 1 for an example that counts and 0 for padding.
      rates: mean firing rate of every layer over the batch.
    """
    seen = outputs[-1:] if rule.schedule.last_step_only else outputs
    losses = jax.vmap(lambda logits: example_losses(logits, labels, mse_weight))(seen).mean(0)
    correct = seen.mean(0).argmax(-1) == labels
    counts, examples = weights > 0, jnp.sum(weights)
    return Measured(
        examples,
        jnp.sum(losses, where=counts),
        jnp.sum(correct, where=counts),
        {layer: rate * examples for layer, rate in rates.items()},
    )


def running_means(batches: Iterable[Measured]) -> Iterator[Means]:
    """The means over all batches so far, after each batch.

    Each one is read after the next has been handed to the device, which so never waits for the host.
    """
    began, before, totals = time.perf_counter(), 0.0, None
    for batch in _one_behind(batches):
        sums = jax.tree.map(float, jax.device_get(batch))
        totals = sums if totals is None else jax.tree.map(operator.add, totals, sums)
        now = time.perf_counter()
        speed = (totals.examples - before) / (now - began)
        if not before:
            began, before = now, totals.examples
        rates = {layer: totals.rates[layer] / totals.examples for layer in sorted(totals.rates, key=_depth)}
        yield Means(totals.loss / totals.examples, totals.correct / totals.examples, rates, speed)


def _depth(path: str) -> list[int]:
    # "features.layers.3" comes before "features.layers.11".
    return [int(part) for part in path.split(".") if part.isdecimal()]


def _one_behind(items: Iterable[Measured]) -> Iterator[Measured]:
    iterator = iter(items)
    before = next(iterator)
    for item in iterator:
        yield before
        before = item
    yield before
