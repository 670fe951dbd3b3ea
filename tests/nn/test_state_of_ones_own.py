"""State that a layer of one's own keeps: for a sequence, or refused where a loop over time would not see it change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, InstantReadout, LeakyReadout, SequenceState, Synapse


class Layer(nnx.Module):
    """x ↦ x plus the number of calls so far, kept in a way of its own."""

    def __init__(self, start):
        self.count = start

    def __call__(self, x):
        if isinstance(self.count, nnx.Variable):
            self.count[...] += 1
            return 0 * x + self.count[...]
        self.count = (*self.count, 1) if isinstance(self.count, tuple) else self.count + 1
        return x


class Listed(nnx.Module):
    """The count of a `Layer`, second in a list."""

    def __init__(self, start):
        self.counts = nnx.List([type(start)(jnp.zeros(())), start])

    def __call__(self, x):
        self.counts[1][...] += 1
        return 0 * x + self.counts[1][...]


class Beside(nnx.Module):
    """The layer's call stands in the net itself."""

    def __init__(self, layer):
        self.layer, self.synapse, self.readout = layer, Synapse(lambda x: x), InstantReadout()

    def __call__(self, x):
        return self.readout(self.synapse(self.layer(x)))


def loss(output):
    return jnp.mean(output)


def outputs(net, rule, x=None, steps=4):
    x = jnp.ones((1, 1)) if x is None else x
    return np.asarray(safjax.value_and_grad(loss, rule, steps, outputs="all")(net, x)[0][1].outputs).ravel()


STEPWISE = [rules.bptt(), rules.sltt()]
LAYERWISE = [rules.exodus(), rules.slayer(), rules.bptt(layerwise=True)]


@pytest.mark.parametrize("rule", STEPWISE, ids=lambda rule: rule.name)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("make", [Layer, Listed])
def test_a_sequence_state_counts_the_steps_of_each_sequence(rule, make, inside):
    """A plain variable ran on into the next batch."""
    state = SequenceState(jnp.zeros(()))
    layer = make(state)
    net = nnx.Sequential(Synapse(layer), InstantReadout()) if inside else Beside(layer)
    for _ in range(2):
        np.testing.assert_array_equal(outputs(net, rule), [1, 2, 3, 4])
        np.testing.assert_array_equal(safjax.predict(net, jnp.ones((1, 1)), 4).ravel(), [1, 2, 3, 4])
    assert state[...] == 0


@pytest.mark.parametrize("rule", LAYERWISE, ids=str)
@pytest.mark.parametrize("kind", [SequenceState, nnx.Variable])
@pytest.mark.parametrize("make", [Layer, Listed])
def test_layer_by_layer_a_count_is_refused(rule, make, kind):
    """It was 1 at every step."""
    net = nnx.Sequential(Synapse(make(kind(jnp.zeros(())))), InstantReadout())
    for x, steps in ((jnp.ones((1, 1)), 4), (jnp.ones((4, 1, 1)), None)):
        with pytest.raises(ValueError, match=r"changes the \w+ at 'layers.0.layer.count|is made anew"):
            outputs(net, rule, x, steps)


@pytest.mark.usefixtures("advice")
def test_rules_that_would_count_are_advised():
    net = nnx.Sequential(Synapse(Layer(SequenceState(jnp.zeros(())))), InstantReadout())
    with pytest.raises(ValueError, match=r"layers.0.layer.count.*Rules that train this net as it is: bptt, sltt\."):
        outputs(net, rules.exodus(), jnp.ones((1, 1)), 4)


@pytest.mark.parametrize("rule", [rules.bptt(), rules.saf_f(), rules.ottt_a(), rules.exodus()], ids=lambda r: r.name)
@pytest.mark.parametrize("start", [0, True, (1,)], ids=str)
def test_plain_python_state_is_refused(rule, start):
    """It had its first value at all steps."""
    with pytest.raises(ValueError, match="sets the attribute 'count' of the net, at 'layers.0'.*SequenceState"):
        outputs(nnx.Sequential(Layer(start), LIF(), LeakyReadout()), rule)
    net = nnx.Sequential(Synapse(Layer(start)), LIF(), LeakyReadout())
    with pytest.raises(ValueError, match="sets the attribute 'count' of the Synapse at 'layers.0'"):
        outputs(net, rule)
    with pytest.raises(ValueError, match="sets the attribute 'count'"):
        safjax.predict(Beside(Layer(start)), jnp.ones((1, 1)), 4)


class Poisson(nnx.Module):
    def __init__(self):
        self.rngs = nnx.Rngs(0)

    def __call__(self, x):
        return jax.random.bernoulli(self.rngs.spikes(), x).astype(x.dtype)


@pytest.mark.parametrize("rule", LAYERWISE, ids=str)
@pytest.mark.parametrize("layer", [Poisson, lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0))], ids=["Poisson", "Dropout"])
def test_random_numbers_in_the_first_synapse_are_new_at_every_step(rule, layer):
    """On a static image they were drawn once for all of them."""
    net = nnx.Sequential(Synapse(layer()), InstantReadout())
    steps = outputs(net, rule, jnp.full((1, 200), 0.5), 8).reshape(8, 200)
    assert len({tuple(step) for step in steps}) == 8
    assert 0.4 < np.mean(steps > 0) < 0.6
