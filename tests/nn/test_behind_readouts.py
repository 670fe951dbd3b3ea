"""What stands behind the readouts of a net whose mean output is differentiated: the same in both forms, or refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout
from safjax.nn.binding import bind
from tests import nets
from tests.refused_nets import IMAGE, SEQUENCE, STEPS, UNITS, Calls, chain, dense, given

FORMS = {"by step": rules.rate_backprop(), "by layer": rules.rate_backprop(layerwise=True)}
NAMES = ("rate_backprop", "rate_backprop(layerwise=True)")


def linear():
    return nnx.Linear(UNITS, UNITS, rngs=nnx.Rngs(0))


def net(behind, **layers):
    """One layer of neurons, and behind its readout a function of (net, what it gives, input)."""

    def call(net, x):
        return behind(net, net.readout(net.last(net.lif(net.first(x)))), x)

    return Calls(call, first=dense(), lif=LIF(), last=dense(), readout=InstantReadout(), **layers)


class Holds(nnx.Module):
    """A layer that holds another one."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


def end(net, o, x):
    return net.end(o)


def parameter():
    return nnx.Param(jnp.ones(UNITS))


FUNCTION = "a function that the net itself calls, behind the readout at 'readout',"
REFUSED = {
    "function": (lambda: net(lambda n, o, x: jnp.tanh(o)), f"{FUNCTION} contains the operation 'tanh'"),
    "ReLU": (lambda: net(end, end=nnx.Sequential(nnx.relu)), r"layer at 'end', .* contains a maximum \(ReLU\)"),
    "normalisation": (lambda: net(end, end=nnx.LayerNorm(UNITS, rngs=nnx.Rngs(0))), "the layer at 'end', behind"),
    "held": (lambda: net(end, end=Holds(Holds(linear()))), "the layer at 'end.layer.layer', .* parameters that learn"),
    "factor": (lambda: net(lambda n, o, x: n.w[...] * o, w=parameter()), f"{FUNCTION} .* parameters that learn"),
    "gated by the input": (lambda: net(lambda n, o, x: o * x), f"{FUNCTION} .* a product with what changes with time"),
    "dropout": (lambda: net(end, end=nnx.Dropout(0.5, rngs=nnx.Rngs(0))), "the layer at 'end', .* 'select_n'"),
    "one of two": (lambda: net(lambda n, o, x: (o, jnp.exp(o))), f"{FUNCTION} contains the operation 'exp'"),
    "square": (lambda: net(lambda n, o, x: o * o), f"{FUNCTION} contains a product of two values"),
    "shortcut": (lambda: net(lambda n, o, x: o + n.end(x), end=linear()), "contains a learned part that changes with"),
    "beside": (
        lambda: net(lambda n, o, x: (o, n.end(x)), end=linear()),
        "but a function that the net itself calls contains a learned part",
    ),
    "no readout": (lambda: nnx.Sequential(dense(), LIF(), dense()), "end the spiking part with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_differentiated_at_one_step_is_refused(name):
    make, words = REFUSED[name]
    for form in FORMS.values():
        with pytest.raises(ValueError, match=words):
            bound(make(), form)


def bound(net, rule, static=False):
    """As when a gradient is asked for."""
    return bind(net, rule, jnp.ones(IMAGE), STEPS, static)


def test_check_names_the_layer():
    report = safjax.check(net(end, end=Holds(linear())), *given(SEQUENCE))
    for name in NAMES:
        (reason,) = report[name].reasons
        assert reason.path == "end.layer" and "'end.layer', behind the readout at 'readout'" in reason.sentence
    assert report["bptt"].trains and report["saf_f"].trains


TAKEN = {
    "affine": lambda: net(lambda n, o, x: {"a": 2 * o + 1, "b": o - o.mean(-1, keepdims=True)}),
    "bias": lambda: net(lambda n, o, x: o + n.b[...], b=parameter()),
    "fixed factor": lambda: net(lambda n, o, x: o @ n.w[...], w=nnx.Variable(jnp.ones((UNITS, 2)))),
    "input": lambda: net(lambda n, o, x: (o + x, x)),
    "answer": lambda: net(lambda n, o, x: (o, o > 0)),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_the_same_at_every_step_is_taken(name):
    for form in FORMS.values():
        bound(TAKEN[name](), form)


def test_an_image_is_no_change_with_time():
    for behind in (lambda n, o, x: o * x, lambda n, o, x: o + n.end(x)):
        bound(net(behind, end=linear()), FORMS["by step"], static=True)


def test_both_forms_see_a_readout_further_within():
    for form in FORMS.values():
        bound(nnx.Sequential(chain(dense(), LIF(), dense()), lambda x: x - 1), form)
        with pytest.raises(
            ValueError, match="behind the readout at 'layers.0.layers.3', contains the operation 'square'"
        ):
            bound(nnx.Sequential(chain(dense(), LIF(), dense()), jnp.square), form)


@pytest.mark.usefixtures("x64")
def test_both_forms_give_the_same_numbers_for_what_is_taken():
    class Shifted(nnx.Module):
        def __init__(self):
            self.net, self.shift = nets.Dense(LeakyReadout), nnx.Param(jnp.linspace(-0.4, 0.3, nets.CLASSES))
            self.mixing = nnx.Variable(jnp.asarray(np.random.default_rng(0).normal(size=(nets.CLASSES, nets.CLASSES))))

        def __call__(self, x):
            return self.net(x) @ self.mixing[...] + self.shift[...]

    x = jnp.asarray(np.random.default_rng(2).normal(0.2, 1.2, (6, nets.BATCH, 7)))
    results = [safjax.value_and_grad(nets.loss, rule)(Shifted(), x, nets.labels()) for rule in FORMS.values()]
    ((value, aux), grads), ((other, _), others) = results
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, other, rtol=1e-13)
    nets.assert_trees_close(grads, others, rtol=1e-12)
