"""Dropout: one mask for each sequence and sample, the same for spikes and their sums, and none in evaluation."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Dropout, LeakyReadout, Synapse
from tests import nets
from tests.tables import BROAD, families, rule_by_rule

pytestmark = pytest.mark.usefixtures("x64")


class Dropped(nnx.Module):
    """Dropout on spikes."""

    def __init__(self, rate=0.5):
        rngs = nnx.Rngs(0)
        self.first, self.lif = Synapse(nets._dense(7, 40, rngs)), LIF()
        self.dropout = Dropout(rate, rngs=rngs)
        self.last, self.readout = Synapse(nets._dense(40, nets.CLASSES, rngs)), LeakyReadout()

    def __call__(self, x):
        return self.readout(self.last(self.dropout(self.lif(self.first(x)))))


def dense_input(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1.2, (nets.BATCH, 7)))


def compute(net, rule, x=None, steps=nets.STEPS):
    return nets.value_and_grad(nets.loss, rule, steps, outputs="all")(
        net, dense_input() if x is None else x, nets.labels()
    )


@pytest.mark.parametrize("name", rule_by_rule(BROAD, families))
def test_dropout_draws_one_mask_a_sequence(name):
    """Theory holds under dropout: the readout's weights of silenced neurons get no gradient at any step."""
    net = Dropped()
    silent = set()
    for _ in range(2):
        (_, aux), grads = compute(net, rules.RULES[name]())
        nets.assert_fires(aux.rates)
        fired = np.asarray(safjax.simulate(net, dense_input(), nets.STEPS).spikes["lif"]).any((0, 1))
        quiet = ~np.asarray(grads["last"]["layer"]["kernel"]).any(1) & fired
        silent.add(tuple(np.flatnonzero(quiet)))
    assert len(silent) == 2, "each sequence draws its own mask"


def test_dropout_keeps_theorem_1():
    results = [compute(Dropped(), rule) for rule in (rules.saf_e(), rules.ottt_o())]
    nets.assert_fires(results[0][0][1].rates)
    (_, grads), (_, expected) = results
    nets.assert_trees_close(grads, expected, rtol=1e-12)
    plain = compute(Dropped(0.0), rules.saf_e())[1]
    assert nets.distance(grads, plain) > 0.1


def test_dropout_is_off_in_evaluation():
    net = Dropped()
    np.testing.assert_array_equal(safjax.predict(net, dense_input(), 4), safjax.predict(Dropped(0.0), dense_input(), 4))
    assert not net.dropout.deterministic


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_f", "exodus"])
def test_the_mean_is_kept(name):
    """Silenced with probability p, else multiplied by 1 / (1 − p); each sample by a mask of its own, at all steps."""
    net = nnx.Sequential(Dropout(0.2, rngs=nnx.Rngs(0)), LeakyReadout(0.5))
    _, aux = safjax.value_and_grad(jnp.mean, rules.RULES[name](), 3, outputs="all")(net, jnp.ones((40, 50)))[0]
    kept = aux.outputs > 0
    np.testing.assert_allclose(aux.outputs[kept], 1.25, rtol=1e-12)
    assert abs(kept[0].mean() - 0.8) < 0.04
    assert (kept == kept[0]).all() and len(np.unique(kept[0], axis=0)) == 40
