"""What process 0 tells the others: it alone has the folder of the run."""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.storage.arrays import Arrays
from experiments.storage.checkpoints import Snapshot


def from_first(value: Any) -> Any:
    """The value that process 0 gives, made of what JSON has, in every process."""
    if jax.process_count() == 1:
        return value
    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
    return json.loads(_bytes_from_first(content, length).tobytes())


def snapshot_from_first(snapshot: Snapshot | None) -> Snapshot | None:
    """The snapshot that process 0 gives, bit by bit, in every process."""
    if jax.process_count() == 1:
        return snapshot
    described = from_first(snapshot and [snapshot.step, *map(_described, snapshot[1:3]), snapshot.values])
    if described is None:
        return None
    step, *items, values = described
    held = snapshot[1:3] if snapshot else ({}, {})
    net, optimizer = (_arrays_from_first(item, arrays) for item, arrays in zip(items, held, strict=True))
    return Snapshot(step, net, optimizer, values)


def _described(arrays: Arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype.name, array.shape) for name, array in arrays.items()}


def _arrays_from_first(described: dict[str, Any], held: Arrays) -> Arrays:
    arrays = {}
    for name, (dtype, shape) in described.items():
        number = jax.numpy.dtype(dtype)
        content = np.ascontiguousarray(held[name]).reshape(-1).view(np.uint8) if held else np.zeros(0, np.uint8)
        received = _bytes_from_first(content, number.itemsize * int(np.prod(shape)))
        arrays[name] = received.view(number).reshape(shape)
    return arrays


def _bytes_from_first(content: np.ndarray, length: int) -> np.ndarray:
    """Bytes, since of numbers the sum that a broadcast is would lose the sign of a zero."""
    mine = content if jax.process_index() == 0 else np.zeros(length, np.uint8)
    return np.array(multihost_utils.broadcast_one_to_all(mine), np.uint8)
