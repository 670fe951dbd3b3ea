"""The neurons of `tests.neurons.other_libraries` against the layers themselves, where their library is installed."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.neurons.other_libraries import ALPHA, BETA, KAPPA, LINES, TAU, THETA
from tests.neurons.test_other_libraries import drawn, ours, spike_of_torch

pytestmark = pytest.mark.usefixtures("x64")

C, R = 5.0, 1.4


def wide(number):
    return importlib.import_module("torch").tensor(number, dtype=importlib.import_module("torch").float64)


def spiking_jelly(name, **options):
    neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
    options = {"v_threshold": THETA, "surrogate_function": spike_of_torch(), "step_mode": "m", **options}
    return getattr(neurons, name)(**options)


def snntorch(name, **options):
    module = pytest.importorskip("snntorch")
    options = {key: wide(value) if isinstance(value, float) else value for key, value in options.items()}
    layer = getattr(module, name)(threshold=wide(THETA), spike_grad=spike_of_torch(), init_hidden=True, **options)
    return lambda xs: [layer(x) for x in xs]


def sinabs(name, several=True, **options):
    layers = pytest.importorskip("sinabs.layers")
    activation = importlib.import_module("sinabs.activation")
    torch = importlib.import_module("torch")

    def slope(v, threshold):
        level = torch.clamp(torch.round(v / threshold), min=1) if several else 1
        s = torch.sigmoid(4 * (v - level * threshold))
        return 4 * s * (1 - s)

    options = {key: wide(value) if key.startswith("tau") else value for key, value in options.items()}
    if not several:
        options["spike_fn"] = activation.SingleSpike
    layer = getattr(layers, name)(spike_threshold=wide(THETA), surrogate_grad_fn=slope, **options).double()
    return lambda xs: layer(xs[None])[0]


THEIRS = {
    "SpikingJelly IFNode()": lambda: spiking_jelly("IFNode"),
    "SpikingJelly IFNode(v_reset=None)": lambda: spiking_jelly("IFNode", v_reset=None),
    "SpikingJelly IFNode(v_reset=-0.3)": lambda: spiking_jelly("IFNode", v_reset=-0.3),
    "SpikingJelly LIFNode(tau)": lambda: spiking_jelly("LIFNode", tau=TAU),
    "SpikingJelly LIFNode(tau, v_reset=None)": lambda: spiking_jelly("LIFNode", tau=TAU, v_reset=None),
    "SpikingJelly LIFNode(tau, v_reset=-0.3)": lambda: spiking_jelly("LIFNode", tau=TAU, v_reset=-0.3),
    "SpikingJelly LIFNode(tau, decay_input=False)": lambda: spiking_jelly("LIFNode", tau=TAU, decay_input=False),
    "SpikingJelly LIFNode(tau, decay_input=False, v_reset=None)": lambda: spiking_jelly(
        "LIFNode", tau=TAU, decay_input=False, v_reset=None
    ),
    "SpikingJelly LIFNode(tau, decay_input=False, v_reset=0.2)": lambda: spiking_jelly(
        "LIFNode", tau=TAU, decay_input=False, v_reset=0.2
    ),
    "SpikingJelly LIFNode(tau, detach_reset=True)": lambda: spiking_jelly("LIFNode", tau=TAU, detach_reset=True),
    "snnTorch Leaky(beta)": lambda: snntorch("Leaky", beta=BETA),
    "snnTorch Leaky(beta, reset_mechanism='zero')": lambda: snntorch("Leaky", beta=BETA, reset_mechanism="zero"),
    "snnTorch Leaky(beta, reset_mechanism='none')": lambda: snntorch("Leaky", beta=BETA, reset_mechanism="none"),
    "snnTorch Leaky(beta, reset_delay=False)": lambda: snntorch("Leaky", beta=BETA, reset_delay=False),
    "snnTorch Leaky(beta, reset_mechanism='zero', reset_delay=False)": lambda: snntorch(
        "Leaky", beta=BETA, reset_mechanism="zero", reset_delay=False
    ),
    "snnTorch Lapicque(R, C)": lambda: snntorch("Lapicque", R=R, C=C),
    "snnTorch Lapicque(beta)": lambda: snntorch("Lapicque", beta=BETA),
    "snnTorch Lapicque(R, C, reset_mechanism='zero')": lambda: snntorch("Lapicque", R=R, C=C, reset_mechanism="zero"),
    "snnTorch Synaptic(alpha, beta)": lambda: snntorch("Synaptic", alpha=ALPHA, beta=BETA),
    "snnTorch Synaptic(alpha, beta, reset_mechanism='zero')": lambda: snntorch(
        "Synaptic", alpha=ALPHA, beta=BETA, reset_mechanism="zero"
    ),
    "sinabs IAF()": lambda: sinabs("IAF"),
    "sinabs LIF(tau)": lambda: sinabs("LIF", tau_mem=TAU),
    "sinabs LIF(tau, spike_fn=SingleSpike)": lambda: sinabs("LIF", False, tau_mem=TAU),
    "sinabs LIF(tau, tau_syn, norm_input=False)": lambda: sinabs(
        "LIF", False, tau_mem=TAU, tau_syn=-1 / np.log(ALPHA), norm_input=False
    ),
    "sinabs LIF(tau, reset_fn=MembraneReset(), spike_fn=SingleSpike)": lambda: sinabs(
        "LIF", False, tau_mem=TAU, reset_fn=pytest.importorskip("sinabs.activation").MembraneReset()
    ),
    "sinabs LIF(tau, min_v_mem=-0.3)": lambda: sinabs("LIF", tau_mem=TAU, min_v_mem=-0.3),
    "sinabs ALIF(tau, tau_adapt, reset_fn=MembraneSubtract(threshold))": lambda: sinabs(
        "ALIF",
        False,
        tau_mem=TAU,
        tau_adapt=-1 / np.log(KAPPA),
        reset_fn=pytest.importorskip("sinabs.activation").MembraneSubtract(THETA),
    ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_layer_in_torch_fires_and_learns_as_its_equations_say(name):
    torch = pytest.importorskip("torch")
    line, layer = LINES[name], THEIRS[name]()
    currents, weights = drawn(line)
    inputs = torch.tensor(currents, requires_grad=True)
    spikes = layer(inputs)
    spikes = spikes if isinstance(spikes, torch.Tensor) else torch.stack(list(spikes))
    expected = ours(line, jnp.asarray(currents))
    np.testing.assert_array_equal(spikes.detach().numpy(), expected)
    assert 0.05 < expected.mean() < 0.6
    if line.gradient:
        (torch.tensor(weights) * spikes).sum().backward()
        gradient = jax.jit(jax.grad(lambda c: jnp.vdot(weights, ours(line, c))))(currents)
        # Spikes of sinabs are float32, and what they subtract is rounded so.
        close = 1e-5 if name.startswith("sinabs") else 1e-10
        np.testing.assert_allclose(inputs.grad.numpy(), gradient, rtol=close, atol=close)


NORSE = {
    "norse LIFBoxCell": ("lif_box", "LIFBox", {}),
    "norse LIFBoxCell, v_leak, v_reset": ("lif_box", "LIFBox", {"v_leak": 0.1, "v_reset": -0.3}),
    "norse LIFCell": ("lif", "LIF", {}),
    "norse LIFRefracCell": ("lif_refrac", "LIFRefrac", {}),
    "norse IAFCell": ("iaf", "IAF", {}),
}


@pytest.mark.parametrize("name", NORSE)
def test_a_cell_of_norse_fires_as_its_equations_say(name):
    """Its gradient through the refractory count, and its surrogates, are its own."""
    cells = pytest.importorskip("norse.torch")
    torch = importlib.import_module("torch")
    module, kind, potentials = NORSE[name]
    functional = importlib.import_module(f"norse.torch.functional.{module}")
    membrane = {key: wide(value) for key, value in potentials.items()}
    rates = {} if kind == "IAF" else {"tau_mem_inv": wide(1000 / TAU)}
    if kind in ("LIF", "LIFRefrac"):
        rates["tau_syn_inv"] = wide(1000 * (1 - ALPHA))
    inner = "LIF" if kind == "LIFRefrac" else kind
    source = importlib.import_module(f"norse.torch.functional.{'lif' if inner == 'LIF' else module}")
    parameters = getattr(source, f"{inner}Parameters")(v_th=wide(THETA), **rates, **membrane)
    if kind == "LIFRefrac":
        parameters = functional.LIFRefracParameters(parameters, wide(3.0))
    cell, state, spikes = getattr(cells, f"{kind}Cell")(parameters), None, []
    line = LINES[name]
    currents, _ = drawn(line)
    for x in torch.tensor(currents):
        s, state = cell(x[None], state)
        spikes.append(s[0].detach().numpy())
    np.testing.assert_array_equal(np.stack(spikes), ours(line, jnp.asarray(currents)))


SPYX = {
    "Spyx IF": ("IF", {}),
    "Spyx LIF(beta)": ("LIF", {"beta": BETA}),
    "Spyx CuBaLIF(alpha, beta)": ("CuBaLIF", {"alpha": ALPHA, "beta": BETA}),
}


@pytest.mark.parametrize("name", SPYX)
def test_a_layer_of_spyx_fires_as_its_equations_say(name):
    pytest.importorskip("spyx")
    layers = importlib.import_module("spyx.nn")
    kind, constants = SPYX[name]
    line = LINES[name]
    currents, _ = drawn(line)
    layer = getattr(layers, kind)(currents.shape[1:], threshold=THETA, rngs=nnx.Rngs(0), **constants)
    state, spikes = layer.initial_state(1).astype(jnp.float64), []
    for x in jnp.asarray(currents):
        s, state = layer(x[None], state)
        spikes.append(s[0])
    np.testing.assert_array_equal(jnp.stack(spikes), ours(line, jnp.asarray(currents)))
