"""What the library says to its users names no class that they cannot meet, and where in the net it happened."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
import safjax.data
import safjax.nir
from safjax import rules
from safjax.nn import IF, LIF, PLIF, PSN, SPSN, Dropout, LeakyReadout, Neuron, Recurrent, Synapse, WSConv, concatenate
from tests import nets

PACKAGE = Path(safjax.__file__).parent
MODULES = (safjax, safjax.data, safjax.nir, safjax.neurons, *(getattr(safjax, name) for name in safjax.__all__))
PUBLIC = {name for module in MODULES for name in getattr(module, "__all__", dir(module))}
SOURCES = [ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]
CLASSES = {node.name for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
PRIVATE = re.compile(rf"(?<![\w.'])(?:{'|'.join(sorted(CLASSES - PUBLIC))})(?!\w)")


def spoken(tree):
    """The strings of a file that are sentences, docstrings aside; f-strings with … for what they insert."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent.update(map(id, node.values))
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_no_sentence_of_the_source_names_a_private_class():
    sentences = [s for tree in SOURCES for s in spoken(tree) if s.count(" ") >= 3]
    assert len(sentences) > 100 and {"Rate", "Kept", "Traced", "Sequence", "Binding"} <= CLASSES - PUBLIC
    for sentence in sentences:
        for match in PRIVATE.finditer(sentence):
            # The first word of a sentence is written with a capital.
            assert re.search(r"(^|[.:?] )$", sentence[: match.start()]), sentence
        assert not re.search(r"\b(messages?|Course)\b", sentence), "what travels between layers has no name for users"


class Streams(nnx.Module):
    """Two layers beside one another, and what is made of both."""

    def __init__(self, combine, features):
        rngs = nnx.Rngs(7)
        self.a, self.b = Synapse(nets._dense(7, 4, rngs)), Synapse(nets._dense(7, 5, rngs))
        self.one, self.two, self.three = LIF(), LIF(), LIF()
        self.product, self.entering = Synapse(lambda a, b: a * b[:, :4]), Synapse(lambda x: x)
        self.last, self.readout = Synapse(nets._dense(features, 9, rngs)), LeakyReadout()
        self.combine = combine

    def __call__(self, x):
        spikes = self.one(self.a(x)), self.two(self.b(x))
        return self.readout(self.three(self.last(self.combine(self, x, *spikes))))


COMBINED = {
    "concatenated": (lambda net, x, a, b: jnp.concatenate([a, b], -1), 9),
    "multiplied": (lambda net, x, a, b: a * b[:, :4], 4),
    "added to the input": (lambda net, x, a, b: x[:, :4] + a, 4),
}


ADVISED = {
    "concatenated": (lambda net, x, a, b: concatenate(a, b), 9),
    "multiplied": (lambda net, x, a, b: net.product(a, b), 4),
    "added to the input": (lambda net, x, a, b: net.entering(x[:, :4]) + a, 4),
}


def learned(grads):
    """Of the layers that have a gradient: one of the nets makes nothing of its second layer."""
    return {name: value for name, value in nnx.as_pure(grads).items() if any(map(jnp.any, jax.tree.leaves(value)))}


def gradient(rule, combine, features):
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.5, (nets.STEPS, nets.BATCH, 7)))
    return safjax.value_and_grad(lambda output: (output**2).mean(), rule, outputs="all")(Streams(combine, features), x)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("how", COMBINED)
def test_what_is_advised_for_two_streams_is_true(how):
    (_, aux), expected = gradient(rules.bptt(), *COMBINED[how])
    nets.assert_fires(aux.rates)
    (_, other), grads = gradient(rules.exodus(), *ADVISED[how])
    np.testing.assert_allclose(other.outputs, aux.outputs, rtol=1e-12)
    nets.assert_trees_close(learned(grads), learned(expected), rtol=1e-11)
    if how == "multiplied":
        with pytest.raises(ValueError, match="through the Synapse at 'product', so it must be affine in its 2"):
            jax.eval_shape(lambda: gradient(rules.saf_e(), *ADVISED[how]))
    else:
        online, traced = (gradient(rule, *ADVISED[how])[1] for rule in (rules.saf_e(), rules.ottt_o()))
        nets.assert_trees_close(learned(online), learned(traced), rtol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("how", COMBINED)
@pytest.mark.parametrize("name", ["exodus", "ottt_a", "saf_f"])
def test_functions_of_two_streams_are_refused_in_plain_words(name, how):
    advice = r"no plain array.*Synapse\(lambda a, b: a \* b\).*safjax\.nn\.concatenate\(a, b\)"
    with pytest.raises(TypeError, match=advice) as error:
        jax.eval_shape(lambda: gradient(rules.RULES[name](), *COMBINED[how]))
    assert not PRIVATE.search(str(error.value).partition("\n")[0])


def run(*layers, x=None):
    return safjax.predict(nnx.Sequential(*layers, LeakyReadout(0.5)), jnp.ones((2, 3)) if x is None else x, 2)


def dense(inputs=3, outputs=3):
    return Synapse(nnx.Linear(inputs, outputs, rngs=nnx.Rngs(0)))


class Nothing(Neuron):
    """Without a cell."""


class Wrong(Neuron):
    """With something else for a cell."""

    def cell(self):
        return 0.5


MISTAKES = {
    r"given the class Linear": lambda: Synapse(nnx.Linear),
    r"expected a Neuron, .*given the class LIF": lambda: Recurrent(LIF, dense()),
    r"expected a Neuron, .*given one of type Synapse": lambda: Recurrent(dense(), LIF()),
    r"LIF was given an array of the running net.*Write LIF\(\)": lambda: run(dense(), LIF),
    r"IF was given an array of the running net.*Write IF\(\)": lambda: run(dense(), IF),
    r"given the class PLIF": lambda: safjax.predict(PLIF, jnp.ones(3), 2),
    r"Nothing has no method cell\(\)": lambda: run(dense(), Nothing()),
    r"Wrong at 'layers.1': .*returned a float.*safjax.neurons.Cell": lambda: run(dense(), Wrong()),
    r"LIF at 'layers.1': its surrogate returned the shape \[\] for x of shape \[2, 3\]": lambda: run(
        dense(), LIF(surrogate=lambda x: x.sum())
    ),
    r"Dropout\(rngs=...\): .*nnx.Rngs\(0\)": lambda: Dropout(0.5, rngs=0),
    r"WSConv\(rngs=...\): .*nnx.Rngs\(0\)": lambda: WSConv(3, 4, rngs=0),
    r"SPSN\(rngs=...\): .*nnx.Rngs\(0\)": lambda: SPSN(rngs=None),
    r"PSN\(rngs=...\): .*nnx.Rngs\(0\)": lambda: PSN(4, rngs=None),
    r"WSConv\(.*kernel_size=\(3,\).*two for kernel_size": lambda: WSConv(3, 4, 3, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_in_making_a_net(words):
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=words):
        MISTAKES[words]()


@pytest.mark.parametrize(
    ("layers", "note"),
    [
        (lambda: (dense(), LIF(threshold=nnx.Param(jnp.ones(7)))), r"LIF at 'layers.1', given an array of shape"),
        (lambda: (dense(), Recurrent(LIF(), dense(3, 2))), "Recurrent at 'layers.1', given"),
    ],
)
def test_errors_of_jax_name_the_layer(layers, note):
    with pytest.raises((TypeError, ValueError), match="shape") as error:
        run(*layers())
    assert re.search(f"This happened in the {note}", "\n".join(error.value.__notes__))


@pytest.mark.usefixtures("advice")
def test_advice_is_not_what_the_same_net_would_be_refused():
    """Neurons that need all steps at once go layer by layer only, and not with feedback."""

    def refused(rule, *layers):
        with pytest.raises(ValueError) as error:
            net = nnx.Sequential(*layers, LeakyReadout(0.5))
            jax.eval_shape(lambda x: safjax.value_and_grad(jnp.mean, rule, 4, outputs="all")(net, x), jnp.ones((2, 3)))
        return str(error.value)

    whole = lambda: PSN(4, rngs=nnx.Rngs(0))  # noqa: E731
    for layers in ((dense(), LIF(0.4), dense()), (dense(), PLIF()), (dense(), LIF(), Synapse(nnx.relu))):
        assert "this net as it is: exodus, slayer, bptt(layerwise=True)." in refused(rules.ottt_a(), *layers, whole())
        assert "as it is: bptt, exodus, slayer, sltt, " in refused(rules.ottt_a(), *layers, LIF())
    for rule in (rules.bptt(), rules.exodus(), rules.ottt_a()):
        assert "PSN at 'layers.1.neuron'" in refused(rule, dense(), Recurrent(whole(), dense()))


def test_whole_numbers_are_images_for_every_rule():
    net, x = nnx.Sequential(LIF(), LeakyReadout()), np.array([[0, 1, 2, 3]], np.uint8)
    for rule in (rules.saf_f(), rules.ottt_a(), rules.exodus()):
        (_, aux), _ = safjax.value_and_grad(jnp.mean, rule, 4, outputs="all")(net, jnp.asarray(x))
        (_, other), _ = safjax.value_and_grad(jnp.mean, rule, 4, outputs="all")(net, jnp.asarray(x, jnp.float32))
        np.testing.assert_array_equal(aux.outputs, other.outputs)
