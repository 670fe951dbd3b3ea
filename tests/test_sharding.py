"""Several devices, simulated on CPU. A process has as many as it starts with, so these tests have one of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("tests/on_devices.py", "tests/variables_on_devices.py")


def pytest_on(devices, folder, *args):
    """Runs the tests for several devices where JAX sees so many CPUs; keeps in a folder what it compiles twice."""
    settings = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *FILES, *args]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True)


def test_two_devices(tmp_path):
    """Each kind of test once, under a rule of updates at every step or of one that goes layer by layer."""
    dense = "dense and ((runs_the_net and ottt_o) or ((divides or one_exchange) and exodus))"
    ended = pytest_on(2, tmp_path, "-k", f"({dense}) or (own_lengths and exodus) or (asks_for and ottt_o-polyak)")
    assert ended.returncode == 0 and "5 passed" in ended.stdout, ended.stdout


@pytest.mark.slow
def test_eight_devices_under_every_rule(tmp_path):
    ended = pytest_on(8, tmp_path)
    assert ended.returncode == 0 and "105 passed" in ended.stdout, ended.stdout
