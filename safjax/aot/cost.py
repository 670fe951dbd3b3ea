"""What a compiled program costs on its device: memory, kernels, bytes and operations, and how fast it could be."""

from typing import NamedTuple

from safjax.aot.compiling import Memory, Program
from safjax.aot.devices import Device
from safjax.aot.hlo import bodies, parse
from safjax.aot.kernels import kernels

LAUNCH = 2e-6
"""Seconds between the starts of two kernels of a GPU, about."""

EXCHANGES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

ASSUMPTION = (
    "The roofline takes each kernel for as fast as either its bytes pass through memory or its products through the "
    "matrix units, by the data sheet; nothing between kernels, no cache, and none of cuDNN's workspace."
)


class Cost(NamedTuple):
    """What one run of a program costs each of its devices.

    Attributes:
      device: for which it was compiled.
      devices: how many of them.
      memory: what is in the device's memory.
      kernels: how many are started, loops counted as often as they run.
      bytes: that they read and write.
      operations: of their convolutions and matrix products, a multiplication and an addition being two.
      seconds: by the roofline, see `ASSUMPTION`.
      exchanges: how often the devices exchange arrays; of several at once each counts.
      exchanged: bytes of these.
      at_most: whether loops that may end sooner, and branches of which one is taken, were all counted in full.
    """

    device: Device
    devices: int
    memory: Memory
    kernels: int
    bytes: int
    operations: int
    seconds: float
    exchanges: int
    exchanged: int
    at_most: bool

    def __str__(self) -> str:
        memory, most = self.memory, "at most " if self.at_most else ""
        fits, many = "fits" if self.fits else "does not fit", f" × {self.devices}" if self.devices > 1 else ""
        lines = [
            f"{self.device.title}{many}: {fits} into {_gb(self.device.memory)}",
            f"  memory      {_gb(memory.total)}: {_gb(memory.arguments)} given, {_gb(memory.temporary)} temporary, "
            f"{_gb(memory.outputs - memory.shared)} returned",
            f"  kernels     {most}{self.kernels:,}",
            f"  moved       {most}{_gb(self.bytes)}",
            f"  products    {most}{self.operations / 1e12:.3g} T operations",
            f"  roofline    {most}{1e3 * self.seconds:.3g} ms{self._beside()}",
        ]
        if self.exchanges:
            lines.append(f"  exchanges   {self.exchanges:,} of {_gb(self.exchanged)} together")
        return "\n".join(lines)

    def _beside(self) -> str:
        return f"; {1e3 * self.launches:.3g} ms for starting kernels" if self.launches else ""

    @property
    def launches(self) -> float:
        """Seconds that starting the kernels takes, about; a small program on a GPU takes at least that long."""
        return 0.0 if self.device.platform == "tpu" else self.kernels * LAUNCH

    @property
    def fits(self) -> bool:
        """Whether all is in the device's memory at once. JAX itself takes three quarters of a GPU's, unless told."""
        return self.memory.total <= self.device.memory


def cost_of(program: Program) -> Cost:
    """The cost of a compiled program."""
    module = parse(program.text)
    count = moved = operations = exchanges = exchanged = 0
    seconds, at_most = 0.0, False
    for body in bodies(module):
        at_most |= body.at_most
        for kernel in kernels(module, body.operations):
            count += body.times
            moved += body.times * kernel.bytes
            operations += body.times * kernel.operations
            rate = program.device.operations(kernel.narrow)
            seconds += body.times * max(kernel.bytes / program.device.bandwidth, kernel.operations / rate)
            if kernel.operation.kind.removesuffix("-start") in EXCHANGES:
                exchanges += body.times
                exchanged += body.times * kernel.bytes // 2
    totals = count, moved, operations, seconds, exchanges, exchanged
    return Cost(program.device, program.devices, program.memory, *totals, at_most)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
