"""What a training step costs on an accelerator that need not be there."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from safjax.aot import CompilationFailed, Cost, compile_for, cost_of, device_named
from safjax.aot.compiling import CACHE
from safjax.nn.graphs import split_net
from safjax.nn.training import TrainStep
from safjax.state import State


def cost(
    step: TrainStep,
    net: nnx.Module,
    x: Any,
    *targets: Any,
    device: str,
    key: jax.Array | None = None,
    state: State | None = None,
    lengths: jax.Array | None = None,
    cache: str | None = CACHE,
    announce: Callable[[str], None] | None = None,
) -> Cost:
    """Memory, kernels, bytes and operations of one call of a training step, as XLA compiles it for a device.

        print(safjax.cost(step, net, x, labels, device="h100"))

    Neither the device nor a driver is needed, but its compiler: `pip install 'safjax[aot-cuda]'` for GPUs, `aot-tpu`
    for TPUs. It compiles in a process of its own, 5 seconds to some minutes, and touches no device of this one. What is
    said is what the compiler knows; real times, and the workspace of cuDNN's algorithms, it does not.

    Args:
      step: of `safjax.train_step`.
      net, x, targets, key, state, lengths: as of a call of it. `jax.ShapeDtypeStruct`s may stand for all arrays, and a
        net may come from nnx.eval_shape(lambda: Net(...)): of a batch that fits nowhere here the cost can be had too.
      device: "a100", "h100", "h200", "l4", "v4", "v5e", "v5p" or "v6e".
      cache: folder where compiled programs are kept; None keeps none.
      announce: is told what is compiled before it is, for instance `print`.

    Raises:
      ValueError: there is no such device; or, of a TPU, the program does not fit into its memory.
      ImportError: the compiler for it is not installed; the message says what to install.
      RuntimeError: the compiler fails.
    """
    found = device_named(device)
    opt_state = jax.eval_shape(step.init_of, split_net(net)[1])
    call = step.call_of(net, opt_state, x, *targets, key=key, state=state, lengths=lengths)
    program = compile_for(found, {"the step": call}, cache=cache, announce=announce)["the step"]
    if isinstance(program, CompilationFailed):
        raise program
    return cost_of(program)
