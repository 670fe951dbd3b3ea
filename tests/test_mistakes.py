"""Mistakes that would train on wrong numbers, or end in somebody else's error message, are told as what they are."""

import dataclasses
import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import losses, rules
from safjax.neurons import LIFCell
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.surrogate import Surrogate

EXAMPLES = optax.softmax_cross_entropy_with_integer_labels


def net(**options):
    return nnx.Sequential(Synapse(nnx.Linear(4, 3, rngs=nnx.Rngs(0))), LIF(**options), LeakyReadout(0.5))


def tried(loss, rule, *targets, make=net, x=None, steps=2):
    """As when it is called, but nothing is compiled."""
    x = jnp.ones((5, 4)) if x is None else x
    return jax.eval_shape(lambda: safjax.value_and_grad(loss, rule, steps, outputs="all")(make(), x, *targets))


@pytest.mark.parametrize("name", ["bptt", "exodus", "sltt", "saf_f", "ide"])
@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (EXAMPLES, r"float32\[5\]"),
        (lambda o, y: (EXAMPLES(o, y).mean(), o), "tuple"),
        (lambda o, y: (o.argmax(-1) == y).sum(), r"int32\[\]"),
        (lambda o, y: None, "NoneType"),
    ],
)
def test_losses_that_are_no_number(name, loss, given):
    with pytest.raises(TypeError, match=rf"loss returned {given}, .*write .mean\(\)"):
        tried(loss, rules.RULES[name](), jnp.zeros(5, int))
    if name in ("bptt", "exodus"):
        with pytest.raises(TypeError, match="loss returned"):
            tried(losses.max_over_time(loss), rules.RULES[name](), jnp.zeros(5, int))


def test_targets_that_would_only_broadcast():
    with pytest.raises(ValueError, match=r"spike_count\(\) was given a target of shape \[3\] .* \[5, 3\]"):
        tried(losses.spike_count(), rules.bptt(), jnp.ones(3))
    with pytest.raises(ValueError, match=r"van_rossum\(\) was given a target of shape \[2, 3\] .* \[2, 5, 3\]"):
        tried(losses.van_rossum(0.5), rules.bptt(), losses.Timed(jnp.ones((2, 3))))


@pytest.mark.parametrize("x", [[[1.0, 2.0, 3.0, 4.0]], 1.0, "image", {"x": 1}, (), None])
@pytest.mark.parametrize("steps", [None, 2])
def test_inputs_that_are_no_arrays(x, steps):
    with pytest.raises(TypeError, match=r"x must be an array .*jnp.asarray\(x\)"):
        safjax.predict(net(), x, steps)


def test_a_rule_by_its_name():
    with pytest.raises(TypeError, match=r"but was 'ottt_a'. Write ottt_a\(\)"):
        safjax.value_and_grad(EXAMPLES, "ottt_a", 2, outputs="all")


def test_an_optimizer_of_flax():
    optimizer = nnx.Optimizer(net(), optax.adam(1e-3), wrt=nnx.Param)
    with pytest.raises(TypeError, match=r"was an nnx.Optimizer. Write train_step\(.*step.init\(net\)"):
        safjax.train_step(lambda o: o.mean(), rules.bptt(), optimizer, 2)


def test_numbers_of_other_libraries_are_numbers_and_arrays_are_told_where_to_stand():
    assert LIF(decay=np.float32(0.5), threshold=np.float32(0.5)).decay == 0.5
    for options in ({"decay": jnp.full(3, 0.5)}, {"threshold": np.ones(3)}):
        with pytest.raises(ValueError, match="Python number.*nnx.Variable"):
            LIF(**options)


def test_a_surrogate_that_no_program_can_be_compiled_for():
    @dataclasses.dataclass
    class Soft(Surrogate):
        width: float = 1.0

        def slope(self, x):
            return jnp.exp(-jnp.abs(x) / self.width)

    with pytest.raises(TypeError, match=r"must be hashable.*frozen=True"):
        LIF(surrogate=Soft())


class HardReset(LIFCell):
    """Another neuron than the one that SAF and EXODUS have formulas for."""

    def step(self, state, current, detach_reset=False):
        potential = self.decay * state + current
        spikes = self.fire(potential)
        return potential * (1 - spikes), spikes


class HardLIF(LIF):
    def cell(self):
        return HardReset(self.decay, self.threshold, self.surrogate)


@pytest.mark.usefixtures("advice")
@pytest.mark.parametrize("name", ["saf_f", "ottt_a", "exodus"])
def test_a_neuron_derived_from_lif_is_not_taken_for_it(name):
    with pytest.raises(ValueError, match=r"HardLIF at 'layers.0'.*bptt\(layerwise=True\)"):
        tried(lambda o: o.mean(), rules.RULES[name](), make=lambda: nnx.Sequential(HardLIF(), LeakyReadout(0.5)))
    tried(lambda o: o.mean(), rules.bptt(), make=lambda: nnx.Sequential(HardLIF(), LeakyReadout(0.5)))


class Combined(nnx.Module):
    """Three currents and what is made of them."""

    def __init__(self, combine):
        self.currents = nnx.List([Synapse(nnx.Linear(4, 4, rngs=nnx.Rngs(i))) for i in range(3)])
        self.combine, self.lif, self.readout = combine, LIF(), LeakyReadout(0.5)

    def __call__(self, x):
        return self.readout(self.lif(self.combine([current(x) for current in self.currents])))


BARE = {
    "1 - x": lambda m: 1 - m[0],
    "x ** 2": lambda m: m[0] ** 2,
    "x @ x": lambda m: m[0] @ m[1],
    "x > 0": lambda m: m[0] > 0,
    "x == 1": lambda m: m[0] == 1,
    "len(x)": lambda m: m[0] * len(m[1]),
    "abs(x)": lambda m: abs(m[0]),
    "if x": lambda m: m[0] if m[0] else m[1],
    "1 / x": lambda m: 1 / m[0],
    "sum and 1": lambda m: sum(m, 1),
}


@pytest.mark.parametrize("name", ["exodus", "ottt_a", "saf_f"])
def test_operators_between_layers(name):
    rule = rules.RULES[name]()
    tried(lambda o: o.mean(), rule, make=lambda: Combined(lambda m: +sum(m)))
    for combine in BARE.values():
        with pytest.raises(TypeError, match=r"no plain array.*safjax.nn.Synapse"):
            tried(lambda o: o.mean(), rule, make=lambda combine=combine: Combined(combine))


class Numbered(nnx.Module):
    """Returns a plain number beside its output."""

    def __init__(self):
        self.net = net()

    def __call__(self, x):
        return self.net(x), 0.5


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_f"])
def test_a_plain_number_is_an_output(name):
    (_, aux), _ = tried(lambda o: o[0].mean() + o[1].mean(), rules.RULES[name](), make=Numbered)
    assert aux.outputs[1].shape == (2,)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int32])
def test_pooling_of_whole_numbers_does_not_run_over(dtype):
    x = np.full((1, 4, 4, 1), 200).astype(dtype)
    pooled = safjax.ops.avg_pool(jnp.asarray(x), (3, 3), (1, 1))
    np.testing.assert_allclose(pooled, float(x[0, 0, 0, 0]), rtol=1e-6)
    assert pooled.dtype == jnp.float32


def test_type_checkers_see_the_types():
    assert importlib.resources.files(safjax).joinpath("py.typed").is_file()
