"""When along the sequence loss, gradient and update are taken.

All schedules drive one step function and differ only in what they differentiate. One that takes gradients step by step
treats the carry it receives as a constant, and this is all that makes a rule online.
"""

from safjax.schedules.each import EachStep, EachStepUpdated
from safjax.schedules.last import Equilibrium, LastStep
from safjax.schedules.mean import MeanOutput, MeanOutputLayerByLayer
from safjax.schedules.schedule import Schedule
from safjax.schedules.whole import LayerByLayer, WholeSequence

__all__ = [
    "EachStep",
    "EachStepUpdated",
    "Equilibrium",
    "LastStep",
    "LayerByLayer",
    "MeanOutput",
    "MeanOutputLayerByLayer",
    "Schedule",
    "WholeSequence",
]
