"""Spiking neurons and readouts as pure functions of state and current.

Notation of the whole library: u membrane potential before the reset, m membrane after it, s spikes, I input current,
λ decay, θ threshold, all arrays of one shape [B, ...]. The state before the first step is zero.
"""

from safjax.neurons.accumulation import accumulation_step, gain_step, leaky_readout_step
from safjax.neurons.adaptive import AdaptiveCell
from safjax.neurons.cells import Cell, LIFCell, run_cell
from safjax.neurons.closed_form import lif_sequence
from safjax.neurons.current import CurrentCell, CurrentState
from safjax.neurons.filters import leaky_filter
from safjax.neurons.firing import fire
from safjax.neurons.psn import PSNCell, SlidingPSNCell, masked_weight, psn, sliding_psn, sliding_psn_step
from safjax.neurons.refractory import RefractoryCell
from safjax.neurons.resets import AfterDecay, ResetTo
from safjax.neurons.stochastic import SPSNCell, spsn, spsn_potential

__all__ = [
    "AdaptiveCell",
    "AfterDecay",
    "Cell",
    "CurrentCell",
    "CurrentState",
    "LIFCell",
    "PSNCell",
    "RefractoryCell",
    "ResetTo",
    "SPSNCell",
    "SlidingPSNCell",
    "accumulation_step",
    "fire",
    "gain_step",
    "leaky_filter",
    "leaky_readout_step",
    "lif_sequence",
    "masked_weight",
    "psn",
    "run_cell",
    "sliding_psn",
    "sliding_psn_step",
    "spsn",
    "spsn_potential",
]
