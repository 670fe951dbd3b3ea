"""NIR's neurons as those of safjax.

With a step of dt, the explicit Euler method makes of τ v̇ = (v_leak − v) + R I

    u[t] = λ v[t−1] + (1 − λ) v_leak + g I[t],   λ = 1 − dt/τ,   g = R dt/τ

and of τ_syn İ = −I + w_in S the filter i[t] = α i[t−1] + g_s S[t], α = 1 − dt/τ_syn, g_s = w_in dt/τ_syn, whose current
reaches the membrane in the same step. Neurons that are linear below their threshold take a gain in front of their
filters, so that each node becomes I ↦ c I + b and then, measured from v_leak where the membrane starts there,

    LIF, IF     `LIF(λ, v_threshold, reset=...)`, `IF`; c = g; with R = 1 `decay_input` in its place
    CubaLIF     `CurrentLIF(α, λ, v_threshold, reset=...)`; c = g_s g
    LI, I       `Integrator(λ)`, CubaLI `Integrator(λ, α)`, which hand on v[t]
    Threshold   `Threshold(threshold)`

with the resets  zero `ResetTo(v_reset)`, subtract 1.0, late `AfterDecay()`, none None  of `safjax.nn`.
Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for interoperable brain-inspired
computing", Nature Communications 2024.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax.nir.arrays import Shape, channels_last, field, number, uniform
from safjax.nir.conventions import told
from safjax.nir.membranes import Threshold
from safjax.nir.numbers import Numbers, Paired, Reading, surrogate_of
from safjax.nn import LeakyReadout

SPIKING = ("LIF", "IF", "CubaLIF", "Threshold")
MEMBRANES = ("LI", "I", "CubaLI")


def neurons_of(name: str, node: Any, shape: Shape, reading: Reading) -> Paired:
    """The neurons of a node, given what has this shape, channels first.

    Raises:
      ValueError: numbers that no step makes sense of, or that a convention says nothing about.
    """
    kind = type(node).__name__
    if kind == "Threshold":
        level = field(name, node, "threshold", shape)
        return Paired(Threshold(number(level), surrogate_of(reading)), np.ones(shape), np.zeros(shape))
    numbers = Numbers(name, node, shape, reading)
    try:
        return numbers.membranes() if kind in MEMBRANES else numbers.spiking()
    except ValueError as error:
        if f"'{name}'" in str(error):
            raise
        raise ValueError(f"from_nir: the {kind} '{name}' has no counterpart. {error}") from error


def readout_of(name: str, node: Any, shape: Shape, reading: Reading) -> Any:
    """The `LeakyReadout` that safjax wrote as this node; None where it is another one."""
    if told(getattr(node, "metadata", None), "readout") != "LeakyReadout":
        return None
    decay = np.ones(shape) if type(node).__name__ == "I" else Numbers(name, node, shape, reading).decay
    same = uniform(decay)
    return LeakyReadout(same if same is not None else nnx.Variable(jnp.asarray(channels_last(decay))))
