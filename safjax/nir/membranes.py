"""Neurons that NIR has and `safjax.nn` has not: membranes that never fire, and thresholds without a membrane.

Also the step that fires above its threshold only, u > θ, where those of safjax fire at u ≥ θ.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.neurons import LIFCell
from safjax.nn import Neuron
from safjax.nn.numbers import DECAYS, Number, value_of
from safjax.precision import wide_zeros
from safjax.surrogate import Surrogate


class IntegratorState(NamedTuple):
    """Membrane, and the synaptic current before it."""

    membrane: jax.Array
    current: jax.Array


@dataclasses.dataclass(frozen=True)
class IntegratorCell:
    """A membrane that never fires, behind a synaptic filter: what it hands on is the membrane.

        i[t] = α i[t−1] + I[t],   v[t] = λ v[t−1] + i[t] + b,   v[0] = v₀

    Attributes:
      decay: λ.
      synaptic_decay: α; 0 is no filter.
      drift: b, (1 − λ) v_leak of NIR.
      start_from: v₀.
    """

    decay: Any
    synaptic_decay: Any = 0.0
    drift: Any = 0.0
    start_from: Any = 0.0

    def start(self, current: jax.Array) -> IntegratorState:
        """v[0] = v₀, i[0] = 0."""
        zeros = wide_zeros(current)
        return IntegratorState(zeros + self.start_from, zeros)

    def step(
        self, state: IntegratorState, current: jax.Array, detach_reset: bool = False
    ) -> tuple[IntegratorState, jax.Array]:
        """((v, i)[t−1], I[t]) ↦ ((v, i)[t], v[t])."""
        del detach_reset
        filtered = self.synaptic_decay * state.current + current
        membrane = self.decay * state.membrane + filtered + self.drift
        return IntegratorState(membrane, filtered), membrane

    def records(
        self, before: IntegratorState, current: jax.Array, after: IntegratorState, spikes: jax.Array
    ) -> dict[str, jax.Array]:
        """v[t] as "membrane"."""
        del before, current, spikes
        return {"membrane": after.membrane}


class Integrator(Neuron):
    """The leaky integrators of NIR, `LI`, `CubaLI` and `I`: see `IntegratorCell`.

    In the records of `safjax.simulate` their membrane stands for spikes too. Rules that accumulate spikes, and closed
    forms, refuse them.

    Args:
      decay, synaptic_decay: λ, α ∈ [0, 1], numbers or variables.
      drift, start_from: b and v₀, numbers or variables.
    """

    def __init__(self, decay: Number, synaptic_decay: Number = 0.0, *, drift: Number = 0.0, start_from: Number = 0.0):
        self.decay, self.synaptic_decay = decay, synaptic_decay
        self.drift, self.start_from = drift, start_from

    def cell(self) -> IntegratorCell:
        """`IntegratorCell` of the present constants."""
        drift, start_from = (n[...] if isinstance(n, nnx.Variable) else n for n in (self.drift, self.start_from))
        return IntegratorCell(value_of(self.decay, DECAYS), value_of(self.synaptic_decay, DECAYS), drift, start_from)


class Threshold(Neuron):
    """NIR's `Threshold`: z[t] = H(I[t] − θ), of thresholds of either sign, without any membrane.

    Args:
      threshold: θ, a number or a variable.
      surrogate: the spike function.
    """

    def __init__(self, threshold: Number, surrogate: Callable[[jax.Array], jax.Array]):
        self.threshold, self.surrogate = threshold, surrogate
        self.decay = 0.0

    def cell(self) -> LIFCell:
        """A `LIFCell` that keeps nothing."""
        level = self.threshold[...] if isinstance(self.threshold, nnx.Variable) else self.threshold
        return LIFCell(0.0, level, self.surrogate, None)


@dataclasses.dataclass(frozen=True)
class Strict(Surrogate):
    """A step that fires above zero only: s = 1 where x > 0, with the slope of another one.

    Rules that add up spikes (SAF, SR) take a potential that meets its threshold to within rounding for one above it,
    and fire there all the same.

    Attributes:
      other: the other spike function.
    """

    other: Surrogate

    def slope(self, x: jax.Array) -> jax.Array:
        """That of the other one."""
        return self.other.slope(x)

    def __call__(self, x: jax.Array) -> jax.Array:
        """s = 1 where x > 0, NaN where x is NaN, else 0."""
        x = jnp.asarray(x)
        below = jnp.where(x == 0, jnp.asarray(-jnp.finfo(x.dtype).tiny, x.dtype), 0)
        return super().__call__(x + jax.lax.stop_gradient(below))
