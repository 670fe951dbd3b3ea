"""safjax's rows of inference: a call over the whole sequence, and a stream of steps one by one."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import safjax
from experiments.benchmark.ours import net_of
from experiments.benchmark.work import Prepared, Program, Work


def prepare(work: Work, method: str) -> Prepared:
    """The mean output of a batch under "predict", or of one step after the other under "stream"."""
    net, inputs = net_of(work), jnp.asarray(work.batch()[0])
    net.eval()
    return (_call if method == "predict" else _stream)(work, net, inputs)


def _call(work: Work, net: nnx.Module, inputs: jax.Array) -> Prepared:
    steps = work.steps if work.static else None
    predict = functools.partial(safjax.predict, steps=steps, outputs="mean")

    def program() -> Program:
        graphdef, state = nnx.split(net)
        began = time.perf_counter()
        lowered = jax.jit(lambda state, x: predict(nnx.merge(graphdef, state), x)).lower(state, inputs)
        compiled: Any = lowered.compile()
        seconds = time.perf_counter() - began
        return Program(compiled.memory_analysis().temp_size_in_bytes, None, seconds, jax.default_backend())

    return Prepared(lambda: float(np.mean(predict(net, inputs))), program)


def _stream(work: Work, net: nnx.Module, inputs: jax.Array) -> Prepared:
    stream = safjax.stream(net)
    sequence = [inputs] * work.steps if work.static else list(inputs)
    start = stream.start(sequence[0])

    def turn() -> float:
        state, total = start, 0.0
        for x in sequence:
            state, output = stream(state, x)
            # Whoever streams has use for every output when it is there.
            total += float(np.mean(output))
        return total / work.steps

    return Prepared(turn, lambda: Program(device=jax.default_backend()))
