"""Whatever learns before the spiking part is found, wherever it stands and whatever makes it vary."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, Delay, InstantReadout, LeakyReadout, SequenceState, Synapse
from tests import nets
from tests.fronts import RULES, bound, gradients, normalisation, repeated, vectors
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")


class Before(nnx.Module):
    """A dense net; `make` gives what stands before it and how that is called."""

    def __init__(self, make):
        self.net = nets.Dense()
        self.hold, self.function = make(nnx.Rngs(7))

    def __call__(self, x):
        return self.net(self.function(self, x))


def partly_affine(rngs):
    return nets._dense(7, 7, rngs), lambda net, x: x + nnx.relu(net.hold(x))


def pattern_added(rngs):
    return nnx.Param(vectors()[0]), lambda net, x: x + net.hold[...]


def tied(rngs):
    return None, lambda net, x: x @ (k := net.net.first.layer.kernel[...]) @ k.T


def normalised(rngs):
    return normalisation(), lambda net, x: net.hold(x)


def in_a_loop(rngs):
    def function(net, x):
        return nnx.scan(lambda dense, x: jnp.tanh(dense(x)), length=2, in_axes=(None, nnx.Carry), out_axes=nnx.Carry)(
            net.hold, x
        )

    return nets._dense(7, 7, rngs), function


def smooth_spikes(rngs):
    """A surrogate's derivative is its own: what it computes does not say whether it has one."""
    return nets._dense(7, 7, rngs), lambda net, x: safjax.surrogate.Sigmoid()(net.hold(x))


FRONTS = {
    "hold.bias": [partly_affine, normalised, in_a_loop, smooth_spikes],
    "hold": [pattern_added],
    "net.first.layer.kernel": [tied],
}
CASES = [(make, path) for path, makes in FRONTS.items() for make in makes]


@pytest.mark.parametrize(
    ("name", "make", "path"),
    some_slow(
        [(name, *case) for name in ("ottt_o", "spike_representation") for case in CASES],
        lambda name, make, path: (name == "ottt_o") == (CASES.index((make, path)) % 2 == 0),
    ),
    ids=[f"{make.__name__}-{name}" for name in ("ottt_o", "spike_representation") for make, _ in CASES],
)
def test_whatever_learns_is_found(name, make, path):
    bound(lambda: Before(make), RULES[name], vectors(), nets.STEPS)
    with pytest.raises(ValueError, match=rf"enters the Synapse at 'net.first'. .* learned '{path}'"):
        bound(lambda: Before(make), RULES[name], repeated(vectors()))


def dropped_out(rngs):
    return nnx.List([nets._dense(7, 7, rngs), nnx.Dropout(0.3, rngs=rngs)]), lambda net, x: net.hold[1](net.hold[0](x))


class Memory(nnx.Module):
    """Shows what a learned layer made of the image in the step before."""

    def __init__(self, rngs):
        self.dense, self.last = nets._dense(7, 7, rngs), SequenceState(jnp.zeros((nets.BATCH, 7)))

    def __call__(self, x):
        before = self.last[...]
        self.last[...] = self.dense(x)
        return x + before


def remembered(rngs):
    return Memory(rngs), lambda net, x: net.hold(x)


@pytest.mark.parametrize("name", ["ottt_a", "saf_f"])
@pytest.mark.parametrize(
    ("make", "path"), [(dropped_out, "hold.0.bias"), (remembered, "hold.dense.bias")], ids=["dropout", "memory"]
)
def test_what_the_net_itself_makes_vary(name, make, path):
    """An image is no constant behind them."""
    with pytest.raises(ValueError, match=rf"changes with time, and is made with the learned '{path}'") as refused:
        bound(lambda: Before(make), RULES[name], vectors(), nets.STEPS)
    assert "steps=T" not in str(refused.value)


def test_a_trace_without_that_of_biases_cannot_tell_them_apart():
    """Each with its trace is exact for an image; none at all is the published code, for an image and a sequence."""

    def net():
        return Before(partly_affine)

    with pytest.raises(ValueError, match=r"It is made with the learned 'hold.bias'"):
        bound(net, rules.ottt_a(trace_bias=False), vectors(), nets.STEPS)
    rule = rules.ottt_a(trace_bias=False, trace_input=False)
    nets.assert_trees_close(
        gradients(net(), rule, repeated(vectors()))[1], gradients(net(), rule, vectors(), nets.STEPS)[1]
    )


class Branches(nnx.Module):
    """Two spiking nets with a learned layer each, in either order; what is called last, is behind a readout."""

    def __init__(self, turned):
        rngs = nnx.Rngs(2)
        self.nets = nnx.List([nets.Dense(seed=0), nets.Dense(seed=3)])
        self.before, self.turned = nnx.List([nets._dense(7, 7, rngs) for _ in range(2)]), turned

    def __call__(self, x):
        order = (1, 0) if self.turned else (0, 1)
        return sum(self.nets[i](jnp.tanh(self.before[i](x))) for i in order)


@pytest.mark.parametrize("name", ["ottt_a", "saf_f"])
def test_an_image_stays_one_behind_a_readout(name):
    """Before, the second layer was trained as if it met a sequence."""
    (value, grads), (again, others) = (
        gradients(Branches(turned), RULES[name], vectors(), nets.STEPS) for turned in (False, True)
    )
    np.testing.assert_allclose(again, value, rtol=1e-12)
    nets.assert_trees_close(others, grads)


class Again(nnx.Module):
    """What a readout returned goes into a second spiking net, at once or one step late."""

    def __init__(self, late):
        rngs = nnx.Rngs(2)
        self.first, self.lif, self.middle = Synapse(nets._dense(7, 7, rngs)), LIF(), InstantReadout()
        self.net, self.delay = nets.Dense(), Delay() if late else None

    def __call__(self, x):
        between = jnp.tanh(self.middle(self.lif(self.first(x))))
        if self.delay is None:
            return self.net(between)
        self.delay.keep(between)
        return self.net(self.delay.recall())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("steps", [None, nets.STEPS])
def test_a_readouts_result_is_no_input(late, steps):
    x = repeated(vectors()) if steps is None else vectors()
    where = "Delay at 'delay'" if late else "Synapse at 'net.first'"
    for name in ("ottt_a", "saf_f"):
        with pytest.raises(ValueError, match=rf"the {where}.*'first.layer.bias'.*Hand on what the readout"):
            bound(lambda: Again(late), RULES[name], x, steps)
    bound(lambda: Again(late), RULES["sltt"], x, steps)


class Stacked(nnx.Module):
    """Layers in a loop, each of which receives besides what `front` makes of the input."""

    def __init__(self, front=lambda rngs: nnx.relu):
        rngs = nnx.Rngs(0)
        self.front, self.first = front(rngs), Synapse(nets._dense(7, 7, rngs))
        make = nnx.vmap(lambda rngs: Synapse(nets._dense(7, 7, rngs)), in_axes=(0,), out_axes=0)
        self.blocks, self.sides = (nnx.split_rngs(splits=2)(make)(rngs) for _ in range(2))
        self.lif, self.last = LIF(), Synapse(nets._dense(7, nets.CLASSES, rngs))
        self.readout = LeakyReadout()

    def __call__(self, x):
        made = self.front(x)

        def layer(block, side, carry):
            return block(carry) + side(made)

        through = nnx.scan(layer, in_axes=(0, 0, nnx.Carry), out_axes=nnx.Carry)
        return self.readout(self.last(self.lif(through(self.blocks, self.sides, self.first(x)))))


def test_inside_a_loop_over_layers():
    rule = rules.ottt_a()
    with pytest.raises(ValueError, match=r"enters the Synapse at 'sides'.* learned 'front.bias'"):
        bound(lambda: Stacked(lambda rngs: nets._dense(7, 7, rngs)), rule, repeated(vectors()))
    bound(Stacked, rule, repeated(vectors()))


class Compiled(nnx.Module):
    """A net with feedback whose spiking part is a compiled function that keeps what it has traced."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.front, self.inner = nets._dense(7, 7, rngs), Inner(rngs)

    def __call__(self, x):
        return self.inner(self.front(x))


class Inner(nnx.Module):
    def __init__(self, rngs):
        self.first, self.back, self.lif, self.delay = (
            Synapse(nets._dense(7, 7, rngs)),
            Synapse(nets._dense(7, 7, rngs)),
            LIF(),
            Delay(),
        )
        self.last, self.readout = Synapse(nets._dense(7, nets.CLASSES, rngs)), LeakyReadout()

    @nnx.jit
    def __call__(self, x):
        spikes = self.lif(self.first(x) + self.back(self.delay.recall()))
        self.delay.keep(spikes)
        return self.readout(self.last(spikes))


def test_inside_a_compiled_function():
    bound(Compiled, rules.saf_e(), vectors(), nets.STEPS)
    with pytest.raises(ValueError, match="enters the Synapse at 'inner.first'.* learned 'front.bias'"):
        bound(Compiled, rules.saf_e(), repeated(vectors()))
