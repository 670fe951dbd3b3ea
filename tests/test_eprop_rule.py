"""e-prop: the published cell's numbers, and back-propagation through time with what it leaves out as constants.

`golden/eprop.npz` holds inputs and results of the authors' cell, 5 LIF and 5 ALIF neurons in one recurrent layer with a
refractory period of 3 steps, of which the spike's own is one, and 3 leaky outputs, T = 20. That cell's reset acts after
the decay, which is `AfterDecay(1.0)`; it fires where u > θ + βb, with slope (0.3 / θ) max(0, 1 − |x / θ|); and its
output is that of a `LeakyReadout` times (1 − κ) Λ[t] = 1 − κ^t.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import Timed, WithRecords
from safjax.nn import ALIF, LIF, AfterDecay, Delay, InstantReadout, LeakyReadout, Recurrent, Refractory, Synapse
from safjax.nn.binding import bind
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "eprop.npz") as file:
        return {key: file[key] for key in file.files}


def published(threshold, dampening):
    """The cell's spike function of x = u − θ − βb."""

    @jax.custom_vjp
    def spike(x):
        return (x > 0).astype(x.dtype)

    def backward(x, error):
        return (error * dampening / threshold * jnp.maximum(0, 1 - jnp.abs(x / threshold)),)

    spike.defvjp(lambda x: (spike(x), x), backward)
    return spike


class Kernel(nnx.Module):
    """A dense map without bias, of which an entry may be left out; learned, or a constant."""

    def __init__(self, kernel, mask=1.0, kind=nnx.Param):
        self.kernel, self.mask = kind(jnp.asarray(kernel)), mask

    def __call__(self, x):
        return x @ (self.kernel[...] * self.mask)


class Detached(nnx.Module):
    """s[t] = neuron(I[t] + f(s[t−1])) with spikes that reach other neurons as constants."""

    def __init__(self, neuron, synapse):
        self.neuron, self.synapse, self.delay = neuron, synapse, Delay()
        self.detach = Synapse(jax.lax.stop_gradient)

    def __call__(self, current):
        spikes = self.neuron(current + self.synapse(self.detach(self.delay.recall())))
        self.delay.keep(spikes)
        return spikes


class Published(nnx.Module):
    """The golden's net; with random feedback its error reaches the spikes through fixed weights."""

    def __init__(self, golden, random=False, recurrent=Recurrent):
        number = {name: float(golden[name]) for name in ("decay", "threshold", "decay_adaptation", "dampening")}
        surrogate = published(number["threshold"], number["dampening"])
        strength = nnx.Variable(jnp.asarray(golden["beta"]))
        constants = number["decay"], number["threshold"], number["decay_adaptation"], strength, surrogate
        alif = ALIF(*constants, reset=AfterDecay(1.0))
        self.first = Synapse(Kernel(golden["w_in"]))
        synapse = Synapse(Kernel(golden["w_rec"], 1 - np.eye(10)))
        self.hidden = recurrent(Refractory(alif, int(golden["refractory"]) - 1, integrate=True), synapse)
        self.last, self.readout = Synapse(Kernel(golden["w_out"])), LeakyReadout(float(golden["decay_output"]))
        self.detach = Synapse(jax.lax.stop_gradient) if random else None
        self.feedback = Synapse(Kernel(golden["feedback"], kind=nnx.Variable))

    def __call__(self, x):
        spikes = self.hidden(self.first(x))
        if self.detach is None:
            return self.readout(self.last(spikes))
        still = self.detach(spikes)
        # Zero forward: the way of the errors alone.
        return self.readout(self.last(still) + self.feedback(spikes) - self.feedback(still))


def loss(output, target):
    """½ Σ (y − y*)² with y = (1 − κ^t) o."""
    scale, wanted = target
    return 0.5 * jnp.sum((scale * output - wanted) ** 2)


def given(golden):
    """Inputs and targets, time first."""
    target = golden["target"].swapaxes(0, 1)
    scale = 1 - float(golden["decay_output"]) ** np.arange(1, 1 + len(target))
    x = jnp.asarray(golden["x"].swapaxes(0, 1), nets.DTYPE)
    return x, Timed((jnp.asarray(scale), jnp.asarray(target)))


GRADIENTS = {
    "symmetric": (rules.eprop(), {}),
    "random": (rules.eprop(), {"random": True}),
    "autodiff": (rules.bptt(detach_reset=True), {"recurrent": Detached}),
    "bptt": (rules.bptt(), {}),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_published_ones(name, golden):
    rule, options = GRADIENTS[name]
    compute = safjax.value_and_grad(loss, rule, mean_over=1, outputs="all")
    (value, aux), grads = compute(Published(golden, **options), *given(golden))
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-12)
    scale = given(golden)[1].value[0][:, None, None]
    np.testing.assert_allclose(scale * aux.outputs, golden["y"].swapaxes(0, 1), rtol=1e-9)
    ours = {"w_in": grads["first"]["layer"]["kernel"], "w_rec": grads["hidden"]["synapse"]["layer"]["kernel"]}
    for weights, gradient in nnx.as_pure(ours).items():
        expected = golden[f"grad_{name}/{weights}"]
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=weights)


def test_the_cell_is_the_published_one(golden):
    run = safjax.simulate(Published(golden), given(golden)[0], record=("spikes", "potential", "adaptation"))
    for name, key in (("spikes", "z"), ("potential", "v"), ("adaptation", "b")):
        ours = run.records[name]["hidden.neuron"].swapaxes(0, 1)
        np.testing.assert_allclose(ours, golden[key], rtol=0, atol=0 if key == "z" else 1e-12)


def test_eligibilities_are_the_published_ones(golden):
    """Step by step, in the caller's hands: of membranes, of thresholds (there before the step), and of spikes."""
    net, rule, (x, target), kappa = Published(golden), rules.eprop(), given(golden), float(golden["decay_output"])
    compute, state = safjax.value_and_grad(loss, rule, mean_over=1), safjax.start(net, x, rule)
    heard, raised = ([np.zeros_like(golden[f"eps_a/{name}"][:, 0]) for name in ("w_in", "w_rec")] for _ in range(2))
    for t in range(len(x)):
        now = Timed(jax.tree.map(lambda a, t=t: a[t : t + 1], target.value))
        state = compute(net, x[t : t + 1], now, state=state)[0][1].state
        ours = state.variables["hidden.neuron.state"]
        for i, (name, mask) in enumerate((("w_in", 1), ("w_rec", 1 - np.eye(10)))):
            expected = {"eps_v": ours.traces[i][0], "eps_a": raised[i], "eligibility": ours.ahead[i] - kappa * heard[i]}
            heard[i], raised[i] = ours.ahead[i], ours.traces[i][1]
            for key, value in expected.items():
                published = golden[f"{key}/{name}"]
                np.testing.assert_allclose(
                    mask * value, published[:, t], rtol=0, atol=1e-12 * np.abs(published).max(), err_msg=f"{key} {t}"
                )


class Layer(nnx.Module):
    """One recurrent layer, the way of what it hears of itself detached or not."""

    def __init__(self, neuron, readout, recurrent):
        rngs = nnx.Rngs(1)
        self.first = Synapse(nets._dense(7, 10, rngs))
        self.hidden = recurrent(neuron(), Synapse(nets._dense(10, 10, rngs)))
        self.last, self.readout = Synapse(nets._dense(10, nets.CLASSES, rngs)), readout()

    def __call__(self, x):
        return self.readout(self.last(self.hidden(self.first(x))))


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.0, (nets.STEPS, nets.BATCH, 7)))


def gradient(rule, net, loss=nets.loss):
    (_, aux), grads = safjax.value_and_grad(loss, rule)(net, inputs(), nets.labels())
    nets.assert_fires(aux.rates)
    return grads


def learned(value):
    return nnx.Param(jnp.asarray(value, nets.DTYPE))


KINDS = {
    "ALIF, leaky": (lambda: ALIF(learned(0.8), 0.7, learned(0.9), learned(0.3)), lambda: LeakyReadout(0.6)),
    "LIF, instantaneous": (lambda: LIF(0.8), InstantReadout),
}
ORACLE = rules.bptt(detach_reset=True)
"""On a net whose recurrent spikes are constants."""


@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_eprop_is_bptt_with_recurrent_spikes_and_resets_as_constants(kind):
    ours, exact = (
        gradient(rules.eprop(), Layer(*KINDS[kind], Recurrent)),
        gradient(ORACLE, Layer(*KINDS[kind], Detached)),
    )
    nets.assert_trees_close(ours, exact, rtol=1e-12)
    if kind == "LIF, instantaneous":
        traced = gradient(rules.ottt_a(), Layer(*KINDS[kind], Recurrent))
        for name in ("first", "hidden"):
            nets.assert_trees_close(ours[name], traced[name], rtol=1e-12)


def test_rates_are_regularised_as_published():
    """c (f̄ − f*) s[t] in the loss of a step, f̄ known, brings c (f̄ − f*) Σ_t e[t]."""
    excess = jnp.linspace(-0.3, 0.2, 10)
    regularised = WithRecords(lambda output, records, labels: jnp.sum(excess * records["spikes"]["hidden.neuron"]))
    kind = KINDS["ALIF, leaky"]
    ours, exact = (
        gradient(rule, Layer(*kind, recurrent), regularised)
        for rule, recurrent in ((rules.eprop(), Recurrent), (ORACLE, Detached))
    )
    for name in ("first", "hidden"):
        nets.assert_trees_close(ours[name], exact[name], rtol=1e-12)


class Deep(nnx.Module):
    """Two layers, of which the readout hears the first through fixed weights, or not at all."""

    def __init__(self, feedback, decays=(0.5, 0.5)):
        rngs = nnx.Rngs(0)
        self.first, self.second = Synapse(nets._dense(7, 10, rngs)), Synapse(nets._dense(10, 10, rngs))
        self.one, self.two, self.last = LIF(0.8), LIF(0.8), Synapse(nets._dense(10, nets.CLASSES, rngs))
        self.back = Synapse(Kernel(np.random.default_rng(0).normal(size=(10, nets.CLASSES)), kind=nnx.Variable))
        self.still, self.feedback = Synapse(jax.lax.stop_gradient), feedback
        self.readout, self.other = (LeakyReadout(decay) for decay in decays)

    def __call__(self, x):
        one = self.one(self.first(x))
        current = self.last(self.two(self.second(one)))
        if self.feedback:
            current = current + self.back(one) - self.back(self.still(one))
        return self.readout(current) + self.other(0 * current)


def test_a_layer_that_no_readout_hears_is_refused():
    with pytest.raises(
        ValueError, match=r"'eprop' .* that 'first.layer.bias', 'first.layer.kernel' would learn nothing"
    ):
        bind(Deep(feedback=False), rules.eprop(), inputs()[0], nets.STEPS, False)
    grads = gradient(rules.eprop(), Deep(feedback=True))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(nnx.as_pure(grads)))
    with pytest.raises(ValueError, match="LIF at 'one': the rule 'eprop' filters .* must be one number"):
        bind(Deep(feedback=True, decays=(0.5, 0.6)), rules.eprop(), inputs()[0], nets.STEPS, False)
