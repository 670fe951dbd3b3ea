"""Tables of rules and nets: every row is a test, and some say enough to run every time."""

import pytest

from safjax import rules
from safjax.rules.eprop import BroadcastPropagation

BROAD = {name: make for name, make in rules.RULES.items() if not make().propagation.per_weight}
"""The rules that train more than dense layers."""
DEEP = {name: make for name, make in rules.RULES.items() if not isinstance(make().propagation, BroadcastPropagation)}
"""The rules that hand errors from layer to layer, so that a layer learns whose spikes no readout sees."""


def some_slow(rows, quick):
    """Rows as parameters of a test; those of which `quick(*row)` is not true are among the slow tests."""
    return [pytest.param(*row, marks=() if quick(*row) else pytest.mark.slow) for row in rows]
