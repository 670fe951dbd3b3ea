"""Figures of accelerators: what a compiler must know of one that is not there, and what a roofline is made of.

They are those of the vendors' data sheets, without sparsity. Float32 products go through matrix units at the default
precision of JAX: as TF32 on GPUs, as one pass of bfloat16 on TPUs.
"""

from typing import NamedTuple


class Gpu(NamedTuple):
    """What XLA's compiler asks of a GPU.

    Attributes:
      capability: CUDA compute capability, (major, minor).
      cores: multiprocessors.
      units: float32 units of each.
      clock: GHz.
      cache: bytes of the second level.
      shared: bytes of memory that the threads of a core share; all, and the most that one block may have.
      threads: of a core, at most.
    """

    capability: tuple[int, int]
    cores: int
    units: int
    clock: float
    cache: int
    shared: tuple[int, int]
    threads: int


class Device(NamedTuple):
    """An accelerator.

    Attributes:
      name: as `DEVICES` has it.
      title: as it is sold.
      platform: as JAX calls it.
      memory: bytes.
      bandwidth: bytes a second, of its memory.
      float32, bfloat16: operations a second of products of such numbers; a multiplication and an addition are two.
      gpu: None of a TPU.
    """

    name: str
    title: str
    platform: str
    memory: int
    bandwidth: float
    float32: float
    bfloat16: float
    gpu: Gpu | None = None

    def operations(self, narrow: bool) -> float:
        """A second, of products whose factors are float32, or narrower."""
        return self.bfloat16 if narrow else self.float32


MIB, GB = 2**20, 10**9
_AMPERE = Gpu((8, 0), 108, 64, 1.41, 40 * MIB, (167936, 166912), 2048)
_HOPPER = Gpu((9, 0), 132, 128, 1.98, 50 * MIB, (233472, 232448), 2048)
_ADA = Gpu((8, 9), 58, 128, 2.04, 48 * MIB, (102400, 101376), 1536)

_ALL = (
    Device("a100", "NVIDIA A100 SXM 80 GB", "cuda", 85_100_068_864, 2.039e12, 156e12, 312e12, _AMPERE),
    Device("h100", "NVIDIA H100 SXM 80 GB", "cuda", 84_942_979_072, 3.352e12, 494.7e12, 989.4e12, _HOPPER),
    Device("h200", "NVIDIA H200 141 GB", "cuda", 151_397_597_184, 4.8e12, 494.7e12, 989.4e12, _HOPPER),
    Device("l4", "NVIDIA L4 24 GB", "cuda", 24_152_899_584, 0.3e12, 60e12, 121e12, _ADA),
    Device("v4", "TPU v4", "tpu", 32 * GB, 1.228e12, 275e12, 275e12),
    Device("v5e", "TPU v5e", "tpu", 16 * GB, 0.819e12, 197e12, 197e12),
    Device("v5p", "TPU v5p", "tpu", 95 * GB, 2.765e12, 459e12, 459e12),
    Device("v6e", "TPU v6e", "tpu", 32 * GB, 1.638e12, 918e12, 918e12),
)

DEVICES = {device.name: device for device in _ALL}
"""Every device by its name."""


def device_named(name: str) -> Device:
    """The device of this name.

    Raises:
      ValueError: there is none.
    """
    if name not in DEVICES:
        raise ValueError(f"device={name!r}: expected one of {', '.join(DEVICES)}.")
    return DEVICES[name]
