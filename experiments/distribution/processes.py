"""Several processes, of one or of several machines, that train one net; they meet at process 0, which alone writes.

A process that dies takes the others with it, and never silently. Those that lose a connection by it end with an error
at once. For the rest JAX's coordinator sees to it: at once when it is process 0 that dies, else 100 seconds after the
last sign of life, all others are ended with a message (exit code 134). Started again with --resume, they go on.
"""

import hashlib
import json
import os
import sys
import time
import traceback

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.config import Config, ConfigError, Run, to_json
from experiments.console.messages import say

OWN = ("process", "data_dir", "workdir", "quiet")
"""Fields that each process may have its own of."""


def join(config: Config) -> Config:
    """Waits for all processes of a run, if it has several; must be called before anything is computed.

    Returns:
      The configuration; in processes other than 0, a quiet one.

    Raises:
      ConfigError: the processes do not find each other, or were started with different flags.
    """
    if config.run.coordinator is None:
        return config
    if not jax.distributed.is_initialized():
        _initialise(config.run)
    _check_flags(config)
    return config if writes() else config.changed(quiet=True)


def writes() -> bool:
    """Whether this process prints and writes: process 0 does."""
    return jax.process_index() == 0


def leave(code: int) -> int:
    """Returns the exit code; of several processes, ends this one at once with it."""
    if not jax.distributed.is_initialized():
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    if writes():
        # What went wrong may be the same everywhere. When process 0 ends, the others cannot tell any more.
        time.sleep(1)
    os._exit(code)


def leave_if_several() -> None:
    """While an error is handled that nobody foresaw: of several processes, ends this one at once with a traceback."""
    if jax.distributed.is_initialized():
        traceback.print_exc()
        leave(1)


def _initialise(run: Run) -> None:
    # It would take SIGTERM for itself, on which a run saves and stops.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if run.coordinator == "auto":
            jax.distributed.initialize()
        else:
            say(f"process {run.process} waits for all {run.processes} at {run.coordinator}")
            jax.distributed.initialize(run.coordinator, run.processes, run.process)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--coordinator={run.coordinator}: the processes did not find each other ({error}). Start the same "
            "command once for each process, with --coordinator=HOST:PORT of process 0, a port that is free there, and "
            "--processes=N --process=0 .. N - 1; auto is for Slurm, Open MPI, Kubernetes and Cloud TPUs."
        ) from error


def _check_flags(config: Config) -> None:
    """Refuses processes of different configurations, which would wait for each other without end."""
    common = {name: value for name, value in to_json(config).items() if name not in OWN}
    digest = hashlib.sha256(json.dumps(common).encode()).digest()
    digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    if other := [str(process) for process, each in enumerate(digests) if (each != digests[0]).any()]:
        raise ConfigError(
            f"process {', '.join(other)} was started with other flags than process 0. Give all processes the same, but "
            f"for {', '.join('--' + name.replace('_', '-') for name in OWN)}."
        )
