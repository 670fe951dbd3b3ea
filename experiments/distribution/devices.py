"""The devices that train together: a mesh of one axis, along which every batch is divided.

They may be of several processes (see `experiments.distribution.processes`), each of which reads its own part of every
batch.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.config import ConfigError, Run
from experiments.storage.arrays import is_key

AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a run.

    Attributes:
      mesh: all of them, those of process 0 first.
    """

    mesh: Mesh

    def share(self, rows: Any) -> Any:
        """The part of a batch that this process reads: as many consecutive rows for each process, in order."""
        count = len(rows) // jax.process_count()
        return rows[jax.process_index() * count :][:count]

    def divide(self, rows: Any) -> jax.Array:
        """The batch of whose rows each process gives its `share`, divided among the devices along its first axis."""
        return jax.make_array_from_process_local_data(self._placed(AXIS), np.asarray(rows))

    def replicate(self, tree: Any) -> Any:
        """A pytree of arrays, equal in all processes, on every device."""
        placed = self._placed()
        if jax.process_count() == 1:
            return jax.device_put(tree, placed)

        def everywhere(array: Any) -> jax.Array:
            if is_key(array):
                numbers = everywhere(jax.random.key_data(array))
                return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(array))
            host = np.asarray(array)
            return jax.make_array_from_callback(host.shape, placed, lambda part: host[part])

        return jax.tree.map(everywhere, tree)

    def _placed(self, *axes: str) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def choose(run: Run, batch_size: int) -> Devices:
    """The devices that a configuration asks for, to divide batches of so many examples among them.

    Raises:
      ConfigError: there are fewer, or a batch cannot be divided among them.
    """
    devices = Devices(Mesh(_chosen(run.devices), (AXIS,)))
    _check_batch(batch_size, devices.mesh.size)
    return devices


def _chosen(count: int | None) -> list[jax.Device]:
    """The first `count` devices of each process; without a number all accelerators, or one CPU."""
    per_process = [jax.local_devices(process) for process in range(jax.process_count())]
    fewest = min(map(len, per_process))
    if count is None:
        count = 1 if jax.default_backend() == "cpu" else fewest
    if count > fewest:
        raise ConfigError(
            f"--devices={count} is more than there are: JAX sees {fewest} ({jax.default_backend()}) in a process. Give "
            f"{fewest} or fewer; on CPU, XLA_FLAGS=--xla_force_host_platform_device_count={count} makes {count} of one."
        )
    return [device for local in per_process for device in local[:count]]


def _check_batch(batch_size: int, devices: int) -> None:
    if batch_size % devices:
        below = batch_size // devices * devices
        near = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ConfigError(
            f"--batch-size={batch_size} cannot be divided among {devices} devices into equal parts. Give {near} "
            "examples, or another number of --devices."
        )


class Agreement:
    """Lets all processes know the largest number that one of them gives, by one small exchange a call.

    Each must call it as often. With several processes the answer is that to the call before, so that nobody waits for
    the devices.
    """

    def __init__(self, devices: Devices):
        self._devices, self._before = devices, None
        self._own = sum(device.process_index == jax.process_index() for device in devices.mesh.devices.flat)

    def __call__(self, number: int) -> int:
        if jax.process_count() == 1:
            return number
        before, self._before = self._before, _largest(self._devices.divide(np.full(self._own, number, np.int32)))
        return 0 if before is None else int(before)


_largest = jax.jit(jax.numpy.max)
