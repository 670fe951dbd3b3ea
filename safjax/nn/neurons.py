"""Integrate-and-fire neurons as Flax NNX modules."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import Message, Silence, is_message
from safjax.neurons import LIFCell
from safjax.neurons.recording import Records
from safjax.neurons.resets import Reset, check_decay_input, check_reset
from safjax.nn.calls import layer_call
from safjax.nn.module import Observation, SpikingModule
from safjax.nn.numbers import (
    DECAYS,
    THRESHOLDS,
    Interval,
    Number,
    checked_count,
    checked_decay,
    checked_floor,
    checked_positive,
    checked_reset,
    checked_surrogate,
    decay_of,
    reset_of,
    value_of,
)
from safjax.nn.states import flat, join
from safjax.rules.propagation import Fired
from safjax.surrogate import Sigmoid, Surrogate


class Neuron(SpikingModule):
    """Base of the spiking neurons: takes currents (a Synapse's result, or a sum of such), gives spikes.

    A neuron of one's own is a subclass whose method `cell` returns a `safjax.neurons.Cell`, with the attribute
    `decay` if readouts are to take theirs from it.
    """

    def cell(self) -> Any:
        """The neuron's constants and transition, see `safjax.neurons`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no method cell(). Neurons of one's own define it: it returns a "
            "safjax.neurons.Cell, such as safjax.neurons.LIFCell(decay=0.5, threshold=1.0, surrogate=Sigmoid())."
        )

    @layer_call
    def __call__(self, current: Any, /) -> Any:
        current, cell = self.message(current), self.cell()
        if isinstance(current, Silence):
            return current
        binding = self.bound()
        self.once()
        if binding.examined and (reasons := self._reasons(cell, current)):
            for reason in reasons:
                binding.refuse(reason)
            # Has the shape of spikes, and hangs on all that they would.
            return current
        state = self.read("state")
        state = binding.propagation.start(current, cell, binding.course) if state is None else state
        pick = self._pick if binding.record or self._own() else None
        fired = binding.propagation.neuron(state, current, cell, pick)
        self._followed({name: fired.records[name] for name in self._own()})
        axes = None
        if binding.discovering is not None and state is not None and not binding.propagation.accumulates:
            axes = _member_axes(cell, current)
        self.write("state", fired.state, start=state, axes=axes)
        self._report(fired)
        return fired.message

    def _report(self, fired: Fired) -> None:
        binding = self.bound()
        spikes = jax.lax.stop_gradient(fired.spikes)
        # Over batch and layer; of a padded batch, of each member.
        first = binding.propagation.whole_sequence + binding.course.padded
        report = {"rate": jnp.mean(spikes, range(first, spikes.ndim))}
        records = {name: value for name, value in fired.records.items() if name not in self._own()}
        report.update(records)
        if binding.discovering is not None:
            self._refuse_records(records)
        self.observed = Observation(report, own_axes=tuple(leaf.ndim for leaf in jax.tree.leaves(report)))

    def _pick(self, records: Records) -> dict[str, jax.Array]:
        """Of all that the neurons can tell what was asked for, and what they need themselves."""
        binding, own = self.bound(), self._own()
        if binding.discovering is not None and binding.record:
            binding.discovering.told[binding.path] = tuple(name for name in records if name not in own)
        asked = (name for name in binding.record if name not in own)
        return {name: records[name] for name in (*asked, *own) if name in records}

    def _own(self) -> tuple[str, ...]:
        """The names of what the cell records for the neurons themselves, of the batch and not of its members."""
        return ()

    def _followed(self, records: Records) -> None:
        """Takes what the cell has recorded for the neurons themselves, of one step or [T, ...]."""

    def _refuse_records(self, records: Records) -> None:
        binding = self.bound()
        course, whole = binding.course, binding.propagation.whole_sequence
        expected = (course.steps, course.batch) if whole else (course.batch,)
        for name, value in records.items():
            if jnp.shape(value)[: len(expected)] != expected:
                raise ValueError(
                    f"{type(self).__name__} at '{binding.path}' records '{name}' of shape {list(jnp.shape(value))}, "
                    f"but expected is [{', '.join(map(str, expected))}, ...], a value for each member of the "
                    "batch. What all members share is a number of the neuron, which needs no record."
                )

    def _reasons(self, cell: Any, current: Any) -> list[str]:
        """Why the rule cannot train such neurons on such currents.

        Raises:
          TypeError: no rule could, for what stands in the place of a cell is none.
        """
        binding = self.bound()
        if not hasattr(cell, "step") and not hasattr(cell, "fire_sequence"):
            raise TypeError(
                f"{type(self).__name__} at '{binding.path}': its method cell() returned a {type(cell).__name__}, but "
                "expected is a safjax.neurons.Cell, with start(current) and step(state, current), or what has "
                "fire_sequence(currents)."
            )
        self._refuse_shape(getattr(cell, "surrogate", None), current)
        reason = binding.propagation.refusal(cell, current, binding.course)
        found = (
            []
            if reason is None
            else [f"{type(self).__name__} at '{binding.path}': the rule '{binding.rule}' {reason}."]
        )
        return found + (self._learned(getattr(cell, "surrogate", None)) if binding.propagation.accumulates else [])

    def _refuse_shape(self, surrogate: Any, current: Any) -> None:
        """A spike function that mixes neurons would give wrong numbers wherever its result broadcasts."""
        if surrogate is None or isinstance(surrogate, Surrogate):
            return
        shape = current.step_shape if isinstance(current, Message) else current.shape
        fired = jax.eval_shape(lambda x: surrogate(x), jax.ShapeDtypeStruct(shape, jnp.float32))
        if getattr(fired, "shape", None) != shape:
            given = f"the shape {list(fired.shape)}" if hasattr(fired, "shape") else f"a {type(fired).__name__}"
            raise TypeError(
                f"{type(self).__name__} at '{self.bound().path}': its surrogate returned {given} for x of shape "
                f"{list(shape)}. A spike function is applied to every entry of x = u − θ and returns an array of its "
                "shape."
            )

    def _learned(self, surrogate: Any) -> list[str]:
        """Refused where spikes are summed over time."""
        binding = self.bound()
        params = flat(nnx.state(surrogate, nnx.Param)) if isinstance(surrogate, nnx.Module) else {}
        return [
            f"{type(self).__name__} at '{binding.path}' learns 'surrogate.{join(path)}', but the rule '{binding.rule}' "
            "sums spikes over time and is defined for learned weights and thresholds only. Hold the number in an "
            "nnx.Variable, which is not learned."
            for path in params
        ]


def _member_axes(cell: Any, current: Any) -> tuple[int | None, ...]:
    """Where the parts of a cell's state have their axis of members: where one member more makes them larger."""
    first = current.computed().first() if is_message(current) else current
    more = (jax.ShapeDtypeStruct((first.shape[0] + n, *first.shape[1:]), first.dtype) for n in (0, 1))
    shapes = ([leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(cell.start, x))] for x in more)
    return tuple(
        next((axis for axis, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), None)
        for one, other in zip(*shapes, strict=True)
    )


class LIF(Neuron):
    """Leaky integrate-and-fire neurons, one for each entry of their input current.

        u[t] = λ m[t−1] + I[t],   s[t] = H(u[t] − θ),   m[t] = u[t] − ρθ s[t],   m[0] = 0

    Reset to a value v, m[t] = (1 − s[t]) u[t] + s[t] v. With decayed input, u[t] = λ m[t−1] + (1 − λ) I[t]; what
    `simulate` records as "current" is I[t] all the same.

    Decay and threshold are numbers; an `nnx.Param` in place of one is learned, and an `nnx.Variable` holds one for each
    neuron: LIF(threshold=nnx.Param(jnp.ones(128))).

    Args:
      decay: λ ∈ [0, 1]; a learned one is kept there.
      threshold: θ > 0; a learned one is kept ≥ 0.001.
      surrogate: the spike function with its pseudo-derivative, see `safjax.surrogate`; any callable of u − θ. One that
        learns, a smooth function and not a step, is an `nnx.Module`; no rule that accumulates trains it.
      reset: ρ > 0, what a spike subtracts in units of the threshold; or `ResetTo(v)`, the value that it sets the
        membrane to, which no rule that accumulates can train; or `AfterDecay(ρ)`, where a spike subtracts from the
        decayed membrane and λ is learned; or None for no reset.
      floor: lower clamp of u; None for none.
      max_spikes: the most spikes in a step, min(⌊u/θ⌋, n) of them; None for any number.
      scaled: let spikes travel with the height ρθ instead of 1. With a learned threshold and `spike_representation`
        this is DSR (Meng et al., "Training high-performance low-latency SNNs by differentiation on spike
        representation", 2022), which fires at a part α of what it subtracts: threshold = α V, reset = 1/α.
      decay_input: multiply the current by 1 − λ, also where λ is learned.

    Raises:
      ValueError: decay outside [0, 1]; threshold, reset or max_spikes not positive; floor not below the threshold;
        `ResetTo` of a value not below the threshold, or with several or scaled spikes; decayed input without leak.
      TypeError: surrogate is not callable.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout
      >>> net = nnx.Sequential(LIF(decay=0.5), LeakyReadout())
      >>> run = safjax.simulate(net, jnp.array([[0.6]]), steps=9)
      >>> run.spikes["layers.0"].ravel().astype(int).tolist()
      [0, 0, 1, 0, 0, 1, 0, 0, 1]
    """

    intervals: ClassVar[Mapping[str, Interval]] = {"decay": DECAYS, "threshold": THRESHOLDS}
    carried = ("reset",)

    def __init__(
        self,
        decay: Number = 0.5,
        threshold: Number = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        reset: Reset = 1.0,
        floor: float | None = None,
        max_spikes: int | None = 1,
        scaled: bool = False,
        decay_input: bool = False,
    ):
        self.decay = checked_decay(self, decay)
        self.threshold = checked_positive(self, "threshold", threshold, "the firing threshold; the usual one is 1.0")
        self.surrogate = checked_surrogate(self, surrogate)
        self.reset = checked_reset(self, reset)
        self.floor = checked_floor(self, floor)
        self.max_spikes = checked_count(self, max_spikes)
        self.scaled, self.decay_input = scaled, decay_input
        check_reset(type(self).__name__, reset, threshold, decay, max_spikes, scaled)
        check_decay_input(type(self).__name__, decay, decay_input)

    def cell(self) -> LIFCell:
        """`LIFCell` of the present constants."""
        return self._lif()

    def _lif(self) -> LIFCell:
        # What others build theirs from: in tables NNX puts wrappers around public methods, also when called by super().
        return LIFCell(
            decay_of(self.decay, self.reset),
            value_of(self.threshold, THRESHOLDS),
            self.surrogate,
            reset_of(self.reset),
            self.floor,
            self.max_spikes,
            self.scaled,
            self.decay_input,
        )


class IF(LIF):
    """Integrate-and-fire neurons: `LIF` without leak, λ = 1."""

    def __init__(
        self,
        threshold: Number = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
        *,
        reset: Reset = 1.0,
        floor: float | None = None,
        max_spikes: int | None = 1,
        scaled: bool = False,
    ):
        super().__init__(1.0, threshold, surrogate, reset=reset, floor=floor, max_spikes=max_spikes, scaled=scaled)
