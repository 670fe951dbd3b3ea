"""S-TLLR: the published code's numbers, matched in float64.

`golden/stllr.npz` holds inputs and results of the authors' layers: a net of two convolutions and two dense layers, and
a recurrent layer with a leaky readout, whose weights are learned at a trace of decay 0.99. Their factors are (λ₋, λ₊,
α₋, α₊); gradients are summed over the steps from the third on, of errors that are back-propagated (BP) or broadcast
(DFA).
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import ops, rules
from safjax.nn import (
    LIF,
    InstantReadout,
    LeakyReadout,
    Recurrent,
    Synapse,
    WSConv,
)  # fmt: skip
from safjax.ops.standardisation import standardise
from safjax.surrogate import Surrogate
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


class ForConvolutions(Surrogate):
    """0.3 max(0, 1 − |x|)."""

    def slope(self, x):
        return 0.3 * jnp.maximum(0, 1 - jnp.abs(x))


class ForDense(Surrogate):
    """1 / (100 |x| + 1)²."""

    def slope(self, x):
        return 1 / (100 * jnp.abs(x) + 1) ** 2


CONVOLUTIONAL, DENSE = ForConvolutions(), ForDense()
"""One each, so that equal nets are."""


BATCH = 4
"""Members of the golden's batches."""


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "stllr.npz") as file:
        return {key: file[key] for key in file.files}


class Standardised(nnx.Module):
    """A dense layer with scaled weight standardisation, like `WSConv`."""

    def __init__(self, inputs, outputs, bias=True):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs), nets.DTYPE))
        self.gain = nnx.Param(jnp.zeros(outputs, nets.DTYPE))
        self.bias = nnx.Param(jnp.zeros(outputs, nets.DTYPE)) if bias else 0.0

    def __call__(self, x):
        return x @ standardise(self.kernel[...], self.gain[...]) + self.bias


class Broadcast(nnx.Module):
    """Random feedback of an output's error: nothing forward, Bᵀ e backward."""

    def __init__(self, feedback):
        fixed = nnx.Variable(jnp.asarray(feedback))
        self.synapse, self.readout = Synapse(Projection(fixed)), InstantReadout()

    def __call__(self, spikes):
        read = self.readout(self.synapse(spikes))
        return read - jax.lax.stop_gradient(read)


class Projection(nnx.Module):
    def __init__(self, fixed):
        self.fixed = fixed

    def __call__(self, x):
        return x.reshape(len(x), -1) @ self.fixed[...]


def broadcasts(golden, prefix, errors):
    """For each layer; their errors are not divided by the batch. None where errors are back-propagated."""
    hooks = sorted(key for key in golden if key.startswith(f"{prefix}/feedback/"))
    if errors == "BP":
        return nnx.List([None] * len(hooks))
    # Ours are channels last.
    maps = [golden[key] if golden[key].ndim == 2 else golden[key].transpose(0, 2, 3, 1) for key in hooks]
    return nnx.List([Broadcast(BATCH * np.reshape(b, (len(b), -1)).T) for b in maps])


class Published(nnx.Module):
    """The golden's convolutional net."""

    def __init__(self, golden, errors):
        rngs = nnx.Rngs(0)
        conv1, conv2 = (WSConv(n, m, param_dtype=nets.DTYPE, rngs=rngs) for n, m in ((2, 5), (5, 6)))
        last = nnx.Linear(8, 4, param_dtype=nets.DTYPE, rngs=rngs)
        self.named = nnx.Dict({"conv1": conv1, "conv2": conv2, "fc1": Standardised(54, 8), "last": last})
        self.synapses = nnx.List([Synapse(layer) for layer in self.named.values()])
        self.neurons = nnx.List([LIF(0.5, 0.6, surrogate) for surrogate in (CONVOLUTIONAL, CONVOLUTIONAL, DENSE)])
        self.pool, self.flat = Synapse(lambda x: ops.avg_pool(x, (2, 2))), Synapse(channels_first)
        self.broadcasts, self.readout = broadcasts(golden, "conv", errors), InstantReadout()

    def __call__(self, x):
        sent = []
        for i, neuron in enumerate(self.neurons):
            x = neuron(self.synapses[i](x if i < 2 else self.flat(x)))
            x = self.pool(x) if i == 1 else x
            if self.broadcasts[i] is not None:
                sent.append(self.broadcasts[i](x))
                x = jax.lax.stop_gradient(x)
        return sum(sent, self.readout(self.synapses[3](x)))


def channels_first(x):
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


class PublishedRecurrent(nnx.Module):
    """The golden's recurrent net."""

    def __init__(self, golden, errors):
        dense = nnx.Linear(10, 4, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
        forward, back = Standardised(12, 10), Standardised(10, 10, bias=False)
        self.named = nnx.Dict({"rec1": forward, "rec1_rec": back, "last": dense})
        decay, slow = (float(jax.nn.sigmoid(golden[f"rec/param/{layer}.leak"])) for layer in ("rec1", "last"))
        self.first, self.layer = Synapse(forward), Recurrent(LIF(decay, 0.6, DENSE), Synapse(back))
        self.last, self.readout = Synapse(dense), LeakyReadout(slow)
        self.broadcasts = broadcasts(golden, "rec", errors)

    def __call__(self, x):
        spikes, sent = self.layer(self.first(x)), 0.0
        if self.broadcasts[0] is not None:
            sent, spikes = self.broadcasts[0](spikes), jax.lax.stop_gradient(spikes)
        return self.readout(self.last(spikes)), sent


def pairs(net, golden, prefix):
    """(ours, theirs in our layout) of every array under the prefix that our net has."""
    for name, layer in net.named.items():
        theirs, suffix = name.removesuffix("_rec"), "_rec" if name.endswith("_rec") else ""
        for kind, ours in (("weight", "kernel"), ("bias", "bias"), ("gain", "gain")):
            key = f"{prefix}/{theirs}.{kind}{suffix}"
            if key in golden and isinstance(getattr(layer, ours, None), nnx.Param):
                value = golden[key]
                value = value.transpose(2, 3, 1, 0) if kind == "weight" and value.ndim == 4 else value
                value = value.T if kind == "weight" and value.ndim == 2 else value
                yield key, getattr(layer, ours), value.reshape(-1) if kind == "gain" else value


def cross_entropy(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def of_membrane(output, labels, gain):
    """Of the readout's sum over time; ours is its mean."""
    mean, sent = output
    return cross_entropy(gain * mean + sent, labels)


CASES = {"conv": (Published, cross_entropy), "rec": (PublishedRecurrent, of_membrane)}


@pytest.mark.parametrize("errors", ["BP", "DFA"])
@pytest.mark.parametrize("name", CASES)
def test_the_published_numbers(golden, name, errors):
    make, loss = CASES[name]
    net = make(golden, errors)
    for _, ours, theirs in pairs(net, golden, f"{name}/param"):
        ours[...] = jnp.asarray(theirs)
    post_decay, pre_decay, noncausal, causal = map(float, golden["factors"])
    readout_decay, first = 0.99 if name == "rec" else None, int(golden["first_learning_step"])
    rule = rules.stllr(
        pre_decay=pre_decay, post_decay=post_decay, causal=causal, noncausal=noncausal, readout_decay=readout_decay,
        first=first,
    )  # fmt: skip
    x, targets = jnp.asarray(golden[f"{name}/x"]), [jnp.asarray(golden[f"{name}/y"])]
    x = x.transpose(0, 1, 3, 4, 2) if name == "conv" else x
    if name == "rec":
        slow = net.readout.decay
        targets.append(safjax.losses.Timed(jnp.cumsum(slow ** jnp.arange(len(x)))))
    compute = safjax.value_and_grad(loss, rule, record=("spikes",), mean_over=1, outputs="all")
    (_, aux), grads = compute(net, x, *targets)
    check_forward(golden, name, net, aux, targets)
    ours = nnx.merge(nnx.graphdef(net), grads, nnx.state(net, nnx.Not(nnx.Param)))
    compared = list(pairs(ours, golden, f"{name}/grad_{errors}"))
    assert len(compared) == len(jax.tree.leaves(nnx.state(net, nnx.Param)))
    for key, actual, expected in compared:
        error = np.abs(actual[...] - expected).max()
        assert error < 1e-11 * np.abs(expected).max(), (key, error / np.abs(expected).max())


def check_forward(golden, name, net, aux, targets):
    nets.assert_fires(aux.rates)
    paths = {
        "conv": {f"conv{i + 1}" if i < 2 else "fc1": f"neurons.{i}" for i in range(3)},
        "rec": {"rec1": "layer.neuron"},
    }
    for theirs, ours in paths[name].items():
        spikes = golden[f"{name}/spikes/{theirs}"]
        spikes = spikes.transpose(0, 1, 3, 4, 2) if spikes.ndim == 5 else spikes
        assert np.array_equal(aux.records["spikes"][ours], spikes)
    logits = aux.outputs if name == "conv" else targets[1].value[:, None, None] * aux.outputs[0]
    np.testing.assert_allclose(logits, golden[f"{name}/logits"], rtol=1e-11, atol=1e-12)
