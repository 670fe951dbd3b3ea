"""Ahead of time: programs compiled for accelerators that are not there, and what they cost.

XLA compiles for a GPU or TPU without one, where its plugin is installed (`safjax.aot.plugins`). The result says how
much memory the program takes and what kernels it is made of; not how long it really runs.
"""

from safjax.aot.compiling import Call, CompilationFailed, Memory, Program, compile_for
from safjax.aot.cost import ASSUMPTION, Cost, cost_of
from safjax.aot.devices import DEVICES, Device, device_named
from safjax.aot.plugins import CompilerMissing

__all__ = [
    "ASSUMPTION",
    "DEVICES",
    "Call",
    "CompilationFailed",
    "CompilerMissing",
    "Cost",
    "Device",
    "Memory",
    "Program",
    "compile_for",
    "cost_of",
    "device_named",
]
