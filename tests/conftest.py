"""Fixtures shared by all tests."""

import os

from tests.flags import quick_to_compile

# A user's own flags stand; the workers of a run inherit those of its first process.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS") or quick_to_compile()

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test: spikes cannot flip by rounding, so equal means equal."""
    with jax.enable_x64(True):
        yield
