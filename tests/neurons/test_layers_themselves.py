"""Recurrent neurons, learned constants and neurons of all steps at once against the layers of installed libraries."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.losses import SequenceLoss
from safjax.neurons import masked_weight, psn, run_cell, sliding_psn
from safjax.nn import IF, LIF, AfterDecay, CurrentLIF, InstantReadout, Recurrent, Synapse
from safjax.surrogate import Sigmoid
from tests import nets
from tests.neurons.other_libraries import ALPHA, BETA, KAPPA, THETA
from tests.neurons.test_libraries_themselves import snntorch, wide
from tests.neurons.test_other_libraries import spike_of_torch

pytestmark = pytest.mark.usefixtures("x64")

STEPS, BATCH, UNITS = 12, 3, 9


def drawn():
    """Currents, weights of the spikes in a loss, and weights from spikes to currents of the next step."""
    rng = np.random.default_rng(0)
    shape = (STEPS, BATCH, UNITS)
    return rng.normal(0.3, 1.0, shape), rng.normal(size=shape), rng.normal(0, 0.4, (UNITS, UNITS))


def ours(neuron, late, detach):
    """Spikes, and the gradient by what leads them back, of a loss that does not see the last `late` of them."""
    currents, weights, back = drawn()
    linear = nnx.Linear(UNITS, UNITS, use_bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    linear.kernel[...] = jnp.asarray(back)
    net = nnx.Sequential(Synapse(lambda x: x), Recurrent(neuron, Synapse(linear)), InstantReadout())
    loss = SequenceLoss(lambda outputs: jnp.vdot(weights[late:], outputs[: STEPS - late]))
    rule = safjax.rules.bptt(detach_reset=detach)
    (_, aux), grads = safjax.value_and_grad(loss, rule, outputs="all")(net, jnp.asarray(currents))
    nets.assert_fires(aux.rates)
    spikes = np.concatenate([np.zeros((late, BATCH, UNITS)), aux.outputs])[:STEPS]
    return spikes, nnx.as_pure(grads)["layers"][1]["synapse"]["layer"]["kernel"]


SNNTORCH = {
    "RLeaky": (LIF(BETA, THETA, reset=1 / BETA), {"beta": BETA}),
    "RSynaptic": (CurrentLIF(ALPHA, BETA, THETA, reset=1 / BETA), {"alpha": ALPHA, "beta": BETA}),
}


@pytest.mark.parametrize("name", SNNTORCH)
def test_recurrent_neurons_of_snntorch(name):
    pytest.importorskip("snntorch")
    torch, (neuron, constants) = importlib.import_module("torch"), SNNTORCH[name]
    currents, weights, back = drawn()
    # The wrapper gives constants as float64; the number of features is none.
    run = snntorch(name, linear_features=UNITS, **constants)
    layer = run.__closure__[0].cell_contents.double()
    layer.recurrent.weight.data, layer.recurrent.bias.data = wide(back.T), wide(np.zeros(UNITS))
    spikes = torch.stack(run(torch.tensor(currents)))
    (torch.tensor(weights) * spikes).sum().backward()
    expected, gradient = ours(neuron, 0, True)
    np.testing.assert_array_equal(spikes.detach().numpy(), expected)
    nets.assert_trees_close(layer.recurrent.weight.grad.numpy().T, gradient, rtol=1e-10)


OF_SPYX = {
    "RIF": (IF(THETA), {}),
    "RLIF": (LIF(BETA, THETA, reset=1 / BETA), {"beta": BETA}),
    "RCuBaLIF": (CurrentLIF(ALPHA, BETA, THETA), {"alpha": ALPHA, "beta": BETA}),
}


@pytest.mark.parametrize("name", OF_SPYX)
def test_recurrent_neurons_of_spyx(name):
    pytest.importorskip("spyx")
    neuron, constants = OF_SPYX[name]
    currents, weights, back = drawn()
    options = {"threshold": THETA, "activation": Sigmoid(), "rngs": nnx.Rngs(0)}
    layer = getattr(importlib.import_module("spyx.nn"), name)((UNITS,), **constants, **options)
    for constant, value in constants.items():
        setattr(layer, constant, nnx.Param(jnp.asarray(value, float)))
    graph, state = nnx.split(layer)
    state = nnx.as_pure(state)

    def objective(back):
        layer = nnx.merge(graph, {**state, "recurrent_w": back})
        step = lambda state, x: layer(x, state)[::-1]  # noqa: E731
        _, spikes = jax.lax.scan(step, layer.initial_state(BATCH).astype(float), jnp.asarray(currents))
        return jnp.vdot(weights, spikes), spikes

    expected, spikes = jax.jit(jax.grad(objective, has_aux=True))(jnp.asarray(back))
    found, gradient = ours(neuron, 1, False)
    np.testing.assert_array_equal(spikes, found)
    nets.assert_trees_close(gradient, expected, rtol=1e-10)


def test_learned_decay_and_threshold_of_snntorch():
    """What a spike subtracts is differentiated by the threshold, too."""
    pytest.importorskip("snntorch")
    torch = importlib.import_module("torch")
    currents, weights, _ = drawn()
    run = snntorch("Leaky", beta=BETA, learn_beta=True, learn_threshold=True)
    layer = run.__closure__[0].cell_contents
    spikes = torch.stack(run(torch.tensor(currents)))
    (torch.tensor(weights) * spikes).sum().backward()
    cell = LIF(nnx.Param(jnp.float32(0.5)), nnx.Param(jnp.float32(1.0)), reset=AfterDecay()).cell()

    def objective(decay, threshold):
        learned = dataclasses.replace(cell, decay=decay, threshold=threshold)
        found = run_cell(learned, jnp.asarray(currents), detach_reset=True)[1]
        return jnp.vdot(weights, found), found

    gradients, found = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(BETA, THETA)
    np.testing.assert_array_equal(spikes.detach().numpy(), found)
    np.testing.assert_allclose([layer.beta.grad.item(), layer.threshold.grad.item()], gradients, rtol=1e-10)


ORDER, PART = 4, KAPPA
PARALLEL = {
    "PSN": ({"T": STEPS}, lambda x, w, b: psn(x, w, b[:, 0], Sigmoid())),
    "MaskedPSN": (
        {"k": ORDER, "T": STEPS, "lambda_init": PART},
        lambda x, w, b: psn(x, masked_weight(w, ORDER, PART), b[:, 0], Sigmoid()),
    ),
    "SlidingPSN": ({"k": ORDER}, lambda x, w, b: sliding_psn(x, w, b, Sigmoid())),
}


@pytest.mark.parametrize("name", PARALLEL)
def test_neurons_of_all_steps_of_spikingjelly(name):
    neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
    torch, (options, run) = importlib.import_module("torch"), PARALLEL[name]
    currents, weights, _ = drawn()
    node = getattr(neurons, name)(**options, surrogate_function=spike_of_torch()).double()
    node.step_mode = "m"
    if name == "MaskedPSN":
        node._lambda_.fill_(PART)  # which began as float32
    rng = np.random.default_rng(1)
    numbers = [rng.normal(shift, 0.6, p.shape) for shift, p in ((0.2, node.weight), (-0.6, node.bias))]
    node.weight.data, node.bias.data = map(wide, numbers)
    spikes = node(torch.tensor(currents))
    (torch.tensor(weights) * spikes).sum().backward()
    arrays = [jnp.asarray(number) for number in numbers]

    def objective(w, b):
        found = run(jnp.asarray(currents), w, b)
        return jnp.vdot(weights, found), found

    gradients, found = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(*arrays)
    nets.assert_fires({name: found.mean()})
    np.testing.assert_array_equal(spikes.detach().numpy(), found)
    nets.assert_trees_close([node.weight.grad.numpy(), node.bias.grad.numpy()], list(gradients), rtol=1e-9)
