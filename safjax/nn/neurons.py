"""Spiking neurons and readouts as Flax NNX modules."""

from collections.abc import Callable
from typing import Any

import jax

from safjax.neurons import Cell
from safjax.nn.module import Observation, SpikingModule
from safjax.surrogate import Sigmoid


def _checked_decay(owner: object, decay: Any) -> float:
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
        raise ValueError(
            f"{type(owner).__name__}(decay={decay!r}): decay is the fraction of the membrane kept from one step to the "
            "next and must be a number in [0, 1]; 1 means no leak. From a time constant τ in steps, decay = 1 − 1/τ."
        )
    return float(decay)


class LIF(SpikingModule):
    """Leaky integrate-and-fire neurons with subtractive reset, one for each entry of their input current.

        u[t] = λ (u[t−1] − θ s[t−1]) + I[t],   s[t] = H(u[t] − θ),   u[0] = s[0] = 0

    Takes currents (a Synapse's result, or a sum of such), gives spikes.

    Args:
      decay: λ ∈ [0, 1].
      threshold: θ > 0.
      surrogate: the spike function with its pseudo-derivative, see `safjax.surrogate`; any callable of u − θ.

    Raises:
      ValueError: decay outside [0, 1], threshold not positive.
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

    def __init__(
        self,
        decay: float = 0.5,
        threshold: float = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
    ):
        self.decay = _checked_decay(self, decay)
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not threshold > 0:
            raise ValueError(
                f"{type(self).__name__}(threshold={threshold!r}): the firing threshold must be a positive number; the "
                "usual one is 1.0."
            )
        self.threshold = float(threshold)
        if not callable(surrogate):
            raise TypeError(
                f"{type(self).__name__}(surrogate={surrogate!r}): expected a spike function such as "
                "safjax.surrogate.Sigmoid(alpha=4.0)."
            )
        self.surrogate = surrogate

    def __call__(self, current: Any) -> Any:
        binding = self.bound()
        cell = Cell(self.decay, self.threshold, self.surrogate)
        fired = binding.propagation.neuron(self.read("state"), self.message(current), cell)
        self.write("state", fired.state)
        self.observed = Observation(binding.observe(fired.spikes))
        return fired.message


class IF(LIF):
    """Integrate-and-fire neurons: `LIF` without leak, λ = 1."""

    def __init__(
        self,
        threshold: float = 1.0,
        surrogate: Callable[[jax.Array], jax.Array] = Sigmoid(),  # noqa: B008 (a frozen value)
    ):
        super().__init__(1.0, threshold, surrogate)


class LeakyReadout(SpikingModule):
    """A membrane that never fires: o[t] = (Σ_{τ≤t} λ^{t−τ} I[τ]) / Λ[t], a weighted mean of its current.

    Args:
      decay: λ ∈ [0, 1]; None takes the one decay of the net's neurons.

    Raises:
      ValueError: decay outside [0, 1]; or, when a rule meets the net, None in a net whose neurons differ.
    """

    def __init__(self, decay: float | None = None):
        self.decay = None if decay is None else _checked_decay(self, decay)

    def __call__(self, current: Any) -> jax.Array:
        binding = self.bound()
        decay = binding.decay if self.decay is None else self.decay
        if decay is None:
            raise ValueError(
                f"LeakyReadout() at '{binding.path}' takes its decay from the net's neurons, but theirs differ. Write "
                "LeakyReadout(decay=...)."
            )
        state, output = binding.propagation.leaky_readout(self.read("state"), self.message(current), decay)
        self.write("state", state)
        return output


class InstantReadout(SpikingModule):
    """Reads the current of each step as it is: o[t] = I[t]."""

    def __call__(self, current: Any) -> jax.Array:
        binding = self.bound()
        # Spike rules need no decay here; the others have one decay throughout.
        decay = 0.0 if binding.decay is None else binding.decay
        state, output = binding.propagation.instant_readout(self.read("state"), self.message(current), decay)
        self.write("state", state)
        return output
