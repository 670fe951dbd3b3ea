"""Fixtures shared by all tests."""

import os

# Tests compile much and compute little: let the compiler optimise less. A user's own flags stand.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test: spikes cannot flip by rounding, so equal means equal."""
    with jax.enable_x64(True):
        yield
