"""Tables of rules and nets: every row is a test, and some say enough to run every time."""

import pytest


def some_slow(rows, quick):
    """Rows as parameters of a test; those of which `quick(*row)` is not true are among the slow tests."""
    return [pytest.param(*row, marks=() if quick(*row) else pytest.mark.slow) for row in rows]
