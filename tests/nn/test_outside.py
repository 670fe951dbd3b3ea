"""A synapse's function that reads a module's variables without holding the module is refused, and the way out works."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from safjax import rules
from safjax.nn import LIF, LeakyReadout, Synapse
from tests import nets
from tests.tables import BROAD, families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")
RULES = {**BROAD, "bptt, layerwise": lambda: rules.bptt(layerwise=True)}
GLOBAL = nnx.Linear(4, 4, rngs=nnx.Rngs(1))


class Transposed(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return x @ self.layer.kernel[...].T


class Tied(nnx.Module):
    """Two layers, the second with the first one's weights transposed."""

    def __init__(self, make):
        self.linear = nets._dense(4, 4, nnx.Rngs(0))
        self.first, self.second = Synapse(self.linear), Synapse(make(self))
        self.one, self.two, self.readout = LIF(), LIF(), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.second(self.two(self.first(self.one(2 * x)))))


BAD = {
    "weights": lambda net: lambda x: x @ net.linear.kernel[...].T,
    "layer": lambda net: lambda x: net.linear(x),
    "method": lambda net: nnx.Sequential(nets._dense(4, 4, nnx.Rngs(2)), net.linear.__call__),
    "global": lambda net: lambda x: GLOBAL(x),
    "beside dropout": lambda net: nnx.Sequential(nnx.Dropout(0.0, rngs=nnx.Rngs(0)), lambda x: net.linear(x)),
}


def compute(net, rule):
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (5, 3, 4)))
    return nets.value_and_grad(nets.loss, rule)(net, x, nets.labels())


@pytest.mark.parametrize("name", ["bptt", "exodus", "saf_f", "ottt_a"])
@pytest.mark.parametrize("bad", BAD)
def test_reading_from_outside_is_refused(name, bad):
    """Part of the gradient was lost, and updates went unseen."""
    with pytest.raises(ValueError, match=r"Synapse at 'second' reads a Param\[4, 4\] .*Hold the layer in a module"):
        compute(Tied(BAD[bad]), RULES[name]())


@pytest.mark.parametrize("name", rule_by_rule(RULES, families))
def test_a_layer_held_twice_is_learned_from_both_places(name):
    """The gradient is the sum of those of two layers of equal weights."""

    class Apart(Tied):
        def __init__(self):
            super().__init__(lambda net: Transposed(net.linear))
            self.second = Synapse(Transposed(nets._dense(4, 4, nnx.Rngs(0))))

    (_, aux), tied = compute(Tied(lambda net: Transposed(net.linear)), RULES[name]())
    nets.assert_fires(aux.rates, high=0.65)
    _, apart = compute(Apart(), RULES[name]())
    expected = apart["first"]["layer"]["kernel"] + apart["second"]["layer"]["layer"]["kernel"]
    nets.assert_trees_close(tied["first"]["layer"]["kernel"], expected, rtol=1e-12)


def test_constants_may_be_closed_over():
    matrix, net = jnp.eye(4), object.__new__(object)
    compute(Tied(lambda _: lambda x: x @ matrix if net else x), rules.saf_f())
