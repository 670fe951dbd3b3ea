"""A process that keeps its memory takes no pages from the operating system for its later steps."""

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
# What goes around a loop is in memory: 96 MB, more than a heap of another thread than the main one can hold.
f = jax.jit(lambda x: sum(map(jnp.sum, jax.lax.fori_loop(0, 3, lambda i, c: (c[0] * 2, c[1] + i, -c[2]), (x,) * 3))))
x = jnp.zeros(2**23)
faults = []
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[15])  # at first each of its threads takes some
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_kept_process_takes_no_pages_anew():
    def faults(how):
        run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(run.stdout)

    kept, returned = faults("keep"), faults("return")
    assert returned > 10_000  # of 4 kB: 40 MB of 96
    assert kept < returned / 20
