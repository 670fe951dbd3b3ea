"""Graphs of safjax in snnTorch, SpikingJelly, norse, sinabs and Spyx themselves, where installed: the same spikes.

Those of torch read graphs by the package nirtorch.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import IF, LIF, AfterDecay, AxonalDelay, CurrentLIF, InstantReadout, Recurrent, ResetTo, Synapse
from safjax.ops import avg_pool
from tests.nets import assert_fires

nir = pytest.importorskip("nir")
from safjax.nir import from_nir, to_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

DT = 1e-4
ZERO = {"reset": ResetTo(0.0)}


def inputs(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 1.5, shape))


def layer(kind, *sizes, seed=0, **options):
    fan_in = sizes[0] * int(np.prod(sizes[2])) if len(sizes) > 2 else sizes[0]
    normal = nnx.initializers.normal
    init = {"kernel_init": normal(1.6 / fan_in**0.5), "bias_init": normal(0.2), "param_dtype": jnp.float64}
    return kind(*sizes, rngs=nnx.Rngs(seed), **{**init, **options})


def images(*neurons):
    pooled = nnx.Sequential(lambda x: avg_pool(x, (2, 2)), layer(nnx.Conv, 4, 6, (3, 3), padding="VALID"))
    flat = nnx.Sequential(lambda x: x.reshape(len(x), -1), layer(nnx.Linear, 24, 5))
    synapses = (Synapse(layer(nnx.Conv, 2, 4, (3, 3))), Synapse(pooled), Synapse(flat))
    layers = [module for pair in zip(synapses, neurons, strict=True) for module in pair]
    return nnx.Sequential(*layers, InstantReadout())


def simulated(net, x):
    run = safjax.simulate(net, x)
    assert_fires({path: float(spikes.mean()) for path, spikes in run.spikes.items()})
    return np.asarray(run.outputs)


def first(x):
    """[T, B, ..., C] ↦ [T, B, C, ...]."""
    return np.moveaxis(np.asarray(x), -1, 2)


def stepped(module, x, dtype):
    """What a graph module of nirtorch makes of x[T, B, ...], step by step."""
    torch = pytest.importorskip("torch")
    state, outputs = None, []
    for now in x:
        result = module(torch.as_tensor(now, dtype=dtype), state)
        output, state = result if isinstance(result, tuple) else (result, None)
        outputs.append(output.detach().numpy())
    return np.stack(outputs)


def in_spikingjelly(net, x, gain=None):
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("nirtorch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    module = exchange.import_from_nir(to_nir(net, x, DT, gain=gain), dt=DT, dtype=torch.float64)
    return stepped(module, first(x), torch.float64)


@pytest.mark.parametrize("gain", ["membrane", "current"])
def test_images_in_spikingjelly(gain):
    last = CurrentLIF(0.4, 0.6, 0.8, **ZERO) if gain == "membrane" else IF(1.5, **ZERO)
    net, x = images(LIF(0.7, 0.8, **ZERO), LIF(0.6, 0.3, **ZERO), last), inputs(20, 3, 8, 8, 2)
    np.testing.assert_array_equal(in_spikingjelly(net, x, gain), simulated(net, x))


def test_a_leak_potential_in_spikingjelly():
    """Its membranes start there."""
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("nirtorch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    numbers = {"tau": 4e-4, "r": 4.0, "v_leak": 0.4, "v_threshold": 2.0, "v_reset": 0.4}
    neurons = nir.LIF(**{key: np.full(6, value) for key, value in numbers.items()})
    graph, x = nir.NIRGraph.from_list(neurons), inputs(20, 3, 6)
    expected = stepped(exchange.import_from_nir(graph, dt=DT, dtype=torch.float64), first(x), torch.float64)
    found = simulated(from_nir(graph, DT, like="spikingjelly"), x)
    np.testing.assert_array_equal(found, expected)


def test_recurrence_in_spikingjelly():
    own = Synapse(layer(nnx.Linear, 8, 8, seed=1))
    net = nnx.Sequential(Synapse(layer(nnx.Linear, 6, 8)), Recurrent(LIF(0.7, **ZERO), own), InstantReadout())
    x = inputs(20, 3, 6)
    np.testing.assert_array_equal(in_spikingjelly(net, x), simulated(net, x))


def test_images_in_snntorch():
    """In float32, one example at a time: it flattens the batch axis too."""
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("nirtorch")
    imported = pytest.importorskip("snntorch.import_nir")
    net, x = images(LIF(0.7, 0.8, **ZERO), LIF(0.6, 0.3, **ZERO), LIF(0.8, 0.9, **ZERO)), inputs(20, 1, 8, 8, 2)
    module = imported.import_from_nir(to_nir(net, x, DT))
    found = stepped(module, first(x), torch.float32).reshape(20, 1, 5)
    np.testing.assert_array_equal(found, simulated(net, x))


def dense(*neurons):
    synapses = Synapse(layer(nnx.Linear, 6, 8)), Synapse(layer(nnx.Linear, 8, 5, seed=1))
    return nnx.Sequential(synapses[0], neurons[0], synapses[1], neurons[1], InstantReadout())


def test_dense_in_snntorch():
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("nirtorch")
    imported = pytest.importorskip("snntorch.import_nir")
    net, x = dense(LIF(0.7, 0.8, **ZERO), CurrentLIF(0.4, 0.6, 0.9, **ZERO)), inputs(20, 3, 6)
    found = stepped(imported.import_from_nir(to_nir(net, x, DT)), first(x), torch.float32)
    np.testing.assert_array_equal(found, simulated(net, x))


def test_dense_in_norse():
    """It weighs a neuron's input with 1 − λ, whatever a file says: gain="current". It holds float32 constants."""
    torch, norse = pytest.importorskip("torch"), pytest.importorskip("norse.torch")
    pytest.importorskip("nirtorch")
    net, x = dense(LIF(0.7, 0.8, **ZERO), LIF(0.6, 0.9, **ZERO)), inputs(20, 3, 6)
    module = norse.from_nir(to_nir(net, x, DT, gain="current"), dt=DT)
    np.testing.assert_array_equal(stepped(module, first(x), torch.float32), simulated(net, x))


def test_dense_in_sinabs():
    """λ = exp(−1/τ), τ in steps: dt = (1 − λ) / ln(1/λ) makes τ = dt / (1 − λ) that one. Spikes subtract θ."""
    torch, sinabs = pytest.importorskip("torch"), pytest.importorskip("sinabs.nir")
    decay, x = 0.7, inputs(20, 3, 6) / 2
    net = dense(LIF(decay, 1.6), LIF(decay, 1.8))
    with pytest.warns(safjax.nir.ResetLost):
        graph = to_nir(net, x, dt=(1 - decay) / np.log(1 / decay))
    module = sinabs.from_nir(graph, batch_size=3)
    flat = torch.as_tensor(np.asarray(x.swapaxes(0, 1).reshape(60, 6)), dtype=torch.float32)
    output = module(flat)
    output = output[0] if isinstance(output, tuple) else output
    found = output.detach().numpy().reshape(3, 20, 5).swapaxes(0, 1)
    potential = safjax.simulate(net, x, record=("potential",)).records["potential"]
    assert all(jnp.max(u) < 2 * θ for u, θ in zip(potential.values(), (1.6, 1.8), strict=True)), "sinabs: two spikes"
    np.testing.assert_array_equal(found, simulated(net, x))


def test_spyx_there_and_back():
    """Its neurons answer a step later, and what a spike subtracts does not decay."""
    exchange = pytest.importorskip("spyx.nir")
    late = [LIF(decay, threshold, reset=AfterDecay()) for decay, threshold in ((0.7, 0.8), (0.6, 0.9))]
    synapses = [Synapse(layer(nnx.Linear, 6, 8)), Synapse(layer(nnx.Linear, 8, 5, seed=1))]
    net = nnx.Sequential(synapses[0], late[0], AxonalDelay(1), synapses[1], late[1], AxonalDelay(1), InstantReadout())
    plain = nnx.Sequential(synapses[0], late[0], synapses[1], late[1], InstantReadout())
    x = inputs(20, 3, 6)
    with pytest.warns(safjax.nir.ResetLost):
        graph = to_nir(plain, x, DT)
    _, outputs = exchange.from_nir(graph, x, DT)
    expected = simulated(net, x)
    np.testing.assert_array_equal(outputs, expected)
    graph.metadata = {}
    for node in graph.nodes.values():
        node.metadata = {}
    np.testing.assert_array_equal(safjax.predict(from_nir(graph, DT, like="spyx"), x), expected)


def test_a_filter_in_spyx():
    """There what a spike subtracts decays."""
    exchange = pytest.importorskip("spyx.nir")
    numbers = {
        "tau_syn": 2e-4,
        "tau_mem": 4e-4,
        "r": 4.0,
        "v_leak": 0.0,
        "v_threshold": 5.0,
        "v_reset": 0.0,
        "w_in": 1.0,
    }
    neurons = nir.CubaLIF(**{key: np.full(6, value) for key, value in numbers.items()})
    graph, x = nir.NIRGraph.from_list(neurons), inputs(20, 3, 6)
    _, expected = exchange.from_nir(graph, x, DT)
    found = simulated(from_nir(graph, DT, like="spyx"), x)
    np.testing.assert_array_equal(found, expected)
