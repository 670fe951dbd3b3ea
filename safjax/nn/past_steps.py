"""What layers have in common whose output at one step is made of the last steps of their input."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import AveragedSequence, Sequence
from safjax.nn.module import SpikingModule
from safjax.nn.numbers import THRESHOLDS, Interval, Number, checked_positive
from safjax.nn.refusing import Refusals
from safjax.nn.states import join, modules
from safjax.rules import Rule


class Delaying(SpikingModule):
    """Base of the layers with delays of at most K = `max_delay` steps, for rules whose gradient goes back in time.

    Attributes:
      delays, max_delay, width: see `safjax.nn.AxonalDelay`.
      deterministic: whether delays are rounded to whole numbers, as after `net.eval()`.
    """

    delays: Any
    max_delay: int
    width: nnx.Variable[Any] | None
    deterministic: bool

    @property
    def intervals(self) -> Mapping[str, Interval]:  # type: ignore[override]
        """Learned delays lie in [0, K], a learned width above 0."""
        return {"delays": (0.0, float(self.max_delay)), "width": THRESHOLDS}

    def over_past(self, message: Any, function: Callable[[jax.Array], jax.Array]) -> Any:
        """What is handed on where y[T, B, ...] = function(x[K + T, B, ...]), the K steps before x[T, B, ...] in front.

        Step by step T = 1. The last K steps are state, [K, B, ...]; zeros at the start.
        """
        binding = self.bound()
        whole = binding.propagation.whole_sequence
        now = message.computed().unrolled() if whole else message[None]
        before = self.read("state")
        if before is None:
            before = jnp.zeros((self.max_delay, *now.shape[1:]), now.dtype)
        steps = jnp.concatenate([before, now])
        if binding.course.open or not whole:
            self.write("state", steps[len(now) :], axes=(1,))
        made = function(steps)
        if not whole:
            return made[0]
        values = Sequence(made, len(now), False)
        # Of means only after a refusal.
        return AveragedSequence.of(values, made.mean(0)) if isinstance(message, AveragedSequence) else values


def checked_width(owner: Delaying, width: Number | None) -> nnx.Variable[Any] | None:
    """σ in a variable; None for none.

    Raises:
      ValueError: it is not positive.
    """
    if width is None:
        return None
    checked = checked_positive(owner, "width", width, "σ of the Gaussian, in steps")
    return nnx.Variable(jnp.asarray(checked)) if isinstance(checked, float) else checked


def refuse_delays(net: nnx.Module, rule: Rule, refusals: Refusals) -> None:
    """Refuses delays where no gradient goes back in time: they, or what stands before them, would learn nothing."""
    if rule.schedule.sees_all_steps and not rule.propagation.accumulates:
        return
    for path, module in modules(net):
        if isinstance(module, Delaying):
            where = f"the {type(module).__name__} at '{join(path)}'"
            reason = _of_means(where) if rule.schedule.of_mean_output else _of_single_steps(where)
            refusals.refuse(
                join(path),
                f"The rule '{rule.name}' {reason}. It is trained by rules that go back in time. Where the net's own "
                "input is to be delayed, delay it outside and give the net the delayed sequence.",
            )


def _of_single_steps(where: str) -> str:
    return (
        "takes its gradient within single steps, with the steps before for constants, so that the layers before "
        f"{where} would learn nothing of what it hands on later"
    )


def _of_means(where: str) -> str:
    return (
        f"differentiates means over all time steps, which do not tell when a spike comes, but {where} hands on later "
        "what it is given: its delays would learn nothing, and what comes at the end of a sequence is missing in the "
        "mean of what it hands on"
    )
