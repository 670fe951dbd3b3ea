"""Training steps of small nets as shapes, and what is looked for in what a compiler makes of them."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from safjax.aot import CompilerMissing, compile_for, device_named
from safjax.aot.hlo import bodies
from safjax.aot.kernels import kernels
from safjax.aot.plugins import versions
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.nn.graphs import split_net

CLASSES, BATCH, SIDE, CHANNELS, SIZES = 10, 16, 16, (32, 64), (140, 128, 128)


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def vgg():
    """Two convolutions with pooling between them."""
    one, two = CHANNELS
    return safjax.models.SpikingVGG(CLASSES, cfg=(one, "M", two), rngs=nnx.Rngs(0))


def dense():
    """Two hidden layers of LIF neurons."""
    rngs, layers = nnx.Rngs(0), []
    for inputs, outputs in itertools.pairwise(SIZES):
        layers += [Synapse(nnx.Linear(inputs, outputs, rngs=rngs)), LIF(0.9)]
    return nnx.Sequential(*layers, Synapse(nnx.Linear(SIZES[-1], CLASSES, rngs=rngs)), LeakyReadout())


def call(make, rule, steps, batch=BATCH, **options):
    """The training step of a net, of an image that is shown or a sequence; no number is computed."""
    image = make is not dense
    shape = (batch, SIDE, SIDE, 3) if image else (steps, batch, SIZES[0])
    step = safjax.train_step(loss, rule, optax.sgd(0.1, momentum=0.9), steps if image else None, **options)
    net = nnx.eval_shape(make)
    opt_state = jax.eval_shape(step.init_of, split_net(net)[1])
    return step.call_of(
        net, opt_state, jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    )


def compiled(device, calls):
    """The programs; the test is skipped where the compiler is not installed."""
    try:
        versions(device_named(device).platform)
    except CompilerMissing as error:
        pytest.skip(str(error))
    return compile_for(device_named(device), calls, cache=None)


def moved_in_loops(module, least):
    """Operations in loops that only copy or transpose so many bytes: (name, bytes)."""
    found = []
    for body in bodies(module):
        for kernel in kernels(module, body.operations) if body.in_loop else ():
            op = kernel.operation
            inner = {one.kind for one in module.within(op)} - {"parameter", "bitcast", "tuple"}
            only = op.kind in ("copy", "transpose") or (
                op.kind == "fusion" and inner and inner <= {"copy", "transpose"}
            )
            if only and kernel.bytes >= least:
                found.append((op.name, op.type, kernel.bytes))
    return found


def exchanges(rule, steps, folder):
    """How often four devices exchange arrays in a step of the experiments, by the table of `experiments.fits`."""
    flags = ["--method", rule, "--steps", str(steps), "--devices=4", "--layers", "8", "M", "8", "--no-largest"]
    command = [sys.executable, "-m", "experiments.fits", "cifar10", *flags, f"--compiled={folder}", "--batch-size=8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    heads, _, cells = (line.strip("| ").split(" | ") for line in done.stdout.splitlines()[:3])
    return int(dict(zip(heads, cells, strict=True))["exchanges"].split(" of ")[0])


def everything(module):
    """All operations, in fusions too."""
    return [op for operations in module.computations.values() for op in operations]
