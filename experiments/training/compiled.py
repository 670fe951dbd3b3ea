"""Compiled programs are kept from run to run: the second run of a net starts at once."""

import hashlib
import platform
from pathlib import Path

import jax

from experiments.config import ConfigError, Run

FOLDER = "jax_compilation_cache_dir"

QUICK = 0.1
"""Seconds; what compiles in less is not kept."""


def keep_compiled(folder: str | None) -> None:
    """Lets JAX keep what it compiles in `folder`, in a part of it for machines like this one; None keeps nothing.

    Where JAX was told of another folder already, by JAX_COMPILATION_CACHE_DIR for instance, that one holds.

    Raises:
      ConfigError: nothing can be written there; not of the folder that nobody asked for.
    """
    if folder is None or getattr(jax.config, FOLDER) is not None:
        return
    path = Path(folder).expanduser().absolute() / _this_machine()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder == Run().compiled:
            return
        raise ConfigError(
            f"--compiled={folder} cannot be written ({error.strerror}). Give another folder, or --compiled=None, which "
            "compiles anew in every run."
        ) from error
    jax.config.update(FOLDER, str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", QUICK)


def _this_machine() -> str:
    """A name that machines with other instructions do not have: a home folder may be shared by many."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # "flags" on x86, "Features" on Arm.
    instructions = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(instructions.encode()).hexdigest()[:12]}"
