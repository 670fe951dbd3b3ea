"""Synaptic operations of a net and the energy that they take."""

from experiments.energy.energy import PICOJOULES, Inference, Operations, inference, training_multiplications

__all__ = ["PICOJOULES", "Inference", "Operations", "inference", "training_multiplications"]
