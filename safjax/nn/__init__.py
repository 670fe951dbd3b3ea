"""Spiking layers as Flax NNX modules. A net made of them never mentions a rule, a state or a reset."""

from safjax.neurons import AfterDecay, ResetTo
from safjax.nn import time_constants
from safjax.nn.across_time import AcrossTime
from safjax.nn.arrays import named_arrays, with_arrays
from safjax.nn.axonal_delay import AxonalDelay
from safjax.nn.batch_norm import BatchNorm
from safjax.nn.concatenation import concatenate
from safjax.nn.convolution import WSConv
from safjax.nn.delay import Delay, Recurrent
from safjax.nn.delayed_linear import DelayedLinear
from safjax.nn.detach import detach
from safjax.nn.dropout import Dropout
from safjax.nn.dynamic_threshold import DynamicThresholdLIF
from safjax.nn.fixed import fixed, sinusoidal
from safjax.nn.folding import fold_batch_norms
from safjax.nn.initialisation import lif_init
from safjax.nn.module import SequenceState
from safjax.nn.neuron_kinds import ALIF, PLIF, CurrentLIF
from safjax.nn.neurons import IF, LIF, Neuron
from safjax.nn.normalised import NormalisedLIF
from safjax.nn.online_batch_norm import OnlineBatchNorm
from safjax.nn.parallel import PSN, SPSN, SlidingPSN
from safjax.nn.readouts import InstantReadout, LeakyReadout
from safjax.nn.refractory import Refractory
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
    "AcrossTime",
    "AfterDecay",
    "AxonalDelay",
    "BatchNorm",
    "CurrentLIF",
    "Delay",
    "DelayedLinear",
    "Dropout",
    "DynamicThresholdLIF",
    "InstantReadout",
    "LeakyReadout",
    "Neuron",
    "NormalisedLIF",
    "OnlineBatchNorm",
    "Recurrent",
    "Refractory",
    "ResetTo",
    "SequenceState",
    "SlidingPSN",
    "StepWeights",
    "Synapse",
    "WSConv",
    "concatenate",
    "detach",
    "fixed",
    "fold_batch_norms",
    "lif_init",
    "named_arrays",
    "scale_to_rate",
    "sinusoidal",
    "time_constants",
    "with_arrays",
]
