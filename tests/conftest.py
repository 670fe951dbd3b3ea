"""Fixtures shared by all tests."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test: spikes cannot flip by rounding, so equal means equal."""
    with jax.enable_x64(True):
        yield
