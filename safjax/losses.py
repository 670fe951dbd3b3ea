"""Losses that look at the whole output sequence, and targets that change with time.

The loss that a rule is given is by default that of one time step, (output[B, ...], *targets) ↦ scalar. `SequenceLoss`
marks one of all steps, (outputs[T, B, ...], *targets) ↦ scalar; the rules that see the whole sequence at once (BPTT,
EXODUS, SLAYER) take it. `Timed` marks a target of which every step has its own; all rules take it. `WithRecords` marks
a loss that is given, beside the output, what the neurons did.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

StepLoss = Callable[..., jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Timed:
    """A target x[T, ...] whose leading axis is time: the loss of step t sees x[t], one of the whole sequence all of it.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = nnx.Sequential(safjax.nn.LIF(), safjax.nn.LeakyReadout())
      >>> loss = lambda output, target: jnp.mean((output - target) ** 2)
      >>> target = safjax.losses.Timed(jnp.array([0.0, 0.0, 1.0])[:, None, None])
      >>> (value, aux), _ = safjax.value_and_grad(loss, safjax.rules.bptt(), steps=3)(net, jnp.ones((1, 1)), target)
    """

    value: Any


def is_timed(target: Any) -> bool:
    """Whether a target, or a part of one, is `Timed`."""
    return isinstance(target, Timed)


def timed_in(targets: Any) -> list[Timed]:
    """All `Timed` parts of the targets, any pytree."""
    return [leaf for leaf in jax.tree.leaves(targets, is_leaf=is_timed) if is_timed(leaf)]


@dataclasses.dataclass(frozen=True)
class SequenceLoss:
    """A loss of the whole output sequence.

    Attributes:
      function: (outputs[T, B, ...], *targets) ↦ scalar.

    Raises:
      TypeError: function is a loss `WithRecords`, which is written around this one.
    """

    function: Callable[..., jax.Array]

    def __post_init__(self) -> None:
        if isinstance(self.function, WithRecords):
            raise TypeError(
                "A loss of the whole sequence with records is written WithRecords(SequenceLoss(f), record=(...)), with "
                "f(outputs, records, *targets), and not the other way round."
            )

    def __call__(self, outputs: Any, *targets: Any) -> jax.Array:
        """The loss of outputs[T, B, ...]."""
        return self.function(outputs, *targets)


@dataclasses.dataclass(frozen=True)
class WithRecords:
    """A loss of the output and of what the neurons do: regularised firing rates, losses of potentials.

    Attributes:
      function: (output[B, ...], records, *targets) ↦ scalar; records[name][path of the layer] is [B, ...]. Given as a
        `SequenceLoss`, one of all steps, whose outputs and records are [T, B, ...].
      record: the names of the records, as of `safjax.simulate`.

    Under BPTT, EXODUS, SLAYER and SLTT records are values like the output, each with the gradient of its rule. Under
    OTTT, Approx-OTPE and SAF the error at a layer's "spikes", "potential" or "membrane" of step t goes on as the
    output's does: in space through spike functions and synapses, and to weights by their traces; a "current" is
    refused. Under S-TLLR that at "spikes" does, and the others are refused. Under SAF-F the loss is given the records
    of the last step. SR and IDE are refused: their gradient is that of rates, not of spikes.

    Raises:
      TypeError: function is not callable, or record is no tuple of names.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), safjax.nn.LIF(),
      ...     safjax.nn.LeakyReadout())
      >>> def loss(output, records, target):
      ...     quiet = sum(jnp.mean(s) for s in records["spikes"].values())
      ...     return jnp.mean((output - target) ** 2) + 0.1 * quiet
      >>> loss = safjax.losses.WithRecords(loss, record=("spikes",))
      >>> gradient = safjax.value_and_grad(loss, safjax.rules.sltt(), steps=4)
      >>> (value, aux), grads = gradient(net, jnp.ones((5, 2)), 0.2)
    """

    function: Callable[..., jax.Array]
    record: tuple[str, ...] = ("spikes",)

    def __post_init__(self) -> None:
        names = self.record
        if not callable(self.function):
            raise TypeError(f"WithRecords({self.function!r}): expected a function of (output, records, *targets).")
        if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"WithRecords(record={names!r}): expected a tuple of one name or more, such as ('spikes',) or "
                "('spikes', 'potential')."
            )

    def __call__(self, output: Any, records: Any, *targets: Any) -> jax.Array:
        """The loss of an output and of records."""
        return self.function(output, records, *targets)


def records_for(loss: Any) -> tuple[str, ...] | None:
    """The names of the records that a loss is given; None of one that takes none."""
    return loss.record if isinstance(loss, WithRecords) else None


def is_of_sequence(loss: Any) -> bool:
    """Whether a loss, or the one inside `WithRecords`, is a `SequenceLoss`."""
    return isinstance(loss.function if isinstance(loss, WithRecords) else loss, SequenceLoss)


def max_over_time(loss: StepLoss) -> SequenceLoss:
    """loss(max_t o[t], *targets): each class is judged by its best moment."""
    return SequenceLoss(lambda outputs, *targets: loss(outputs.max(0), *targets))


def sum_over_time(loss: StepLoss) -> SequenceLoss:
    """loss(Σ_t o[t], *targets); of spikes, a loss of their counts."""
    return SequenceLoss(lambda outputs, *targets: loss(outputs.sum(0), *targets))


def spike_count() -> SequenceLoss:
    """½ Σ_i (Σ_t s_i[t] − n_i)², the mean over the batch, for target counts n[B, ...].

    Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018, Sec. 3.2.

    Raises (when called):
      ValueError: the counts have another shape than the outputs of a step.
    """

    def loss(spikes: jax.Array, counts: jax.Array) -> jax.Array:
        _check_shape("spike_count", spikes.shape[1:], counts, "a count for each output, n[B, ...]")
        return 0.5 * jnp.sum((spikes.sum(0) - counts) ** 2) / len(counts)

    return SequenceLoss(loss)


def van_rossum(decay: float) -> SequenceLoss:
    """½ Σ_t Σ_i (f_i[t] − f̂_i[t])², the mean over the batch: the distance of two filtered spike trains.

        f[t] = λ f[t−1] + s[t]

    The target is a `Timed` spike train ŝ[T, B, ...]. van Rossum, "A novel spike distance", 2001.

    Args:
      decay: λ ∈ [0, 1] of the filter.

    Raises:
      ValueError: decay outside [0, 1]; when called, a spike train of another shape than the outputs.
    """
    if not 0 <= decay <= 1:
        raise ValueError(
            f"van_rossum(decay={decay!r}): the filter keeps a fraction in [0, 1] from one step to the next. From a "
            "time constant τ in steps, decay = exp(−1/τ)."
        )

    def loss(spikes: jax.Array, targets: jax.Array) -> jax.Array:
        def body(filtered: jax.Array, difference: jax.Array) -> tuple[jax.Array, jax.Array]:
            filtered = decay * filtered + difference
            return filtered, jnp.sum(filtered**2)

        _check_shape("van_rossum", spikes.shape, targets, "a Timed spike train for each output, ŝ[T, B, ...]")
        # The filter is linear: the difference of filtered trains is the filtered difference.
        difference = spikes - targets
        return 0.5 * jax.lax.scan(body, jnp.zeros_like(difference[0]), difference)[1].sum() / spikes.shape[1]

    return SequenceLoss(loss)


def _check_shape(name: str, expected: tuple[int, ...], target: Any, what: str) -> None:
    """Refuses a target that would only broadcast to the outputs, and train on wrong numbers."""
    if jnp.shape(target) != expected:
        raise ValueError(
            f"{name}() was given a target of shape {list(jnp.shape(target))} for outputs that ask for "
            f"{list(expected)}: expected {what}."
        )
