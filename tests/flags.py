"""Flags of the compiler for tests, which compile much and compute little."""

import os
import subprocess
import sys

LITTLE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
LESS = f"{LITTLE} --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
"""Takes less than half the time: small programs are not worth fusing, nor cutting into parts that compile in parallel.

XLA may drop a flag one day, and does not start with one it does not know.
"""


def quick_to_compile() -> str:
    """`LESS` where it is known."""
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(start, env={**os.environ, "XLA_FLAGS": LESS}, capture_output=True).returncode == 0
    return LESS if known else LITTLE
