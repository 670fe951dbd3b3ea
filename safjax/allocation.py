"""How the process asks the operating system for memory.

XLA's CPU backend allocates one buffer for all temporary arrays of a compiled step, and frees it at the step's end. The
GNU C library takes so large a block from the operating system anew each time, which maps and zeroes it page by page
while the step runs: for 107 MB of temporary memory 54 ms of a step's 247 ms of processor time.
"""

import ctypes

import jax

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Keeps memory that has been freed for the process's next arrays, where the C library is GNU's.

    To be called once, before the first computation, in the thread that computes. The process then holds the most memory
    that it ever needed until it ends; blocks of 2 GiB and more are returned as before. It concerns all of the process,
    not JAX alone. And a computation on the CPU is waited for: the call returns when it is done, not before (JAX's
    setting jax_cpu_enable_async_dispatch); accelerators go on as before.

    Returns:
      Whether it has been done; on other systems, where there is no such setting, nothing is.

    Example:
      >>> import safjax
      >>> kept = safjax.keep_memory()  # first thing in a training script
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    done = [mallopt(option, _LARGEST) == 1 for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)]
    # Another thread than the main one would run a step in a heap of its own, of at most 64 MB. One heap for all threads
    # is no way out: compilers then wait for each other, and take half as long again.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return all(done)
