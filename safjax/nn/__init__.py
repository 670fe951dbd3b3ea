"""Spiking layers as Flax NNX modules. A net made of them never mentions a rule, a state or a reset."""

from safjax.nn.convolution import WSConv
from safjax.nn.dropout import Dropout
from safjax.nn.neurons import IF, LIF, InstantReadout, LeakyReadout
from safjax.nn.synapse import Synapse

__all__ = ["IF", "LIF", "Dropout", "InstantReadout", "LeakyReadout", "Synapse", "WSConv"]
