"""Tables of rules and nets: every row is a test, and some say enough to run every time."""

from abc import ABC
from collections.abc import Callable, Hashable, Mapping

import pytest

from safjax import rules
from safjax.rules import Rule
from safjax.rules.eprop import BroadcastPropagation

BROAD = {name: make for name, make in rules.RULES.items() if not make().propagation.per_weight}
"""The rules that train more than dense layers."""
DEEP = {name: make for name, make in rules.RULES.items() if not isinstance(make().propagation, BroadcastPropagation)}
"""The rules that hand errors from layer to layer, so that a layer learns whose spikes no readout sees."""


Rules = Mapping[str, Rule | Callable[[], Rule]]
"""Rules by name, or what makes them."""


def some_slow(rows, quick):
    """Rows as parameters of a test; those of which `quick(*row)` is not true are among the slow tests."""
    return [pytest.param(*row, marks=() if quick(*row) else pytest.mark.slow) for row in rows]


def _made(rules: Rules) -> dict[str, Rule]:
    return {name: rule if isinstance(rule, Rule) else rule() for name, rule in rules.items()}


def covering(rules: Rules) -> list[str]:
    """Rules that bring a propagation or a schedule that none before them has: all others are made of these parts."""
    seen: set[type] = set()
    found = []
    for name, rule in _made(rules).items():
        parts = {type(rule.propagation), type(rule.schedule)}
        if not parts <= seen:
            found.append(name)
        seen |= parts
    return found


def families(rules: Rules) -> list[str]:
    """Rules that bring a propagation of a family of its own: what travels between layers, and so what a layer is given
    and how it is differentiated, differs by these alone."""
    firsts: dict[type, str] = {}
    for name, rule in _made(rules).items():
        bases = (base for base in type(rule.propagation).__mro__ if base not in (object, ABC))
        firsts.setdefault([*bases][-1], name)
    return list(firsts.values())


def schedules(rules: Rules) -> list[str]:
    """Rules that bring a schedule that none before them has: when gradient and update are taken differs by these."""
    firsts: dict[type, str] = {}
    for name, rule in _made(rules).items():
        firsts.setdefault(type(rule.schedule), name)
    return list(firsts.values())


def rule_by_rule(rules: Rules, quick=covering):
    """The names of rules as parameters of a test; those that are not `quick` are among the slow tests."""
    names = quick(rules)
    return some_slow([(name,) for name in rules], lambda name: name in names)


def refusing(rules: Rules) -> list[str]:
    """Of rules that refuse the same nets in the same words the first."""
    firsts: dict[Hashable, str] = {}
    for name, rule in _made(rules).items():
        firsts.setdefault((rule.propagation.refuses_as, rule.schedule.sees_all_steps), name)
    return list(firsts.values())
