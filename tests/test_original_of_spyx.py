"""Spyx's net for spoken digits against Spyx, where it is installed."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.surrogate import Sigmoid
from tests import nets
from tests.examples_of_the_field import spyx_shd
from tests.originals import in_float64

pytestmark = pytest.mark.usefixtures("x64")

LATE = 2
"""Each layer of neurons answers a step later there."""


def test_the_net_of_spyx():
    """There the readout is a sum that leaks, here its mean: the gain is Λ[T]."""
    pytest.importorskip("spyx")
    layers = importlib.import_module("spyx.nn")
    net, x, labels = in_float64(spyx_shd.Net(nnx.Rngs(0))), spyx_shd.inputs(), jnp.arange(3)
    lif = layers.LIF((16,), activation=Sigmoid(), rngs=nnx.Rngs(0))
    rlif = layers.RLIF((12,), activation=Sigmoid(), rngs=nnx.Rngs(0))
    graphs = nnx.split(lif)[0], nnx.split(rlif)[0]
    readout = layers.LI((4,), beta=0.8, rngs=nnx.Rngs(0))
    readout.beta = nnx.Param(jnp.asarray(0.8, float))
    padded = jnp.concatenate([x, jnp.zeros((LATE, *x.shape[1:]))])
    gain = sum(0.8**k for k in range(len(x)))

    def objective(params):
        enter, first, between, second, back, leave = params
        one, two = nnx.merge(graphs[0], {"beta": first}), nnx.merge(graphs[1], {"beta": second, "recurrent_w": back})

        def step(state, x):
            a, b, c = state
            one_fired, a = one(x @ enter, a)
            two_fired, b = two(one_fired @ between, b)
            output, c = readout(two_fired @ leave, c)
            return (a, b, c), (one_fired, two_fired, output)

        start = tuple(layer.initial_state(len(x[0])).astype(float) for layer in (lif, rlif, readout))
        one_fired, two_fired, outputs = jax.lax.scan(step, start, padded)[1]
        outputs = outputs[-1] / gain
        return spyx_shd.loss(outputs, labels), (one_fired[1 : len(x) + 1], two_fired[LATE:])

    params = [
        *(net.enter.layer.kernel, net.lif.decay, net.between.layer.kernel),
        *(net.rlif.neuron.decay, net.rlif.synapse.layer.kernel, net.leave.layer.kernel),
    ]
    values = [param[...] for param in params]
    (expected, spikes), expected_grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(values)
    last = safjax.losses.SequenceLoss(lambda outputs, labels: spyx_shd.loss(outputs[-1], labels))
    run = safjax.value_and_grad(last, safjax.rules.bptt(), record=("spikes",))
    (value, aux), grads = run(net, x, labels)
    nets.assert_fires(aux.rates)
    for ours, theirs in zip(aux.records["spikes"].values(), spikes, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    found = nnx.as_pure(grads)
    ours = [
        *(found["enter"]["layer"]["kernel"], found["lif"]["decay"], found["between"]["layer"]["kernel"]),
        *(found["rlif"]["neuron"]["decay"], found["rlif"]["synapse"]["layer"]["kernel"]),
        found["leave"]["layer"]["kernel"],
    ]
    nets.assert_trees_close(ours, expected_grads, rtol=1e-9)
    assert len(jax.tree.leaves(found)) == len(params)
