"""Nets of other libraries, written as NIR by their own exporters, where those are installed: safjax reads their spikes.

Two dense layers each, exported as their documentation says, read by `from_nir` with the name of the library. Its own
forward pass is the reference, in float64 (snnTorch and sinabs: float32), from weights that are float32 numbers.
"""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from tests.nets import assert_fires

nir = pytest.importorskip("nir")
from safjax.nir import from_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

SIZES, STEPS, BATCH = (6, 8, 5), 20, 3
DECAYS, THRESHOLDS = (0.7, 0.6), (0.8, 0.9)


def inputs():
    return np.random.default_rng(0).uniform(0, 1.5, (STEPS, BATCH, SIZES[0])).astype(np.float32)


def dense_of_torch(torch):
    """Two `nn.Linear`, of weights at which neurons fire."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(SIZES)]
    for linear in layers:
        linear.weight.data = torch.randn(linear.weight.shape, generator=generator) * 1.6 / linear.in_features**0.5
        linear.bias.data = torch.randn(linear.bias.shape, generator=generator) * 0.2
    return layers


def assert_spikes(graph, dt, expected, **convention):
    """The graph, as it was written, has these spikes, and its neurons fire."""
    run = safjax.simulate(from_nir(graph, dt, **convention), jnp.asarray(inputs(), jnp.float64))
    assert_fires({path: float(spikes.mean()) for path, spikes in run.spikes.items()})
    np.testing.assert_array_equal(run.outputs, expected)


def stepped(torch, modules, dtype):
    """The spikes of the last module of a chain whose neurons keep their state themselves, [T, B, N]."""
    outputs = []
    for now in torch.as_tensor(inputs(), dtype=dtype):
        for module in modules:
            now = module(now)
        outputs.append(now.detach().numpy())
    return np.stack(outputs)


def without_batch(graph):
    """norse and sinabs leave the batch axis in what enters and leaves a graph; the refusal of such a graph says so."""
    with pytest.raises(ValueError, match="leave the batch axis in the Input node"):
        from_nir(graph, 1)
    graph.nodes["input"].input_type = {"input": np.array(SIZES[:1])}
    graph.nodes["output"].output_type = {"output": np.array(SIZES[-1:])}


def test_snntorch():
    torch, snn = pytest.importorskip("torch"), pytest.importorskip("snntorch")
    export = pytest.importorskip("snntorch.export_nir").export_to_nir
    modules = []
    for linear, decay, threshold in zip(dense_of_torch(torch), DECAYS, THRESHOLDS, strict=True):
        # It reads sizes off the decays; they and the thresholds are float32 numbers.
        shape = linear.out_features
        options = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
        modules += [linear, snn.Leaky(torch.full((shape,), decay), torch.full((shape,), threshold), **options)]
    graph = export(torch.nn.Sequential(*modules), torch.ones(1, SIZES[0]), ignore_dims=[0])
    for neuron in modules[1::2]:
        neuron.reset_mem()
    # Its spikes are float32 numbers, and so its net is.
    assert_spikes(graph, 1e-4, stepped(torch, modules, torch.float32), like="snntorch", reset="zero")


def test_spikingjelly():
    torch = pytest.importorskip("torch")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    export = pytest.importorskip("spikingjelly.activation_based.nir_exchange").export_to_nir
    modules = []
    for linear, decay, threshold in zip(dense_of_torch(torch), DECAYS, THRESHOLDS, strict=True):
        modules += [linear, neuron.LIFNode(1 / (1 - decay), decay_input=False, v_threshold=threshold)]
    graph = export(torch.nn.Sequential(*modules), torch.ones(1, SIZES[0]))
    for node in modules[1::2]:
        node.reset()
    expected = stepped(torch, [module.double() for module in modules], torch.float64)
    assert_spikes(graph, 1e-4, expected, like="spikingjelly")


def test_norse():
    torch, norse = pytest.importorskip("torch"), pytest.importorskip("norse.torch")
    pytest.importorskip("nirtorch")
    cells = []
    for size, decay, threshold in zip(SIZES[1:], DECAYS, THRESHOLDS, strict=True):
        # A step of 1 ms; its input is weighed with 1 − λ.
        numbers = {"tau_mem_inv": (1 - decay) / 1e-3, "v_th": threshold / 4, "v_leak": 0.0, "v_reset": 0.0}
        cells.append(
            norse.LIFBoxCell(norse.LIFBoxParameters(**{k: torch.full((size,), n) for k, n in numbers.items()}))
        )
    first, second = dense_of_torch(torch)
    net = norse.SequentialState(first, cells[0], second, cells[1])
    graph = norse.to_nir(net, torch.ones(1, SIZES[0]), dt=1.0)  # dt=1: it multiplies its time constants by it
    without_batch(graph)
    state, outputs, net = None, [], net.double()
    for cell in cells:
        cell.p = type(cell.p)(*(v.double() if isinstance(v, torch.Tensor) else v for v in cell.p))
    for now in torch.as_tensor(inputs(), dtype=torch.float64):
        now, state = net(now, state)
        outputs.append(now.detach().numpy())
    assert_spikes(graph, 1e-3, np.stack(outputs), like="norse")


def test_sinabs():
    torch, layers = pytest.importorskip("torch"), pytest.importorskip("sinabs.layers")
    export = pytest.importorskip("sinabs.nir").to_nir
    modules = []
    for linear, decay, threshold in zip(dense_of_torch(torch), DECAYS, THRESHOLDS, strict=True):
        size = linear.out_features
        options = {"spike_threshold": torch.full((size,), threshold), "norm_input": False}
        tau = torch.full((size,), -1 / np.log(decay))
        modules += [linear, layers.LIFSqueeze(BATCH, tau_mem=tau, **options)]
    net = torch.nn.Sequential(*modules)
    graph = export(net, torch.ones(BATCH, SIZES[0]))
    for neuron in modules[1::2]:
        neuron.reset_states()
    x = torch.as_tensor(inputs()).transpose(0, 1).flatten(0, 1)  # [B T, N]
    outputs = net(x).detach().numpy().reshape(BATCH, STEPS, -1).swapaxes(0, 1)
    assert_spikes(graph, 1, outputs, like="sinabs")


def test_spyx():
    nn, exchange = pytest.importorskip("spyx.nn"), pytest.importorskip("spyx.nir")
    from flax import nnx

    modules = []
    for a, b, decay, threshold in zip(SIZES, SIZES[1:], DECAYS, THRESHOLDS, strict=False):
        init = {"kernel_init": nnx.initializers.normal(1.6 / a**0.5), "bias_init": nnx.initializers.normal(0.2)}
        modules += [
            nnx.Linear(a, b, param_dtype=jnp.float64, rngs=nnx.Rngs(a), **init),
            nn.LIF((b,), decay, threshold, rngs=nnx.Rngs(0)),
        ]
    net = nn.Sequential(*modules)
    shapes = {"input": np.array([SIZES[0]])}, {"output": np.array([SIZES[-1]])}
    graph = exchange.to_nir(net, *shapes, dt=1e-3)
    expected, _ = nn.run(net, jnp.asarray(inputs(), jnp.float64))
    assert_spikes(graph, 1e-3, expected, like="spyx")
