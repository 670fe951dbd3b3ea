"""What a compiler is told of a device that is not there."""

from math import prod
from typing import Any

from safjax.aot.devices import Device, Gpu


def target_of(device: Device, count: int) -> dict[str, Any]:
    """{"platform": ..., "topology": ..., "options": ...} of so many devices, as `jax.experimental.topologies` takes it.

    Raises:
      ValueError: there is no such number of TPUs.
    """
    if device.gpu is None:
        return {"platform": "tpu", "topology": f"{device.name}:{_grid(device, count)}", "options": {}}
    told = {"target_config": _text(_configuration(device, device.gpu)), "topology": f"1x1x{count}"}
    return {"platform": "cuda", "topology": "", "options": told}


def _grid(device: Device, count: int) -> str:
    """The smallest usual topology of so many chips: a rectangle, of v4 and v5p a box."""
    flat = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
    boxes = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8))
    for shape in boxes if device.name in ("v4", "v5p") else flat:
        if prod(shape) >= count:
            return "x".join(map(str, shape))
    raise ValueError(f"{count} devices of {device.title}: expected 256 or fewer.")


def _configuration(device: Device, gpu: Gpu) -> dict[str, Any]:
    """A `stream_executor.GpuTargetConfigProto` by the names of its fields."""
    major, minor = gpu.capability
    shared, optin = gpu.shared
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": shared,
        "shared_memory_per_block_optin": optin,
        "threads_per_core_limit": gpu.threads,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.units,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "thread_dim_limit_x": 1024,
        "thread_dim_limit_y": 1024,
        "thread_dim_limit_z": 64,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "memory_bandwidth": int(device.bandwidth),
        "l2_cache_size": gpu.cache,
        "clock_rate_ghz": gpu.clock,
        "device_memory_size": device.memory,
        "cuda_compute_capability": {"major": major, "minor": minor} | ({"feature_extension": 1} if major == 9 else {}),
        "device_vendor": "NVIDIA Corporation",
        "name": device.title,
        "driver_version": "13.0.0",
        "runtime_version": "12.8.0",
        "compile_time_toolkit_version": "12.8.0",
        "dnn_version": "9.10.0",
    }
    return {
        "gpu_device_info": info,
        "platform_name": "CUDA",
        "dnn_version_info": {"major": 9, "minor": 10},
        "runtime_version": {"major": 12, "minor": 8},
        "device_description_str": device.title,
    }


def _text(fields: dict[str, Any]) -> str:
    """Protocol buffers' text format."""
    parts = []
    for name, value in fields.items():
        if isinstance(value, dict):
            parts.append(f"{name} {{ {_text(value)} }}")
        else:
            parts.append(f'{name}: "{value}"' if isinstance(value, str) else f"{name}: {value}")
    return " ".join(parts)
