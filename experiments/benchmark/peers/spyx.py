"""Spyx: Flax modules under one `lax.scan`."""

import functools
import itertools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import spyx
from flax import nnx

from experiments.benchmark.work import RECURRENT_WEIGHT, Prepared, Program, Work


def prepare(work: Work, method: str) -> Prepared:
    """The training step under bptt, or inference under predict."""
    # As in safjax's rows: a step then has its memory from the heap that keeps it.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    inputs, labels = map(jnp.asarray, work.batch())
    if work.static:
        inputs = jnp.broadcast_to(inputs, (work.steps, *inputs.shape))
    net = net_of(work)
    if method == "predict":
        return _predicting(net, inputs)
    optimizer = nnx.Optimizer(net, optax.sgd(0.01, momentum=0.9) if work.static else optax.adam(1e-3), wrt=nnx.Param)
    train_step = spyx.optimize.make_train_step(_loss)

    def step() -> float:
        value = train_step(net, optimizer, inputs, labels)
        jax.block_until_ready((value, nnx.state(optimizer)))
        return float(value)

    def program() -> Program:
        began = time.perf_counter()
        compiled = train_step.lower(net, optimizer, inputs, labels).compile()
        seconds = time.perf_counter() - began
        temp_bytes = compiled.memory_analysis().temp_size_in_bytes
        return Program(temp_bytes, compile_seconds=seconds, device=jax.default_backend())

    return Prepared(step, program)


def _predicting(net: nnx.Module, inputs: jax.Array) -> Prepared:
    run = nnx.jit(lambda net, inputs: spyx.nn.run(net, inputs)[0].mean(0))
    return Prepared(lambda: float(run(net, inputs).mean()), lambda: Program(device=jax.default_backend()))


def _loss(net: nnx.Module, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    logits, _ = spyx.nn.run(net, inputs)
    every_label = jnp.broadcast_to(labels, logits.shape[:-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, every_label).mean()


def net_of(work: Work, method: str = "bptt") -> nnx.Module:
    """The network, freshly initialised."""
    del method
    make = {"dense": _dense_layers, "conv": _conv_layers, "pooled": _pooled_layers, "recurrent": _recurrent_layers}
    return spyx.nn.Sequential(*make[work.network](work, nnx.Rngs(0)))


def _dense_layers(work: Work, rngs: nnx.Rngs) -> list[Callable]:
    layers: list[Callable] = []
    for inputs, neurons in itertools.pairwise(work.sizes[:-1]):
        layers += [nnx.Linear(inputs, neurons, rngs=rngs), _neuron(work, (neurons,), rngs)]
    return [*layers, nnx.Linear(*work.sizes[-2:], rngs=rngs)]


def _conv_layers(work: Work, rngs: nnx.Rngs) -> list[Callable]:
    (image, one, two, three), size = work.sizes, work.image_size
    conv = functools.partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
    return [
        conv(image, one),
        _neuron(work, (size, size, one), rngs),
        conv(one, two),
        _neuron(work, (size, size, two), rngs),
        _halve,
        conv(two, three),
        _neuron(work, (size // 2, size // 2, three), rngs),
        _halve,
        _mean,
        nnx.Linear(three, work.classes, rngs=rngs),
    ]


def _pooled_layers(work: Work, rngs: nnx.Rngs) -> list[Callable]:
    layers: list[Callable] = []
    size = work.image_size
    for inputs, features in itertools.pairwise(work.sizes):
        size = (size - 4) // 2
        conv = nnx.Conv(inputs, features, (5, 5), padding="VALID", rngs=rngs)
        layers += [conv, _largest, _neuron(work, (size, size, features), rngs)]
    return [*layers, _flat, nnx.Linear(work.flat, work.classes, rngs=rngs)]


def _recurrent_layers(work: Work, rngs: nnx.Rngs) -> list[Callable]:
    inputs, neurons, classes = work.sizes
    own = spyx.nn.RLIF((neurons,), beta=work.decay, activation=spyx.axn.custom(bwd=_slope), rngs=rngs)
    own.beta = nnx.Variable(own.beta[...])
    init = nnx.initializers.normal(RECURRENT_WEIGHT)
    first = nnx.Linear(inputs, neurons, use_bias=False, kernel_init=init, rngs=rngs)
    return [first, own, nnx.Linear(neurons, classes, use_bias=False, rngs=rngs)]


def _neuron(work: Work, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
    lif = spyx.nn.LIF(shape, beta=work.decay, activation=spyx.axn.custom(bwd=_slope), rngs=rngs)
    # The other rows have a fixed decay too.
    lif.beta = nnx.Variable(lif.beta[...])
    return lif


def _slope(x: jax.Array) -> jax.Array:
    s = jax.nn.sigmoid(4 * x)
    return 4 * s * (1 - s)


def _halve(x: jax.Array) -> jax.Array:
    return nnx.avg_pool(x, (2, 2), (2, 2))


def _largest(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (2, 2), (2, 2))


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def _mean(x: jax.Array) -> jax.Array:
    return x.mean((1, 2))
