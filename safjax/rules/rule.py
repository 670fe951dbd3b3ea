"""A learning rule is two choices: what travels between layers, and when in time gradients are taken."""

import dataclasses

from safjax.rules.propagation import Propagation
from safjax.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Rule:
    """A learning rule as a value: hashable, and equal to any other made of the same parts.

    Attributes:
      name: how messages and records call it.
      propagation: what travels between layers and how synapses, neurons and readouts are differentiated.
      schedule: when along the sequence loss, gradient and update are taken.
    """

    name: str
    propagation: Propagation
    schedule: Schedule
