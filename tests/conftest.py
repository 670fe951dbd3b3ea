"""Fixtures shared by all tests."""

import gc
import os

from tests.flags import quick_to_compile

# A user's own flags stand; the workers of a run inherit those of its first process.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS") or quick_to_compile()
# Where in Python each operation was written is no part of what a test reads from a program, and takes time to write.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = os.environ.get("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import jax
import pytest

from safjax.nn import verdicts

# Tracing makes many small objects and little garbage: to look for it seldom takes a twentieth less time.
gc.set_threshold(100_000, 20, 20)


@pytest.fixture
def x64():
    """Double precision for one test: spikes cannot flip by rounding, so equal means equal.

    By default accelerators round the factors of products, float32 to TF32 or bfloat16; here they may not.
    """
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def advice():
    """For tests that look at which rules a refusal advises."""


@pytest.fixture(autouse=True)
def refusals_without_advice(request, monkeypatch):
    """To find the rules that train a net binds it to all of them: ten times the work of the refusal, where no test
    looks at it. Slow tests find it all the same."""
    if "advice" not in request.fixturenames and request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(verdicts, "_advice", lambda trial: "Rules that train this net as it is: not asked for.")
