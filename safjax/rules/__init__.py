"""Learning rules as values. See `safjax.rules.named` for the published ones."""

from safjax.rules.eventprop import eventprop
from safjax.rules.named import (
    RULES,
    approx_otpe,
    bptt,
    exodus,
    ide,
    ottt_a,
    ottt_o,
    rate_backprop,
    saf_e,
    saf_f,
    slayer,
    sltt,
    spike_representation,
    stllr,
)
from safjax.rules.oracles import eprop, ostl, otpe
from safjax.rules.propagation import Course, Fired, Propagation
from safjax.rules.rule import Rule

__all__ = [
    "RULES",
    "Course",
    "Fired",
    "Propagation",
    "Rule",
    "approx_otpe",
    "bptt",
    "eprop",
    "eventprop",
    "exodus",
    "ide",
    "ostl",
    "otpe",
    "ottt_a",
    "ottt_o",
    "rate_backprop",
    "saf_e",
    "saf_f",
    "slayer",
    "sltt",
    "spike_representation",
    "stllr",
]
