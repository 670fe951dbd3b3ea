"""Fixtures shared by all tests."""

import os
import subprocess
import sys


def quick_to_compile() -> str:
    """Flags with which the compiler optimises less: tests compile much and compute little."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    older = f"{flags} --xla_cpu_use_fusion_emitters=false"  # Halves what is left. A flag that XLA means to drop.
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(start, env={**os.environ, "XLA_FLAGS": older}, capture_output=True).returncode == 0
    return older if known else flags


if "XLA_FLAGS" not in os.environ:  # A user's own stand; workers inherit those of the first process.
    os.environ["XLA_FLAGS"] = quick_to_compile()

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test: spikes cannot flip by rounding, so equal means equal."""
    with jax.enable_x64(True):
        yield
