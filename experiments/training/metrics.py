"""Loss, accuracy and firing rates: measured batch by batch, averaged over the examples."""

import functools
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.training.losses import example_losses
from safjax.lengths import going, last_of_each
from safjax.rules import Rule


class Measured(NamedTuple):
    """Sums over the examples of a batch.

    Attributes:
      examples: how many there are.
      loss: their losses.
      correct: how many are classified correctly.
      rates: firing rate of every layer by its path, times `steps`.
      steps: time steps of all of them; where all have as many, one for each will do.
    """

    examples: Any
    loss: Any
    correct: Any
    rates: dict[str, Any]
    steps: Any


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
    lengths: jax.Array | None = None,
    *,
    rule: Rule,
    mse_weight: float,
) -> Measured:
    """Measures a batch by the time steps that the rule's loss looks at.

    A net trained on its last step is judged by that step. One trained on every step is judged by all: its loss is the
    mean of theirs, its answer the largest entry of their mean output. Of sequences that differ in length, these are
    each one's own steps, and its own last step.

    Args:
      outputs: o[T, B, C].
      labels: y[B].
      weights: [B], 1 for an example that counts and 0 for padding.
      rates: mean firing rate of every layer over the batch.
      lengths: how many steps each example has, [B]; None for all T.
    """
    counts, examples = weights > 0, jnp.sum(weights)
    shown = examples if lengths is None else jnp.sum(weights * lengths)
    seen = counts[None]
    if rule.schedule.last_step_only:
        outputs = outputs[-1:] if lengths is None else last_of_each(outputs, lengths)[None]
    elif lengths is not None:
        seen = seen & going(lengths, len(outputs))
    losses = jax.vmap(lambda logits: example_losses(logits, labels, mse_weight))(outputs)
    correct = jnp.mean(outputs, 0, where=seen[..., None]).argmax(-1) == labels
    return Measured(
        examples,
        jnp.sum(jnp.mean(losses, 0, where=seen), where=counts),
        jnp.sum(correct, where=counts),
        {layer: rate * shown for layer, rate in rates.items()},
        shown,
    )


class Tally:
    """What has been measured of an epoch so far.

    Each batch is read after the next has been handed to the device, which so never waits for the host.

    Args:
      batches, sums: of the part of the epoch that is done already: the attribute, and what `sums()` gave.

    Attributes:
      batches: how many have been handed to the device.
    """

    def __init__(self, batches: int = 0, sums: Measured | None = None):
        self.batches, self._sums = batches, sums
        self._unread: Measured | None = None

    def over(self, batches: Iterable[Measured]) -> Iterator[Means]:
        """The means over all batches so far, after each batch; once, if there is none to come."""
        speed = _Speed(self._sums.examples if self._sums else 0.0)
        for batch in batches:
            self.batches += 1
            sums, self._sums, self._unread = self._sums, self.sums(), batch
            if self._sums is not sums:
                yield _means(self._sums, speed)
        self._sums, self._unread = self.sums(), None
        yield _means(self._sums, speed)

    def sums(self) -> Measured | None:
        """The sums over all batches handed to the device, which this waits for; None without any."""
        if self._unread is None:
            return self._sums
        latest = jax.tree.map(float, jax.device_get(self._unread))
        return latest if self._sums is None else jax.tree.map(operator.add, self._sums, latest)


class _Speed:
    """Examples per second since the first call; of the first call, since it was made."""

    def __init__(self, examples: float):
        self._start = (time.perf_counter(), examples)
        self._calls = 0

    def __call__(self, examples: float) -> float:
        now = time.perf_counter()
        began, before = self._start
        if not self._calls:
            self._start = (now, examples)
        self._calls += 1
        return (examples - before) / (now - began)


def _means(sums: Measured | None, speed: Callable[[float], float]) -> Means:
    assert sums is not None, "an epoch has one batch or more"
    rates = {layer: sums.rates[layer] / sums.steps for layer in sorted(sums.rates, key=_depth)}
    return Means(sums.loss / sums.examples, sums.correct / sums.examples, rates, speed(sums.examples))


def _depth(path: str) -> list[int]:
    # "features.layers.3" comes before "features.layers.11".
    return [int(part) for part in path.split(".") if part.isdecimal()]
