"""The neurons that are cells of one's own, and those with a raised reset, against the layers of installed libraries."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax.surrogate import Sigmoid
from tests.neurons.other_libraries import ALPHA, BETA, KAPPA, TAU, THETA
from tests.neurons.own_cells import JUMP, RATE, RESTED, SHARPNESS, SUBTHRESHOLD
from tests.neurons.own_jelly_cells import CRITICAL, CURVATURE, GAIN, UPPER, GatedCell
from tests.neurons.own_jelly_lines import OFFSET
from tests.neurons.own_lines import coupled
from tests.neurons.test_libraries_themselves import SPYX, sinabs, snntorch, spiking_jelly, wide
from tests.neurons.test_other_libraries import LINES, UNITS, drawn, ours, spike_of_torch

pytestmark = pytest.mark.usefixtures("x64")


def gated():
    """What is learned there are the arguments of logistic functions."""
    neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
    # A threshold above 1 is none that they reach.
    spike, conductance = spike_of_torch(), GatedCell.conductance
    node = neurons.GatedLIFNode(len(conductance), surrogate_function=lambda x: spike(x - (THETA - 0.5)), step_mode="m")
    values = {"alpha": 0.4, "beta": 0.7, "gamma": 0.6, "tau": 0.75, "v_threshold": 0.5, "linear_decay": 0.05}
    for name, value in (values | {"v_subreset": 0.8, "conduct": conductance}).items():
        getattr(node, name).data = wide(np.log(np.divide(value, np.subtract(1, value))))
    return lambda xs: node(xs[..., None, None, None])[..., 0, 0, 0]


def klif():
    node = spiking_jelly("KLIFNode", tau=TAU)
    node.k.data = wide(GAIN)
    return node


def cuba():
    neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neurons.CUBALIFNode(ALPHA, BETA, THETA, surrogate_function=spike_of_torch())
    node.step_mode = "m"
    return node


def integer():
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    return spiking_jelly("ILIFNode", tau=TAU, surrogate_function=surrogate.MultiLevelSpikeCount(UPPER))


def liaf():
    """Step by step: of many steps at once it sends out spikes, as the neuron that it is derived from (2.0.0)."""
    relu = pytest.importorskip("torch").relu
    node = spiking_jelly("LIAFNode", act=relu, threshold_related=True, tau=TAU, step_mode="s")
    return lambda xs: [node(x) for x in xs]


def mpbn():
    node = spiking_jelly("MPBNLIFNode", tau=TAU, out_features=1).double()
    return lambda xs: node(xs[..., None])[..., 0]


def of_channels(layer):
    """snnTorch's layers of a whole sequence [T, B, C]."""
    return lambda xs: layer(xs[:, None])[0][:, 0]


def parallel():
    layer = pytest.importorskip("snntorch").LeakyParallel(
        UNITS, UNITS, beta=BETA, bias=False, threshold=wide(THETA), spike_grad=spike_of_torch()
    )
    torch = importlib.import_module("torch")
    layer.rnn.double()
    layer.rnn.weight_ih_l0.data = torch.eye(UNITS, dtype=torch.float64)
    layer.rnn.weight_hh_l0.data = BETA * torch.eye(UNITS, dtype=torch.float64)
    return lambda xs: layer(xs[:, None])[:, 0]


def delta():
    layer = snntorch("DeltaLeaky", beta=BETA, delta_threshold=THETA)
    return lambda xs: [s for s, _ in layer(xs)]


def state_leaky():
    options = {"beta": wide(BETA), "channels": UNITS, "threshold": wide(THETA), "spike_grad": spike_of_torch()}
    return of_channels(pytest.importorskip("snntorch").StateLeaky(**options))


THEIRS = {
    "snnTorch Alpha(alpha, beta)": lambda: snntorch("Alpha", alpha=BETA, beta=ALPHA),
    "snnTorch Alpha(alpha, beta, reset_mechanism='subtract')": lambda: snntorch(
        "Alpha", alpha=BETA, beta=ALPHA, reset_mechanism="subtract"
    ),
    "snnTorch DeltaLeaky(delta_threshold)": delta,
    "snnTorch StateLeaky(beta)": state_leaky,
    "snnTorch LeakyParallel(beta)": parallel,
    "SpikingJelly CUBALIFNode(c_decay, v_decay)": cuba,
    "SpikingJelly ActivationAwareIFNode(v_threshold, v_offset)": lambda: spiking_jelly(
        "ActivationAwareIFNode", v_threshold=wide(THETA), v_offset=wide(OFFSET)
    ),
    "SpikingJelly HalfThresholdIFNode()": lambda: spiking_jelly("HalfThresholdIFNode"),
    "SpikingJelly QIFNode(tau)": lambda: spiking_jelly(
        "QIFNode", tau=TAU, v_c=CRITICAL, a0=CURVATURE, v_rest=RESTED, v_reset=0.0
    ),
    "SpikingJelly EIFNode(tau)": lambda: spiking_jelly(
        "EIFNode", tau=TAU, delta_T=SHARPNESS, theta_rh=CRITICAL, v_rest=RESTED, v_reset=0.0
    ),
    "SpikingJelly IzhikevichNode(tau)": lambda: spiking_jelly(
        "IzhikevichNode", tau=TAU, v_c=CRITICAL, a0=CURVATURE, v_rest=RESTED, tau_w=TAU, a=SUBTHRESHOLD, b=JUMP
    ),
    "SpikingJelly KLIFNode(tau)": klif,
    "SpikingJelly ComplementaryLIFNode(tau)": lambda: spiking_jelly("ComplementaryLIFNode", tau=TAU),
    "SpikingJelly RAFNode()": lambda: spiking_jelly("RAFNode"),
    "SpikingJelly GatedLIFNode(T)": gated,
    "SpikingJelly TernaryLIFNode(tau, v_reset=None)": lambda: spiking_jelly(
        "TernaryLIFNode", tau=TAU, decay_input=False, v_reset=None
    ),
    "SpikingJelly ILIFNode(tau)": integer,
    "SpikingJelly LIAFNode(relu, True, tau)": liaf,
    "SpikingJelly MPBNLIFNode(tau, out_features)": mpbn,
    "sinabs ALIF(tau, tau_adapt)": lambda: sinabs("ALIF", False, tau_mem=TAU, tau_adapt=-1 / np.log(KAPPA)),
}


def compared(name, layer):
    """Its spikes, and its gradient, beside ours."""
    torch, line = importlib.import_module("torch"), LINES[name]
    currents, weights = drawn(line)
    inputs = torch.tensor(currents, requires_grad=True)
    spikes = layer(inputs)
    spikes = spikes if isinstance(spikes, torch.Tensor) else torch.stack(list(spikes))
    expected = ours(line, jnp.asarray(currents))
    np.testing.assert_allclose(spikes.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert 0.05 < (expected != 0).mean() < 0.6
    (torch.tensor(weights) * spikes).sum().backward()
    gradient = jax.jit(jax.grad(lambda c: jnp.vdot(weights, ours(line, c))))(currents)
    # Spikes of sinabs are float32, and what they subtract is rounded so; StateLeaky's kernel is float32.
    close = 1e-5 if name.startswith("sinabs") or "StateLeaky" in name else 1e-10
    scale = float(jnp.abs(gradient).max())
    np.testing.assert_allclose(inputs.grad.numpy(), gradient, rtol=close, atol=close * scale)


@pytest.mark.parametrize("name", THEIRS)
def test_a_layer_in_torch_fires_and_learns_as_a_cell_of_ones_own(name):
    pytest.importorskip("torch")
    compared(name, THEIRS[name]())


def adex(module, kind, **more):
    rates = {"tau_mem_inv": 1000 * RATE, "tau_syn_inv": 1000 * (1 - ALPHA), "delta_T": SHARPNESS, "v_th": THETA}
    return getattr(module, f"{kind}Parameters")(**{name: wide(value) for name, value in (rates | more).items()})


def adapting(module):
    return adex(
        module, "LIFAdEx", tau_ada_inv=1000 * (1 - KAPPA), adaptation_current=SUBTHRESHOLD, adaptation_spike=JUMP
    )


def refractory(module):
    parameters = adapting(importlib.import_module("norse.torch.functional.lif_adex"))
    return module.LIFAdExRefracParameters(parameters, wide(2.0))


def long_short(module):
    rates = {"tau_mem_inv": 1000 * RATE, "tau_syn_inv": 1000 * (1 - ALPHA), "tau_adapt_inv": 1000 * (1 - KAPPA)}
    values = rates | {"v_th": THETA, "beta": JUMP}
    return module.LSNNParameters(**{name: wide(value) for name, value in values.items()})


def conductances(module):
    rates = {"tau_syn_exc_inv": 1000 * (1 - ALPHA), "tau_syn_inh_inv": 1000 * (1 - ALPHA), "c_m_inv": 1000 * RATE}
    values = {"g_l": 1.0, "e_rev_E": 3.0, "e_rev_I": -1.0, "v_rest": RESTED, "v_reset": 0.0, "v_thresh": THETA}
    return module.CobaLIFParameters(**{name: wide(value) for name, value in (rates | values).items()})


NORSE = {
    "norse LIFAdExCell": ("lif_adex", "LIFAdExCell", adapting),
    "norse LIFAdExRefracCell": ("lif_adex_refrac", "LIFAdExRefracCell", refractory),
    "norse LIFExCell": ("lif_ex", "LIFExCell", lambda module: adex(module, "LIFEx")),
    "norse IzhikevichCell": ("izhikevich", "IzhikevichCell", lambda module: module.tonic_spiking),
    "norse LSNNCell": ("lsnn", "LSNNCell", long_short),
}


@pytest.mark.parametrize("name", NORSE)
def test_a_cell_of_norse_fires_and_learns_as_a_cell_of_ones_own(name, monkeypatch):
    """With the surrogate of ours in place of its own."""
    cells = pytest.importorskip("norse.torch")
    place, kind, parameters = NORSE[name]
    module, spike = importlib.import_module(f"norse.torch.functional.{place}"), spike_of_torch()
    for source in (module, importlib.import_module("norse.torch.functional.lif_adex")):
        monkeypatch.setattr(source, "threshold", lambda x, method, alpha: spike(x))
    if "Refrac" in name:
        torch = importlib.import_module("torch")
        # It fires by the same function where the count of steps is above 0, and differentiates that too.
        monkeypatch.setattr(module, "threshold", lambda x, method, alpha: (x > 0).to(torch.float64))
    cell = getattr(cells, kind)(parameters(module))

    def layer(xs):
        state, spikes = None, []
        for x in xs:
            s, state = cell(x[None], state)
            spikes.append(s[0])
        return spikes

    compared(name, layer)


def coupled_step():
    """lif_mc_feed_forward_step and its state."""
    lif = importlib.import_module("norse.torch.functional.lif")
    step = importlib.import_module("norse.torch.functional.lif_mc").lif_mc_feed_forward_step
    rates = {"tau_mem_inv": wide(1000 * RATE), "tau_syn_inv": wide(1000 * (1 - ALPHA))}
    parameters = lif.LIFParameters(v_th=wide(THETA), **rates)
    matrix = 1000 * wide(coupled(UNITS))
    return lif, lif.LIFFeedForwardState, lambda x, state: step(x, state, matrix, parameters)


def conductance_step():
    """coba_lif_feed_forward_step and its state."""
    coba = importlib.import_module("norse.torch.functional.coba_lif")
    parameters = conductances(coba)
    step = lambda x, state: coba.coba_lif_feed_forward_step(x, state, parameters)  # noqa: E731
    return coba, coba.CobaLIFFeedForwardState, step


@pytest.mark.parametrize(
    "name, numbers, found",
    [("norse lif_mc_feed_forward_step", 2, coupled_step), ("norse coba_lif_feed_forward_step", 3, conductance_step)],
)
def test_a_step_of_norse_fires_and_learns_as_a_cell_of_ones_own(name, numbers, found, monkeypatch):
    pytest.importorskip("norse.torch")
    (module, state_of, step), spike = found(), spike_of_torch()
    monkeypatch.setattr(module, "threshold", lambda x, method, alpha: spike(x))

    def layer(xs):
        state, spikes = state_of(*[0 * xs[0][None]] * numbers), []
        for x in xs:
            s, state = step(x[None], state)
            spikes.append(s[0])
        return spikes

    compared(name, layer)


OF_SPYX = {
    **SPYX,
    "Spyx ALIF(beta, gamma)": ("ALIF", {"beta": BETA, "gamma": KAPPA}),
    "Spyx PSU_LIF(beta)": ("PSU_LIF", {"beta": BETA}),
}


@pytest.mark.parametrize("name", OF_SPYX)
def test_a_layer_of_spyx_fires_and_learns_as_ours(name):
    pytest.importorskip("spyx")
    kind, constants = OF_SPYX[name]
    line = LINES[name]
    currents, weights = drawn(line, 20)
    options = constants | {"threshold": THETA, "activation": Sigmoid(), "rngs": nnx.Rngs(0)}
    layer = getattr(importlib.import_module("spyx.nn"), kind)(currents.shape[1:], **options)
    in_float64(layer)

    def theirs(currents):
        step = lambda state, x: layer(x[None], state)[::-1]  # noqa: E731
        spikes = jax.lax.scan(step, layer.initial_state(1).astype(float), currents)[1][:, 0]
        return jnp.vdot(weights, spikes), spikes

    def here(currents):
        spikes = ours(line, currents)
        return jnp.vdot(weights, spikes), spikes

    (gradient, spikes), (expected, their_spikes) = (
        jax.jit(jax.grad(f, has_aux=True))(jnp.asarray(currents)) for f in (here, theirs)
    )
    np.testing.assert_array_equal(spikes, their_spikes)
    assert 0.05 < spikes.mean() < 0.6
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def in_float64(layer):
    """Constants there begin as float32."""
    for name, value in (("beta", BETA), ("alpha", ALPHA), ("gamma", KAPPA)):
        if hasattr(layer, name):
            setattr(layer, name, nnx.Param(jnp.asarray(value, jnp.float64)))
