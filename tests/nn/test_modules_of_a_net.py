"""The modules of a net are found as NNX finds them: the same paths, the same order, each once."""

import jax.numpy as jnp
import pytest
from flax import nnx

from safjax.nn import LIF, BatchNorm, Dropout, LeakyReadout, Synapse
from safjax.nn.states import modules
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


class Odd(nnx.Module):
    """Modules in lists, dicts, tuples and in each other, one of them in three places."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.shared = nnx.Linear(2, 3, rngs=rngs)
        self.b, self.a = nnx.Sequential(self.shared, jnp.tanh, LIF()), LIF()
        self.many = nnx.List([LIF() for _ in range(11)])
        self.named = nnx.Dict({"z": BatchNorm(3, over="step"), "y": nnx.Dict({"x": self.shared})})
        self.plain = nnx.data({"k": (1, [Synapse(self.shared), 2.0]), "j": [LIF()]})
        self.numbers, self.array, self.rngs = (1, 2), nnx.data(jnp.ones(2)), rngs
        self.itself = nnx.data([self])


NETS = {
    "odd": Odd,
    "convolutions": nets.Conv,
    "residual": nets.Residual,
    "feedback": nets.Feedback,
    "dropout": lambda: nnx.Sequential(Dropout(0.5, rngs=nnx.Rngs(0)), LeakyReadout()),
    "a layer": lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_they_are_those_of_nnx(make):
    net = make()
    found, expected = list(modules(net)), list(nnx.iter_modules(net))
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert all(a is b for (_, a), (_, b) in zip(found, expected, strict=True))
    assert found[-1] == ((), net)
