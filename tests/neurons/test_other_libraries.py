"""Which neuron here is which elsewhere: the table of the README, against the other libraries' equations.

Spikes are equal, and gradients to 1e-6 or better; where a library is installed, against the library itself too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.neurons import fire, lif_sequence, run_cell
from safjax.nn import LIF, PLIF, AfterDecay, LeakyReadout, Neuron, ResetTo, Synapse
from safjax.surrogate import Sigmoid
from tests import nets
from tests.neurons import other_libraries, own_jelly_lines, own_lines
from tests.neurons.other_libraries import BETA, LAMBDA, TAU, THETA, leaky, spiking_jelly, spyx

pytestmark = pytest.mark.usefixtures("x64")

STEPS, UNITS = 40, 30

LINES = {**other_libraries.LINES, **own_lines.LINES, **own_jelly_lines.LINES}
DIFFERENTIATED = [name for name, line in LINES.items() if line.gradient]
QUICK = {
    *("snnTorch Alpha(alpha, beta)", "SpikingJelly GatedLIFNode(T)", "norse LIFAdExRefracCell", "norse LSNNCell"),
    *("SpikingJelly ComplementaryLIFNode(tau)", "sinabs ALIF(tau, tau_adapt)"),
}
"""Of the neurons of one's own, those whose gradients are among the fast tests."""


def drawn(line, steps=STEPS):
    """Currents, and weights of the spikes in a loss."""
    rng = np.random.default_rng(0)
    return line.scale * rng.normal(0.25, 0.7, (steps, UNITS)), rng.normal(size=(steps, UNITS))


def ours(line, currents):
    spikes = run_cell(line.ours.cell(), line.gain * currents, detach_reset=line.detach)[1]
    return jnp.concatenate([jnp.zeros((line.late, UNITS)), spikes])[: len(spikes)]


def counted(x):
    """How often a membrane at x = u − θ fires."""
    return np.trunc((x + THETA) / THETA) * (x >= 0)


@pytest.mark.parametrize("name", LINES)
def test_neurons_fire_as_those_elsewhere(name):
    line = LINES[name]
    currents, _ = drawn(line)
    spike = counted if line.several else lambda x: (x >= 0) * 1.0
    expected = np.stack(line.theirs(currents, spike, lambda x: x))
    assert 0.05 < (expected != 0).mean() < 0.6
    assert not line.several or expected.max() > 1
    # Whole numbers, but for neurons that send out by how much they are above the threshold.
    np.testing.assert_allclose(ours(line, jnp.asarray(currents)), expected, rtol=1e-12, atol=1e-12)


def in_jax(line, currents, weights):
    """The gradient of Σ w s by autodiff of their equations."""
    spike = (lambda x: fire(x + THETA, THETA, Sigmoid(), None)) if line.several else Sigmoid()

    def objective(currents):
        return jnp.vdot(weights, jnp.stack(line.theirs(currents, spike, jax.lax.stop_gradient)))

    return jax.jit(jax.grad(objective))(currents)


def spike_of_torch():
    """`Sigmoid()` for PyTorch."""
    torch = pytest.importorskip("torch")

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return (x >= 0).to(x.dtype)

        @staticmethod
        def backward(context, gradient):
            s = torch.sigmoid(4 * context.saved_tensors[0])
            return gradient * 4 * s * (1 - s)

    return Spike.apply


def in_torch(line, currents, weights):
    torch, once = pytest.importorskip("torch"), spike_of_torch()

    def several(x):
        level = torch.clamp(torch.round((x + THETA) / THETA), min=1).detach()
        return level - 1 + once(x + THETA - level * THETA)

    currents = torch.tensor(currents, requires_grad=True)
    spikes = torch.stack(line.theirs(currents, several if line.several else once, lambda x: x.detach()))
    (torch.tensor(weights) * spikes).sum().backward()
    return currents.grad.numpy()


def quick(name):
    return name in other_libraries.LINES or name in QUICK


@pytest.mark.parametrize(
    "name, by",
    [
        *(pytest.param(name, in_jax, marks=() if quick(name) else pytest.mark.slow) for name in DIFFERENTIATED),
        *((name, in_torch) for name in DIFFERENTIATED if name in other_libraries.LINES),
    ],
)
def test_gradients_are_those_elsewhere(name, by):
    line = LINES[name]
    currents, weights = drawn(line, 12)
    expected = by(line, currents, weights)
    actual = jax.jit(jax.grad(lambda c: jnp.vdot(weights, ours(line, c))))(currents)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def test_a_learned_decay_is_spiking_jellys_parametric_one():
    """`ParametricLIFNode` learns w, 1/τ = sigmoid(w), a factor of its current too; here λ = 1 − 1/τ = sigmoid(−w)."""
    line = LINES["SpikingJelly LIFNode(tau)"]
    currents, weights = drawn(line)
    neuron = PLIF(LAMBDA, THETA, reset=ResetTo(0.0), decay_input=True, param_dtype=jnp.float64)
    graph, params = nnx.split(neuron)

    def ours(w):
        learned = nnx.merge(graph, jax.tree.map(lambda _: -w, params))
        return jnp.vdot(weights, run_cell(learned.cell(), jnp.asarray(currents))[1])

    def theirs(w):
        run = spiking_jelly(1 / jax.nn.sigmoid(w))
        return jnp.vdot(weights, jnp.stack(run(jnp.asarray(currents), Sigmoid(), None)))

    (value, gradient), (expected, expected_gradient) = (
        jax.jit(jax.value_and_grad(f))(jnp.log(1 / (TAU - 1))) for f in (ours, theirs)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10)


@pytest.mark.parametrize("parallel", [None, False, True], ids=["autodiff", "closed form", "closed form, parallel"])
@pytest.mark.parametrize("of, late", [(lambda b: leaky("subtract", beta=b), 0), (spyx, 1)], ids=["Leaky", "Spyx"])
def test_a_learned_decay_that_the_reset_does_not_see(of, late, parallel):
    """`Leaky(beta, learn_beta=True)` and Spyx's `LIF()` subtract θ from what has decayed already."""
    line = LINES["snnTorch Leaky(beta)"]
    currents, weights = (jnp.asarray(a) for a in drawn(line, 12))
    detach = not late

    def ours(beta, currents):
        cell = LIF(nnx.Param(jnp.float32(0.5)), THETA, reset=AfterDecay()).cell()
        cell = dataclasses.replace(cell, decay=beta)
        if parallel is None:
            return run_cell(cell, currents, detach_reset=detach)[1]
        return lif_sequence(currents, cell, through_reset=not detach, parallel=parallel)[0]

    def theirs(beta, currents):
        return jnp.stack(of(beta)(currents, Sigmoid(), jax.lax.stop_gradient))[late:]

    def learned(neuron):
        objective = lambda b, c: jnp.vdot(weights[: 12 - late], neuron(b, c)[: 12 - late])  # noqa: E731
        return jax.jit(jax.value_and_grad(objective, (0, 1)))(jnp.asarray(BETA), currents)

    (value, gradient), (expected, expected_gradient) = learned(ours), learned(theirs)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    nets.assert_trees_close(gradient, expected_gradient, rtol=1e-10)


def test_exp_leak_is_a_leaky_readout_times_its_gain():
    """sinabs' `ExpLeak(tau)`, v[t] = λ v[t−1] + I[t]; with `norm_input` times 1 − λ beside."""
    currents, v, expected = np.random.default_rng(0).normal(size=(10, 2, 3)), 0.0, []
    for current in currents:
        v = BETA * v + current
        expected.append(v)
    gain = np.cumsum(BETA ** np.arange(10))[:, None, None]
    outputs = safjax.predict(LeakyReadout(BETA), jnp.asarray(currents))
    np.testing.assert_allclose(gain * outputs, np.stack(expected), rtol=1e-12)


@dataclasses.dataclass(frozen=True)
class QuadraticCell:
    """u[t] = m[t−1] + (m[t−1] − c) m[t−1] / τ + I[t], reset to 0: none of the library's own."""

    critical: float = 0.5

    def start(self, current):
        return jnp.zeros_like(current)

    def step(self, state, current, detach_reset=False):
        potential = state + (state - self.critical) * state / 4 + current
        spikes = Sigmoid()(potential - 1)
        reset = jax.lax.stop_gradient(spikes) if detach_reset else spikes
        return (1 - reset) * potential, spikes


class Quadratic(Neuron):
    def cell(self):
        return QuadraticCell()


@pytest.mark.usefixtures("advice")
def test_an_own_neuron_trains_where_it_can_and_is_refused_elsewhere():
    rngs = nnx.Rngs(0)
    first, last = nets._dense(7, 9, rngs), nets._dense(9, nets.CLASSES, rngs)
    net = nnx.Sequential(Synapse(first), Quadratic(), Synapse(last), LeakyReadout(0.7))
    x = jnp.asarray(np.random.default_rng(0).normal(0.0, 0.6, (nets.STEPS, nets.BATCH, 7)))

    def compute(rule):
        return safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())

    (_, aux), grads = compute(rules.bptt())
    nets.assert_fires(aux.rates)
    nets.assert_trees_close(compute(rules.bptt(layerwise=True))[1], grads, rtol=1e-12)
    jax.eval_shape(lambda: compute(rules.sltt())[1])  # Refusals come with the shapes, before anything is compiled.
    for name in ("exodus", "ottt_a", "saf_f"):
        with pytest.raises(
            ValueError, match=rf"Quadratic at 'layers.1': the rule '{name}'.*: bptt, sltt, bptt\(layerwise=True\)\."
        ):
            compute(rules.RULES[name]())
