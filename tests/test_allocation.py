"""A process that keeps its memory takes no pages from the operating system for its second step."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
import safjax
if sys.argv[1] == "keep":
    assert safjax.keep_memory()
f = jax.jit(lambda x: jnp.sort(x * 2)[::2].sum() + jnp.sort(x + 1)[::3].sum())
x = jnp.zeros(2**23)
f(x).block_until_ready(), f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
f(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_kept_process_takes_no_pages_anew():
    def faults(how):
        run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(run.stdout)

    kept, returned = faults("keep"), faults("return")
    assert returned > 10_000  # of 4 kB: 40 MB of 64 and more
    assert kept < returned / 20
