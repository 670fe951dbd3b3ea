"""A net with batch normalisation, for the tests of that."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from safjax import rules
from safjax.nn import LIF, BatchNorm, LeakyReadout, Synapse
from tests import nets
from tests.tables import BROAD

STEPWISE = {"bptt": rules.bptt(), "bptt, remat": rules.bptt(remat=True), "sltt": rules.sltt()}
LAYERWISE = {"bptt, layerwise": rules.bptt(layerwise=True), "exodus": rules.exodus(), "slayer": rules.slayer()}
ACCUMULATING = {name: make() for name, make in BROAD.items() if make().propagation.accumulates}
EVERY = {**STEPWISE, **LAYERWISE, **ACCUMULATING}
MOMENTUM, EPSILON, DEVIATION = 0.8, 1e-3, 1.3


def norm(features, over, seed=0, **options):
    options = {"momentum": MOMENTUM, "epsilon": EPSILON, "deviation": DEVIATION, **options}
    layer, rng = BatchNorm(features, over=over, param_dtype=nets.DTYPE, **options), np.random.default_rng(seed)
    ranges = {"scale": (0.6, 1.2), "bias": (-0.1, 0.9), "mean": (-1, 1), "var": (1, 2)}
    for name, (low, high) in ranges.items():
        if getattr(layer, name) is not None:
            getattr(layer, name)[...] = jnp.asarray(rng.uniform(low, high, features))
    return layer


class Net(nnx.Module):
    """Two hidden layers, a convolution and a dense one, both normalised."""

    def __init__(self, make=norm, over="step", second=True):
        rngs = nnx.Rngs(0)
        # A bias before a normalisation has no gradient.
        made = {"use_bias": False, "param_dtype": nets.DTYPE, "rngs": rngs}
        self.first, self.lif1 = Synapse(nnx.Sequential(nnx.Conv(2, 4, (3, 3), **made), make(4, over))), LIF()
        dense = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(6 * 6 * 4, 8, **made))
        self.second = Synapse(nnx.Sequential(*dense.layers, make(8, over, 1)) if second else dense)
        self.lif2, self.last, self.readout = LIF(), Synapse(nets._dense(8, nets.CLASSES, rngs)), LeakyReadout(0.5)

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.lif1(self.first(x))))))


def spike_trains():
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (nets.STEPS, nets.BATCH, 7)))


INPUTS = {
    "image": (nets.image, nets.STEPS),
    "sequence": (nets.video, None),
    "vectors": (lambda: spike_trains()[0], nets.STEPS),
}
"""An input and how many steps it is shown; None for a sequence."""
KINDS = ["image", "sequence"]


def trained(net, rule, kind="sequence"):
    """The value, the outputs, the gradient and the running statistics after one batch."""
    make, steps = INPUTS[kind]
    (value, aux), grads = nets.value_and_grad(nets.loss, rule, steps, outputs="all")(net, make(), nets.labels())
    nets.assert_fires(aux.rates)
    return (value, aux.outputs), grads, statistics(net)


def statistics(net):
    return nnx.as_pure(nnx.state(net, nnx.BatchStat))


def assert_same(actual, expected, rtol=1e-12):
    (run, grads, stats), (expected_run, expected_grads, expected_stats) = actual, expected
    for a, b in zip(jax.tree.leaves(run), jax.tree.leaves(expected_run), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    nets.assert_trees_close(grads, expected_grads, rtol)
    nets.assert_trees_close(stats, expected_stats, rtol)


class Around(nnx.Module):
    """Normalised before the first synapse and after the readout, in plain code."""

    def __init__(self, over="step", front=norm, after=True):
        self.front, self.net = front(7, over), nets.Dense()
        self.after = norm(nets.CLASSES, over, 1) if after else lambda x: x

    def __call__(self, x):
        return self.after(self.net(2 * jnp.tanh(self.front(x))))


class Stacked(nnx.Module):
    """Blocks of one shape, in nnx.scan or one by one."""

    def __init__(self, over, scanned=True):
        rngs, self.scanned = nnx.Rngs(1), scanned
        self.first, self.lif = Synapse(nets._dense(7, 9, nnx.Rngs(0))), LIF()
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, nnx.Rngs(2))), LeakyReadout(0.5)

        def make(rngs):
            dense = nnx.Linear(9, 9, use_bias=False, param_dtype=nets.DTYPE, rngs=rngs)
            return nnx.Sequential(Synapse(nnx.Sequential(dense, norm(9, over))), LIF())

        self.blocks = nnx.split_rngs(splits=2)(nnx.vmap(make, in_axes=(0,), out_axes=0))(rngs)
        if not scanned:
            graphdef, state = nnx.split(self.blocks)
            self.blocks = nnx.List([nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state)) for i in range(2)])

    def __call__(self, x):
        x = self.lif(self.first(x))
        if self.scanned:
            x = nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)
        else:
            x = functools.reduce(lambda x, block: block(x), self.blocks, x)
        return self.readout(self.last(x))
