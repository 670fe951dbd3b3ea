"""What a synapse of several inputs and a concatenation refuse, by the layer's name and with the way out."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, LeakyReadout, Synapse, concatenate
from tests.joined_nets import Within
from tests.refused_nets import Calls, dense

RULES = {
    **{name: make() for name, make in rules.RULES.items()},
    "bptt(layerwise=True)": rules.bptt(layerwise=True),
    "rate_backprop(layerwise=True)": rules.rate_backprop(layerwise=True),
}
LAYERWISE = [name for name, rule in RULES.items() if rule.propagation.whole_sequence]
PER_WEIGHT = ("ostl", "otpe", "eprop")
SPIKES = ("bptt", "exodus", "slayer", "sltt", *PER_WEIGHT, "bptt(layerwise=True)")
AND_PORTS = (*SPIKES[:4], "stllr", *SPIKES[4:])
"""With S-TLLR, whose synapses without weights may be any map."""


def two(join, **layers):
    """Two streams of spikes, joined by a function of (net, a, b, input)."""

    def call(net, x):
        return net.readout(net.last(join(net, net.lif1(net.one(x)), net.lif2(net.two(x)), x)))

    own = {"one": dense(), "two": dense(), "lif1": LIF(), "lif2": LIF(), "last": dense(), "readout": LeakyReadout()}
    return Calls(call, **own, **layers)


def joined(function, inputs=lambda a, b, x: (a, b)):
    return two(lambda net, a, b, x: net.both(*inputs(a, b, x)), both=Synapse(function))


def run(net, name):
    x = jnp.ones((4, 2, 3))
    jax.eval_shape(lambda x: safjax.value_and_grad(jnp.mean, RULES[name])(net, x), x)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda a, b: (1 - a) * b, "a product of two values"),
        (lambda a, b: (a[:, :, None] @ b[:, None])[:, 0], "a matrix product of two values"),
    ],
)
def test_what_is_affine_in_each_alone_is_not_in_both(function, operation):
    report = safjax.check(joined(function), jnp.ones((4, 2, 3)))
    assert report.trained_by == AND_PORTS
    for name in set(RULES) - set(AND_PORTS):
        (reason,) = report[name].reasons
        assert reason.path == "both"
        assert f"affine in its 2 inputs together, but it contains {operation}" in reason.sentence
        assert "a sum instead of a product" in reason.sentence


def test_what_is_affine_in_both_is_taken_by_every_rule():
    function = nnx.Sequential(lambda a, b: a - 2 * b + 1, nnx.Linear(3, 3, rngs=nnx.Rngs(0)))
    assert safjax.check(joined(function), jnp.ones((4, 2, 3))).trained_by == tuple(
        n for n in RULES if n not in PER_WEIGHT
    )


MISTAKES = {
    r"Synapse at 'both' was given 3 inputs, but its layer takes \(a, b\)": (
        lambda: joined(lambda a, b: a, lambda a, b, x: (a, b, x)),
        TypeError,
    ),
    r"Synapse at 'both' was given 1 input, but its layer takes \(a, b\)": (
        lambda: joined(nnx.Sequential(lambda a, b: a, dense().layer), lambda a, b, x: (a,)),
        TypeError,
    ),
    r"Synapse at 'both' was given 2 inputs, but its layer takes \(inputs: ": (
        lambda: joined(nnx.Linear(3, 3, rngs=nnx.Rngs(0))),
        TypeError,
    ),
    r"Synapse at 'both' was given a float as its input 2": (
        lambda: joined(lambda a, b: a * b, lambda a, b, x: (a, 0.5)),
        TypeError,
    ),
    r"Synapse at 'both' was given inputs of the shapes \[2, 3\], \[3\] at a step.*holds itself": (
        lambda: joined(lambda a, b: a * b, lambda a, b, x: (a, jnp.ones(3))),
        ValueError,
    ),
    r"Synapse at 'both' returned a tuple.*one array": (lambda: joined(lambda a, b: (a, b)), TypeError),
    r"Synapse at 'both' made an array of shape \[3, .*\] of inputs .*first axis must be": (
        lambda: joined(lambda a, b: (a + b).T),
        ValueError,
    ),
    r"This happened in the Synapse at 'both', given .*\[2, 3\].*, given .*\[2, 3\]": (
        lambda: joined(lambda a, b: a + b[:, :2]),
        TypeError,
    ),
    r"concatenate\(axis=0\) of parts of the shapes \[2, 3\], \[2, 3\] at a step: expected is an axis from 1 to 1": (
        lambda: two(lambda net, a, b, x: concatenate(a, b, axis=0)),
        ValueError,
    ),
    r"concatenate\(axis=-2\)": (lambda: two(lambda net, a, b, x: concatenate(a, b, axis=-2)), ValueError),
    r"concatenate\(axis=1\.0\)": (lambda: two(lambda net, a, b, x: concatenate(a, b, axis=1.0)), ValueError),
    r"concatenate was given a list.*concatenate\(\*parts\)": (
        lambda: two(lambda net, a, b, x: concatenate([a, b])),
        TypeError,
    ),
    r"concatenate was given no parts": (lambda: two(lambda net, a, b, x: concatenate()), TypeError),
    r"parts of the shapes \[2, 3\], \[2, 1, 3\] at a step.*along this axis only": (
        lambda: two(lambda net, a, b, x: concatenate(a, net.flat(b)), flat=Synapse(lambda b: b[:, None])),
        ValueError,
    ),
    r"Delay\(shape=\(4,\)\) at 'delay' is to keep what has the shape \[2, 3\].*shape=\(3,\)": (
        lambda: looped(Delay(shape=(4,)), lambda x, back: x + back[:, :3]),
        ValueError,
    ),
    r"recalled, but nothing is kept .*Delay\(shape=\(64,\)\)": (lambda: looped(Delay(), jnp.add), ValueError),
}


def looped(delay, function):
    def call(net, x):
        spikes = net.lif(net.both(net.first(x), net.delay.recall()))
        net.delay.keep(spikes)
        return net.readout(spikes)

    layers = {"first": dense(), "both": Synapse(lambda x, back: function(x, back)), "delay": delay, "lif": LIF()}
    return Calls(call, **layers, readout=LeakyReadout())


@pytest.mark.parametrize("words", MISTAKES)
@pytest.mark.parametrize(
    "name", ["exodus", *(pytest.param(n, marks=pytest.mark.slow) for n in ("saf_f", "ottt_a", "bptt"))]
)
def test_mistakes_are_told_by_the_layers_name(words, name):
    make, kind = MISTAKES[words]
    if name == "exodus" and "elay" in words:
        words, kind = "computes each layer over all time steps", ValueError
    elif name == "exodus" and "holds itself" in words:
        words = r"array of shape \(3,\).*must keep the batch axis.*happened in the Synapse at 'both'"
    with pytest.raises(kind) as error:
        run(make(), name)
    told = " ".join([str(error.value), *getattr(error.value, "__notes__", ())])
    assert re.search(words, told.replace("\n", " ")), told


@pytest.mark.parametrize("shape", [(0,), (2.0,), 64, "8", (True,)])
def test_shapes_that_are_none(shape):
    with pytest.raises(ValueError, match=r"Delay\(shape=.*without the batch"):
        Delay(shape=shape)


@pytest.mark.parametrize("name", ["saf_f", "ottt_a", "exodus"])
def test_a_concatenation_with_the_input_stands_in_a_synapse(name):
    net = two(lambda net, a, b, x: concatenate(a, x))
    with pytest.raises(TypeError, match=r"Concatenating an array of shape \[.*\] met .*Synapse\(lambda a, b: a \* b\)"):
        run(net, name)
    wide = Synapse(lambda a, x: jnp.concatenate([a, x], -1)[:, 1:4])
    run(two(lambda net, a, b, x: net.wide(a, x), wide=wide), name)


@pytest.mark.usefixtures("x64")
def test_all_that_is_behind_a_refused_loop_is_not_refused_again():
    """What comes back has no shape then, nor has what is made of it together with something else."""
    report = safjax.check(Within(), jnp.ones((4, 2, 7)))
    assert report.trained_by == tuple(
        name for name, rule in RULES.items() if rule.propagation.recalls and name not in PER_WEIGHT
    )
    for name in LAYERWISE:
        (reason,) = report[name].reasons
        assert reason.path == "delay" and "feeds a later layer's spikes" in reason.sentence


def test_concatenation_of_plain_arrays_is_numpys():
    a, b = np.arange(12.0).reshape(2, 3, 2), np.ones((2, 3, 4))
    np.testing.assert_array_equal(concatenate(a, b), np.concatenate([a, b], -1))
    np.testing.assert_array_equal(concatenate(a, b[..., :2], axis=1), np.concatenate([a, b[..., :2]], 1))
    np.testing.assert_array_equal(concatenate(a), a)


def test_a_table_shows_synapses_of_several_inputs():
    for net in (joined(lambda a, b: a * b), looped(Delay(shape=(3,)), jnp.add)):
        table = nnx.tabulate(net, jnp.ones((2, 3)), console_kwargs={"width": 300, "force_terminal": False})
        (row,) = (line for line in table.splitlines() if "│ both " in line)
        assert [cell.strip() for cell in row.split("│")[3:5]] == ["- float32[2,3]", "float32[2,3]"]
