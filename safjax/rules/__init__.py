"""Learning rules as values. See `safjax.rules.named` for the published ones."""

from safjax.rules.named import RULES, bptt, ottt_a, ottt_o, saf_e, saf_f, sltt, spike_representation
from safjax.rules.propagation import Fired, Propagation
from safjax.rules.rule import Rule

__all__ = [
    "RULES",
    "Fired",
    "Propagation",
    "Rule",
    "bptt",
    "ottt_a",
    "ottt_o",
    "saf_e",
    "saf_f",
    "sltt",
    "spike_representation",
]
