"""Layers before the spiking part: one image for all steps trains them as the sequence that repeats it does, or a rule
that has no trace for them refuses the sequence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse, WSConv
from tests import nets
from tests.fronts import FOLLOWING, RULES, SUMMING, bound, gradients, normalisation, repeated, vectors
from tests.tables import families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")


class Allowed(nnx.Module):
    """Fixed functions, a frozen layer and a normalisation before the first synapse; a learned pattern that enters
    beside them; another input at a later one; layers behind the readout unless that is said."""

    def __init__(self, behind=True):
        rngs = nnx.Rngs(0)
        self.frozen = nets._dense(7, 7, rngs)
        self.steady = nnx.Variable(jnp.asarray(np.random.default_rng(3).normal(0, 0.4, (7, 7))))
        self.norm = normalisation(use_scale=False, use_bias=False)
        self.pattern = nnx.Param(vectors(5)[0])
        self.first, self.beside = (Synapse(nets._dense(7, 9, rngs)) for _ in range(2))
        self.second, self.skip = Synapse(nets._dense(9, 8, rngs)), Synapse(nets._dense(7, 8, rngs))
        self.lif1, self.lif2 = LIF(), LIF()
        self.last, self.readout = Synapse(nets._dense(8, 6 if behind else nets.CLASSES, rngs)), LeakyReadout()
        self.after = nets._dense(6, nets.CLASSES, rngs) if behind else None

    def __call__(self, x):
        one, two = x["one"], x["two"]
        front = nnx.relu(one) + jnp.max(one, 1, keepdims=True) + jax.lax.stop_gradient(self.frozen(one))
        pattern = jnp.broadcast_to(jnp.tanh(self.pattern), one.shape)
        spikes = self.lif1(0.3 * self.first(self.norm(front)) + 0.7 * self.beside(pattern))
        current = self.second(spikes) + 0.5 * self.skip(two * two @ self.steady)
        output = self.readout(self.last(self.lif2(current)))
        return output if self.after is None else self.after(jnp.tanh(output))


@pytest.mark.parametrize("name", rule_by_rule({name: RULES[name] for name in FOLLOWING}, families))
def test_one_image_is_the_sequence_that_repeats_it(name):
    """What learns nothing is a preparation of the input, what does not change with time a constant."""
    x = {"one": vectors(0), "two": vectors(1)}
    make = functools.partial(Allowed, behind=not RULES[name].schedule.of_mean_output)
    value, grads = gradients(make(), RULES[name], x, nets.STEPS)
    again, others = gradients(make(), RULES[name], repeated(x))
    np.testing.assert_allclose(again, value, rtol=1e-12)
    assert not any(np.any(g) for g in jax.tree.leaves([grads.pop("frozen"), others.pop("frozen")]))
    nets.assert_trees_close(others, grads)


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("name", rule_by_rule({name: RULES[name] for name in (*SUMMING, "sltt", "exodus")}, families))
def test_learned_layers_before_a_sequence(name):
    """Before, their gradient from a repeated image was off by 1 − 1/Λ[T], here 48 %, at a loss of the last step."""
    image = nets.image()
    if name in SUMMING and name not in FOLLOWING:
        for how in ((image, nets.STEPS), (repeated(image),)):
            with pytest.raises(ValueError, match=rf"'{name}' sums over time.*learned 'before.bias'.*Synapse") as error:
                bound(nets.Hybrid, RULES[name], *how)
            assert "with steps=T" not in str(error.value)
    elif name in SUMMING:
        make = functools.partial(nets.Hybrid, behind=not RULES[name].schedule.of_mean_output)
        bound(make, RULES[name], image, nets.STEPS)
        told = (
            rf"'{name}' sums over time .* the Synapse at 'synapse'. It changes .* learned 'before.bias', "
            r"'before.kernel', .*into a Synapse.* with steps=T.*Rules that train .*: bptt, exodus, slayer, sltt"
        )
        with pytest.raises(ValueError, match=told):
            bound(make, RULES[name], repeated(image))
    else:
        (value, grads), (again, others) = (
            gradients(nets.Hybrid(), RULES[name], *how) for how in ((image, nets.STEPS), (repeated(image),))
        )
        np.testing.assert_allclose(again, value, rtol=1e-12)
        nets.assert_trees_close(others, grads)


class Front(nnx.Module):
    """A layer, or the same layer in a Synapse, before a convolutional net."""

    def __init__(self, layer):
        rngs = nnx.Rngs(3)
        self.layer, self.synapse = layer(rngs), Synapse(nets._conv(3, 4, rngs))
        self.lif, self.last, self.readout = LIF(), Synapse(nets._pooled_dense(4, rngs)), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.lif(self.synapse(self.layer(nnx.relu(x))))))


def standardised(rngs):
    return nets._randomised(WSConv(2, 3, param_dtype=nets.DTYPE, rngs=rngs))


@pytest.mark.parametrize("name", ["ottt_a", "saf_e", "saf_f", "ide"])
def test_in_a_synapse_they_learn_from_sequences(name):
    """What the refusal advises: exactly what the image gives them where they stand."""
    value, grads = gradients(Front(standardised), RULES[name], nets.image(), nets.STEPS)
    with pytest.raises(ValueError, match=r"learned 'layer.bias', 'layer.gain', 'layer.kernel', for which"):
        bound(lambda: Front(standardised), RULES[name], repeated(nets.image()))
    again, others = gradients(Front(lambda r: Synapse(standardised(r))), RULES[name], repeated(nets.image()))
    np.testing.assert_allclose(again, value, rtol=1e-12)
    nets.assert_trees_close(others["layer"]["layer"], grads.pop("layer"))
    nets.assert_trees_close({key: others[key] for key in grads}, dict(grads))


class Explicit(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(1)
        self.pattern = nnx.Param(vectors(5)[0])
        self.first, self.beside = (Synapse(nets._dense(7, 9, rngs)) for _ in range(2))
        self.lif, self.last, self.readout = LIF(0.8), Synapse(nets._dense(9, nets.CLASSES, rngs)), InstantReadout()

    def __call__(self, x):
        pattern = jnp.broadcast_to(jnp.tanh(self.pattern), x.shape)
        return self.readout(self.last(self.lif(0.5 * self.first(nnx.relu(x)) + self.beside(pattern))))


def test_ottt_written_out():
    """A sequence that varies: traces of what a fixed function makes of it, and of a learned pattern."""
    net, x = Explicit(), jnp.stack([vectors(t) for t in range(nets.STEPS)])
    _, grads = gradients(net, rules.ottt_a(), x)
    (pattern, to_pattern), shape = jax.vjp(jnp.tanh, net.pattern[...]), (nets.BATCH, 7)
    kernel, other = net.first.layer, net.beside.layer
    decay, spike = net.lif.decay, net.lif.surrogate
    trace, membrane, gain = jnp.zeros(shape), jnp.zeros((nets.BATCH, 9)), 0.0
    expected = {"pattern": 0.0, "first": 0.0, "beside": 0.0, "bias": 0.0}
    for t in range(nets.STEPS):
        potential = decay * membrane + 0.5 * kernel(nnx.relu(x[t])) + other(jnp.broadcast_to(pattern, shape))
        error = jax.grad(lambda u: nets.loss(net.last.layer(spike(u - 1.0)), nets.labels()))(potential) / nets.STEPS
        membrane = potential - (potential >= 1.0)
        trace, gain = decay * trace + nnx.relu(x[t]), decay * gain + 1
        expected["first"] += 0.5 * trace.T @ error
        expected["bias"] += gain * error.sum(0)
        expected["beside"] += gain * jnp.outer(pattern, error.sum(0))
        expected["pattern"] += gain * to_pattern(other.kernel[...] @ error.sum(0))[0]
    first, beside = grads["first"]["layer"], grads["beside"]["layer"]
    actual = {"first": first["kernel"], "bias": beside["bias"], "beside": beside["kernel"], "pattern": grads["pattern"]}
    nets.assert_trees_close(actual, expected)
    np.testing.assert_allclose(first["bias"], 0.5 * beside["bias"], rtol=1e-12)
