"""Nets with local and with broadcast errors: the spikes and gradients of the authors' code, in float64.

`golden/tess.npz` holds three blocks with losses of their own, `golden/stllr.npz` a net whose layers get the output's
error by fixed random matrices, T = 5. Their gradients are, with g the error at a layer's spikes, σ the slope,

    dW = Σ_t α₊ (σ g)[t] ⊗ p[t] + α₋ (q g)[t] ⊗ x[t],   p[t] = λ₊ p[t−1] + x[t],   q[t+1] = λ₋ q[t] + σ[t]

which with λ₊ = α₋ = 0 is SLTT and with λ₊ = λ, α₋ = 0 OTTT. The factors are (λ₋, λ₊, α₋, α₊); written out below, they
give the published gradients, and those of the rules; S-TLLR has them itself.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import sinusoidal
from tests import nets
from tests.examples_of_the_field import feedback_alignment, tess
from tests.tables import some_slow
from tests.torch_layouts import kernel

pytestmark = pytest.mark.usefixtures("x64")

RULES = {
    "sltt": (rules.sltt(), (0.0, 0.0, 0.0, 1.0)),
    "ottt_a": (rules.ottt_a(trace_bias=False), (0.0, 0.5, 0.0, 1.0)),
}


def load(name):
    with np.load(pathlib.Path(__file__).parent / "golden" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def put(layer, golden, name, below=None):
    """The published numbers into a layer; its names for them."""
    for ours, theirs in (("kernel", "weight"), ("bias", "bias"), ("gain", "gain")):
        if f"{name}.{theirs}" in golden:
            getattr(layer, ours)[...] = converted(golden[f"{name}.{theirs}"], theirs, below)


def converted(value, kind, below=None):
    return kernel(value, below) if kind == "weight" else jnp.asarray(value.reshape(-1))


def net_of_tess():
    """(net, published arrays, its layers by their published names, prefix of the gradients, its spikes' names)."""
    golden, net = load("tess"), tess.Net(nnx.Rngs(0), param_dtype=jnp.float64)
    layers = {f"blocks.{i}.block.conv": synapse.layer for i, synapse in enumerate(net.convs)}
    layers["last"] = net.last.layer.layers[1]
    for name, layer in layers.items():
        put(layer, golden, f"param/{name}")
    sides = [(6, 3, 3), (7, 3, 3), (8, 1, 1)]
    for i, side in enumerate(sides):
        waves = net.local[i].layer.layers[2]
        # Theirs counts channels first.
        np.testing.assert_array_equal(waves.kernel[...], sinusoidal(None, waves.kernel.shape, jnp.float64))
        np.testing.assert_array_equal(waves.kernel[...].T, golden[f"basis/blocks.{i}"])
        waves.kernel[...] = kernel(golden[f"basis/blocks.{i}"], side)
    return net, golden, layers, "grad", {f"lifs.{i}": f"spikes/block{i + 1}" for i in range(3)}


def net_of_alignment():
    golden = {key.removeprefix("conv/"): value for key, value in load("stllr").items()}
    net = feedback_alignment.Net(nnx.Rngs(0), param_dtype=jnp.float64)
    layers = {
        "conv1": net.conv1.layer,
        "conv2": net.conv2.layer,
        "fc1": net.dense.layer.layers[1],
        "last": net.last.layer,
    }
    for name, layer in layers.items():
        put(layer, golden, f"param/{name}", (6, 3, 3) if name == "fc1" else None)
    for i, back in enumerate(net.back):
        ways = golden[f"feedback/hook{i + 1}"]
        # The published error is that of a sum over the batch.
        back.layer.layers[1].kernel[...] = len(golden["y"]) * kernel(ways.reshape(len(ways), -1), ways.shape[1:])
    return net, golden, layers, "grad_DFA", {"lif1": "spikes/conv1", "lif2": "spikes/conv2", "lif3": "spikes/fc1"}


NETS = {"TESS": (net_of_tess, tess.loss), "feedback alignment": (net_of_alignment, feedback_alignment.loss)}


def data(golden):
    return jnp.asarray(golden["x"].transpose(0, 1, 3, 4, 2)), jnp.asarray(golden["y"])


def gradients(net, loss, rule, x, labels, first):
    """Of the steps from the first one that learns; those before leave their state."""
    compute = safjax.value_and_grad(loss, rule, mean_over=1, outputs="all", record=("spikes",))
    state = safjax.start(net, x, rule)
    if first:
        state = compute(net, x[:first], labels, state=state)[0][1].state
    (_, aux), grads = compute(net, x[first:], labels, state=state)
    return aux, grads


class Stage(NamedTuple):
    """A synapse, its input at every step, its neurons; and (spikes of a step) ↦ what the loss sees of them there."""

    synapse: Any
    inputs: jax.Array
    path: str
    seen: Callable[[jax.Array], jax.Array]


def stages_of_tess(net, x, spikes):
    found, below = [], x
    for i, (conv, local, pool) in enumerate(zip(net.convs, net.local, net.pools, strict=True)):
        found.append(Stage(conv, below, f"lifs.{i}", local.layer))
        below = jax.vmap(pool.layer)(spikes[f"lifs.{i}"])
    return found, below


def stages_of_alignment(net, x, spikes):
    one, two, three = (spikes[f"lif{i}"] for i in (1, 2, 3))
    pooled = jax.vmap(net.pool.layer)(two)
    ways = [net.back[0].layer, lambda s: net.back[1].layer(net.pool.layer(s)), net.back[2].layer]
    synapses = zip((net.conv1, net.conv2, net.dense), (x, one, pooled), ("lif1", "lif2", "lif3"), ways, strict=True)
    return [Stage(*stage) for stage in synapses], three


def written_out(name, net, x, labels, factors, of_last, first):
    """The gradients of all layers, in their order."""
    run = safjax.simulate(net, x, record=("spikes", "potential"))
    found, below = (stages_of_tess if name == "TESS" else stages_of_alignment)(net, x, run.spikes)
    answers, results = jax.vmap(net.last.layer)(below), []
    to_answers = jax.vmap(jax.grad(feedback_alignment.loss), (0, None))(answers, labels)
    for stage in found:
        lif, spikes = attribute(net, stage.path), run.spikes[stage.path]
        seen, pull = jax.vjp(jax.vmap(stage.seen), spikes)
        local = jax.vmap(jax.grad(feedback_alignment.loss), (0, None))(seen, labels)
        (error,) = pull(local if name == "TESS" else to_answers)
        slope = lif.surrogate.slope(run.records["potential"][stage.path] - lif.threshold)
        results.append(summed(stage.synapse.layer, stage.inputs, error, slope, factors, first))
    return [*results, summed(net.last.layer, below, to_answers, jnp.ones_like(to_answers), of_last, first)]


def summed(layer, inputs, error, slope, factors, first):
    """Σ_t α₊ (σ g)[t] ⊗ p[t] + α₋ (q g)[t] ⊗ x[t], from the first step that learns; biases get Σ σ g."""
    of_post, of_pre, post, pre = factors
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def function(params, x):
        return nnx.merge(graphdef, params, rest)(x)

    def body(traces, step):
        (p, q), (x, g, psi) = traces, step
        p = of_pre * p + x
        ahead = jax.vjp(lambda w: function(w, p), params)[1](pre * psi * g)[0]
        behind = jax.vjp(lambda w: function(w, x) - function(w, 0 * x), params)[1](post * q * g)[0]
        return (p, of_post * q + psi), jax.tree.map(jnp.add, ahead, behind)

    _, grads = jax.lax.scan(body, (0 * inputs[0], 0 * slope[0]), (inputs, error, slope))
    return nnx.as_pure(jax.tree.map(lambda g: g[first:].sum(0), grads))


def attribute(net, path):
    for part in path.split("."):
        net = net[int(part)] if part.isdigit() else getattr(net, part)
    return net


def named(grads):
    """The numbers of one layer by their kinds: kernel, bias, gain."""
    return {path[-1].key: np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(nnx.as_pure(grads))}


PUBLISHED = {"kernel": "weight", "bias": "bias", "gain": "gain"}


def assert_published(golden, prefix, name, grads):
    below = (6, 3, 3) if name == "fc1" else None
    assert set(grads) == {ours for ours, theirs in PUBLISHED.items() if f"{prefix}/{name}.{theirs}" in golden}
    for kind, actual in grads.items():
        expected = converted(golden[f"{prefix}/{name}.{PUBLISHED[kind]}"], PUBLISHED[kind], below)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_spikes_and_the_equations_are_the_published_ones(name):
    net, golden, layers, prefix, spikes = NETS[name][0]()
    x, labels = data(golden)
    run = safjax.simulate(net, x)
    nets.assert_fires({path: s.mean() for path, s in run.spikes.items()})
    for ours, theirs in spikes.items():
        assert np.array_equal(as_theirs(run.spikes[ours]), golden[theirs])
    outputs = run.outputs[-1] if isinstance(run.outputs, tuple) else run.outputs
    np.testing.assert_allclose(outputs, golden["logits"], rtol=1e-9, atol=1e-12)
    first, plain = int(golden["first_learning_step"]), (0.0, 0.0, 0.0, 1.0)
    grads = written_out(name, net, x, labels, tuple(map(float, golden["factors"])), plain, first)
    for layer, found in zip(layers, grads, strict=True):
        assert_published(golden, prefix, layer, named(found))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETS)
def test_rules_have_the_gradients_of_the_equations(name, rule):
    (make, loss), (rule, factors) = NETS[name], RULES[rule]
    net, golden, *_ = make()
    (x, labels), first = data(golden), 2
    aux, grads = gradients(net, loss, rule, x, labels, first)
    nets.assert_fires(aux.rates)
    expected = written_out(name, net, x, labels, factors, factors, first)
    for (path, found), theirs in zip(by_layer(name, grads), expected, strict=True):
        ours, theirs = named(found), named(theirs)
        assert ours.keys() == theirs.keys(), path
        nets.assert_trees_close(ours, theirs, rtol=1e-11)


def by_layer(name, grads):
    """(path, gradients) of the layers that learn, in the order of `written_out`."""
    if name == "TESS":
        return [*((f"convs.{i}", grads["convs"][i]) for i in range(3)), ("last", grads["last"])]
    return [(path, grads[path]) for path in ("conv1", "conv2", "dense", "last")]


@pytest.mark.parametrize("name", some_slow([(name,) for name in NETS], lambda name: name == "TESS"))
def test_stllr_has_the_published_gradients(name):
    (make, loss), first = NETS[name], 2 if name == "feedback alignment" else 0
    net, golden, layers, prefix, spikes = make()
    assert first == golden["first_learning_step"]
    x, labels = data(golden)
    compute = safjax.value_and_grad(loss, published(golden["factors"], first), mean_over=1, record=("spikes",))
    (_, aux), grads = compute(net, x, labels)
    nets.assert_fires(aux.rates)
    for ours, theirs in spikes.items():
        assert np.array_equal(as_theirs(aux.records["spikes"][ours]), golden[theirs])
    for layer, (_, found) in zip(layers, by_layer(name, grads), strict=True):
        assert_published(golden, prefix, layer, named(found))


def as_theirs(spikes):
    return np.moveaxis(spikes, -1, 2) if spikes.ndim > 3 else spikes


def published(factors, first):
    of_post, of_pre, post, pre = map(float, factors)
    return rules.stllr(pre_decay=of_pre, post_decay=of_post, causal=pre, noncausal=post, first=first)
