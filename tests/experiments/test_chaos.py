"""The short form of `tests.experiments.chaos`."""

import jax
import pytest

from tests.experiments import chaos


@pytest.mark.slow
def test_kills_and_damage_leave_no_trace(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    # Of a fifth of a second each on a fast machine: moments come up to six seconds after a start.
    done = chaos.main(chaos.Options(kills=4, epochs=80))
    assert all(done[kind] == 1 for kind in ("start", "compile", "save", "train", "damaged"))
