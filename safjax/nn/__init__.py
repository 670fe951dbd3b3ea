"""Spiking layers as Flax NNX modules. A net made of them never mentions a rule, a state or a reset."""

from safjax.nn.batch_norm import BatchNorm
from safjax.nn.convolution import WSConv
from safjax.nn.delay import Delay, Recurrent
from safjax.nn.dropout import Dropout
from safjax.nn.folding import fold_batch_norms
from safjax.nn.initialisation import lif_init
from safjax.nn.module import SequenceState
from safjax.nn.neuron_kinds import ALIF, PLIF, CurrentLIF
from safjax.nn.neurons import IF, LIF, Neuron
from safjax.nn.normalised import NormalisedLIF
from safjax.nn.parallel import PSN, SPSN, SlidingPSN
from safjax.nn.readouts import InstantReadout, LeakyReadout
from safjax.nn.scaling import scale_to_rate
from safjax.nn.step_weights import StepWeights
from safjax.nn.synapse import Synapse

__all__ = [
    "ALIF",
    "IF",
    "LIF",
    "PLIF",
    "PSN",
    "SPSN",
    "BatchNorm",
    "CurrentLIF",
    "Delay",
    "Dropout",
    "InstantReadout",
    "LeakyReadout",
    "Neuron",
    "NormalisedLIF",
    "Recurrent",
    "SequenceState",
    "SlidingPSN",
    "StepWeights",
    "Synapse",
    "WSConv",
    "fold_batch_norms",
    "lif_init",
    "scale_to_rate",
]
