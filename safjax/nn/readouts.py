"""Readouts as Flax NNX modules: from currents to the net's output."""

from collections.abc import Mapping
from typing import Any, ClassVar

from flax import nnx

from safjax.messages import Silence
from safjax.nn.calls import layer_call
from safjax.nn.module import READ_OUT, SpikingModule
from safjax.nn.numbers import DECAYS, Interval, Number, checked_decay, value_of
from safjax.nn.states import modules


class Readout(SpikingModule):
    """Base of the readouts: takes currents, gives plain arrays."""

    def current(self, x: Any) -> Any:
        """x as a message."""
        message = self.message(x)
        self.once()
        return message

    def finished(self, state: Any, output: Any) -> Any:
        """Keeps the state; the output. From here on plain arrays are results, which change with time."""
        self.write("state", state)
        discovering = self.bound().discovering
        if discovering is None:
            return output
        discovering.read_out = True
        return discovering.named(output, f"{READ_OUT}{self.bound().path}")


class LeakyReadout(Readout):
    """A membrane that never fires: o[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t], a weighted mean of its current.

    Args:
      decay: λ ∈ [0, 1]; None takes the one decay of the net's neurons.

    Raises:
      ValueError: decay outside [0, 1]; or, when a rule meets the net, None in a net whose neurons differ.
    """

    intervals: ClassVar[Mapping[str, Interval]] = {"decay": DECAYS}

    def __init__(self, decay: Number | None = None):
        self.decay = None if decay is None else checked_decay(self, decay)

    @layer_call
    def __call__(self, current: Any, /) -> Any:
        message = self.current(current)
        if isinstance(message, Silence):
            return message
        binding = self.bound()
        if self.decay is None and binding.course.decay is None:
            binding.refuse(
                f"LeakyReadout() at '{binding.path}' takes its decay from the net's neurons, which have no one "
                "constant number for it. Write LeakyReadout(decay=...)."
            )
        decay = binding.decay if self.decay is None else value_of(self.decay, DECAYS)
        state, output = binding.propagation.leaky_readout(self.read("state"), message, decay, binding.course)
        return self.finished(state, output)


def readout_decay(net: nnx.Module, decay: float | None) -> float | None:
    """The one decay of the net's leaky readouts, 0 where it has none; None where they differ or learn it.

    Args:
      decay: of the net's neurons, which a readout takes that is given none.
    """
    readouts = [module for _, module in modules(net) if isinstance(module, LeakyReadout)]
    decays = [decay if readout.decay is None else readout.decay for readout in readouts]
    if not decays:
        return 0.0
    return decays[0] if isinstance(decays[0], float) and all(d == decays[0] for d in decays[1:]) else None


class InstantReadout(Readout):
    """Reads the current of each step as it is: o[t] = I[t]."""

    @layer_call
    def __call__(self, current: Any, /) -> Any:
        message = self.current(current)
        if isinstance(message, Silence):
            return message
        binding = self.bound()
        state, output = binding.propagation.instant_readout(self.read("state"), message, binding.decay, binding.course)
        return self.finished(state, output)
