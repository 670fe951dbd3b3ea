"""Rules that update at every step: what they learn from a sequence in chunks is what they learn from the whole."""

import itertools

import optax
import pytest
from flax import nnx

import safjax
from tests import nets
from tests.tables import some_slow
from tests.test_chunks import CUTS, RULES, TOPOLOGIES

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(
    "name, topology",
    some_slow(
        itertools.product(["saf_e", "ottt_o"], ["convolution", "recurrent, dropout"]),
        lambda *row: row in [("saf_e", "convolution"), ("ottt_o", "recurrent, dropout")],
    ),
)
def test_updates_at_every_step_are_the_same_in_chunks(name, topology):
    make, inputs = TOPOLOGIES[topology]
    x, optimizer = inputs(), optax.adam(1e-2)
    step = safjax.train_step(nets.loss, RULES[name], optimizer, mean_over=nets.STEPS)
    net = make()
    expected, _, (_, aux) = step(net, step.init(net), x, nets.labels())
    nets.assert_fires(aux.rates)
    net = make()
    opt_state, state = step.init(net), step.start(net, x)
    for begin, end in itertools.pairwise(CUTS):
        net, opt_state, (_, aux) = step(net, opt_state, x[begin:end], nets.labels(), state=state)
        state = aux.state
    parameters = (nnx.as_pure(nnx.state(n, nnx.Param)) for n in (net, expected))
    nets.assert_trees_close(*parameters, rtol=1e-12)
