"""Number formats: what is exact in bfloat16, what stays in float32, and that float64 is float64 throughout."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.extend import core

import safjax
from safjax import scans
from safjax.messages import Rate, Traced
from safjax.models import SpikingMLP, SpikingResNet, SpikingVGG, SpikingVGGF
from safjax.neurons import LIFCell
from safjax.nn import LIF, InstantReadout, LeakyReadout, Recurrent, Synapse, WSConv
from safjax.ops import conv_general_dilated
from safjax.rules import RULES, Course
from safjax.rules.accumulation import RatePropagation
from safjax.rules.traces import TracePropagation
from safjax.surrogate import Sigmoid
from tests import nets
from tests.tables import BROAD, covering, rule_by_rule, some_slow

BFLOAT16, ROUNDING = jnp.bfloat16, 2.0**-8
STEPS = 3


class Everything(nnx.Module):
    """A convolution, a layer whose weights are computed in its own dtype, recurrence where the rule can have it.

    Without biases, which are added in float32 and make float32 of the current.
    """

    def __init__(self, dtype, param_dtype, loop):
        rngs, dtypes = nnx.Rngs(0), {"dtype": dtype, "param_dtype": param_dtype, "use_bias": False}
        self.conv = Synapse(WSConv(1, 4, **dtypes, rngs=rngs))
        self.lif1 = LIF()
        self.scaled = Synapse(Scaled(dtype, param_dtype))
        self.lif2 = Recurrent(LIF(), Synapse(nnx.Linear(4, 4, **dtypes, rngs=rngs))) if loop else LIF()
        self.dense = Synapse(nnx.Sequential(safjax.ops.global_avg_pool, nnx.Linear(4, 3, **dtypes, rngs=rngs)))
        self.readout = LeakyReadout()

    def __call__(self, x):
        return self.readout(self.dense(self.lif2(self.scaled(self.lif1(self.conv(x))))))


class Scaled(nnx.Module):
    """x ↦ 2 W x, where 2 W is computed in the dtype of the layer: not a mere cast of the parameter."""

    def __init__(self, dtype, param_dtype):
        self.weight, self.dtype = nnx.Param(jnp.eye(4, dtype=param_dtype)), dtype

    def __call__(self, x):
        return x.astype(self.dtype) @ (2 * self.weight[...].astype(self.dtype))


def net(rule, dtype, param_dtype):
    return Everything(dtype, param_dtype, loop=rule.propagation.recalls)


def batch(dtype, video):
    images = np.random.default_rng(0).uniform(0, 3, ((STEPS, 2, 4, 4, 1) if video else (2, 4, 4, 1)))
    return jnp.asarray(images, dtype), jnp.array([0, 2])


def loss(output, labels):
    return optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def training_program(rule, dtype, param_dtype, video=False):
    """The jaxpr of a training step with Adam, and the dtypes of what it returns."""
    x, labels = batch(param_dtype, video)
    step = safjax.train_step(loss, rule, optax.adam(1e-3), None if video else STEPS, outputs="all")
    graphdef, variables = nnx.split(net(rule, dtype, param_dtype))

    def train(variables, x, labels):
        trained = nnx.merge(graphdef, variables)
        trained, opt_state, result = step(trained, step.init(trained), x, labels)
        return nnx.state(trained), opt_state, result

    closed, shapes = jax.make_jaxpr(train, return_shape=True)(variables, x, labels)
    return closed.jaxpr, shapes


def equations(jaxpr):
    """All equations of a program, those inside loops and calls included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


def floats(atoms):
    dtypes = {jnp.dtype(a.dtype) for a in atoms}
    return {d.name for d in dtypes if jnp.issubdtype(d, jnp.inexact)}


def patterns(steps):
    """All 2^T spike trains, s[T, 2^T]."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=steps))).T


def accumulated(spikes):
    """Σ λ^{t−τ} s[τ] at the last step, λ = 1/2, in float64."""
    return sum(0.5 ** (len(spikes) - 1 - t) * s for t, s in enumerate(spikes))


@pytest.mark.parametrize(("steps", "exact"), [(8, True), (9, False)])
def test_accumulated_spikes_of_eight_steps_are_exact_in_bfloat16(steps, exact):
    spikes, total = patterns(steps), accumulated(patterns(steps))
    np.testing.assert_array_equal(np.asarray(spikes.astype(BFLOAT16), np.float64), spikes)
    computed, _ = jax.lax.scan(
        lambda a, s: (0.5 * a + s, None), jnp.zeros(2**steps, BFLOAT16), jnp.asarray(spikes, BFLOAT16)
    )
    assert computed.dtype == BFLOAT16
    assert np.array_equal(np.asarray(computed, np.float64), total) == exact
    assert np.array_equal(np.asarray(total.astype(BFLOAT16), np.float64), total) == exact


@pytest.mark.parametrize("steps", [8, 9])
def test_neurons_accumulate_every_spike_train_exactly(steps):
    """Driven by 5/4 s, a neuron fires s. Currents are bfloat16, sums float32."""
    spikes, cell = patterns(steps), LIFCell(0.5, 1.0, Sigmoid())
    course = Course(0.5, steps, 2**steps, static=False)

    @jax.jit
    def run(spikes):
        traced = TracePropagation().start(Traced(spikes[0], spikes[0], jnp.ones(())), cell, course)
        accumulating = RatePropagation().start(Rate(spikes[0]), cell, course)
        encoded, drive, fired = None, 0.0, []
        for t, s in enumerate(spikes):
            encoded, _ = TracePropagation().encode(encoded, s, course)
            traced, _, one, _ = TracePropagation().neuron(traced, Traced(1.25 * s, 1.25 * s, jnp.ones(())), cell)
            drive = 0.5 * drive + 1.25 * s.astype(jnp.float32)
            accumulating, _, other, _ = RatePropagation().neuron(accumulating, Rate(drive / (2 - 0.5**t)), cell)
            fired.append((one, other))
        return (traced.trace, accumulating.total, encoded.trace), fired

    totals, fired = run(jnp.asarray(spikes, BFLOAT16))
    for s, both in zip(spikes, fired, strict=True):
        jax.tree.map(lambda actual, s=s: np.testing.assert_array_equal(actual, s), both)
    for total in totals:
        assert total.dtype == jnp.float32
        np.testing.assert_array_equal(total, accumulated(spikes))


@pytest.mark.parametrize("method", rule_by_rule(BROAD))
def test_parameters_gradients_and_sums_over_time_are_float32(method):
    jaxpr, (variables, opt_state, (value, aux)) = training_program(RULES[method](), BFLOAT16, jnp.float32)
    assert floats(jax.tree.leaves((variables, opt_state, value, aux))) == {"float32"}
    assert_products_in_bfloat16(equations(jaxpr))
    carried = [e.invars[scans.carries(e)] for e in equations(jaxpr) if e.primitive.name == "scan"]
    over_time = [carries for carries in carried if len(carries) > 2]  # not blocks
    assert over_time and floats([v.aval for carries in over_time for v in carries]) == {"float32"}


def assert_products_in_bfloat16(program):
    """Of matrices and maps; products of two vectors are norms."""
    operands = [
        [v.aval for v in eqn.invars]
        for eqn in program
        if eqn.primitive.name in ("conv_general_dilated", "dot_general") and eqn.invars[0].aval.ndim > 1
    ]
    assert operands and all(floats(pair) == {"bfloat16"} for pair in operands)


@pytest.mark.parametrize("readout", [LeakyReadout, InstantReadout])
@pytest.mark.parametrize("method", rule_by_rule(RULES))
def test_readouts_give_float32(method, readout):
    dense = nnx.Linear(3, 2, use_bias=False, dtype=BFLOAT16, param_dtype=BFLOAT16, rngs=nnx.Rngs(0))
    small = nnx.Sequential(LIF(), Synapse(dense), readout())
    rule = RULES[method]()
    (value, aux), grads = jax.eval_shape(
        lambda x: safjax.value_and_grad(lambda o: jnp.mean(o**2), rule, steps=STEPS, outputs="all")(small, x),
        jax.ShapeDtypeStruct((4, 3), BFLOAT16),
    )
    assert (value.dtype, aux.outputs.dtype) == (jnp.float32, jnp.float32)
    assert floats(jax.tree.leaves(grads)) == {"bfloat16"}


GIVEN = [*((method, True) for method in BROAD), ("saf_f", False), ("ottt_a", False)]


@pytest.mark.parametrize(("method", "video"), some_slow(GIVEN, lambda method, _: method in covering(BROAD)))
def test_float64_is_float64_throughout(method, video, x64):
    jaxpr, shapes = training_program(RULES[method](), jnp.float64, jnp.float64, video)
    assert floats(jax.tree.leaves(shapes)) == {"float64"}
    assert floats(v.aval for e in equations(jaxpr) for v in (*e.invars, *e.outvars)) == {"float64"}


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda **d: SpikingVGG(3, cfg=(4, "M", 4), in_features=1, rngs=nnx.Rngs(0), **d), (8, 8, 1)),
        (lambda **d: SpikingVGGF(3, cfg=(4, "M", 4), in_features=1, rngs=nnx.Rngs(0), **d), (8, 8, 1)),
        (lambda **d: SpikingMLP((6, 5, 3), rngs=nnx.Rngs(0), **d), (6,)),
        (
            lambda **d: SpikingResNet(
                3, WSConv(1, 4, rngs=nnx.Rngs(0), **d), stages=(1, 1), widths=(4, 8), rngs=nnx.Rngs(0), **d
            ),
            (8, 8, 1),
        ),
    ],
    ids=["vgg", "vggf", "mlp", "resnet"],
)
def test_models_hand_their_dtypes_on(build, shape, x64):
    rule, labels = RULES["saf_f"](), jnp.array([0, 1])

    def program(dtype, param_dtype):
        grad = safjax.value_and_grad(loss, rule, steps=2, outputs="all")
        x = jnp.ones((2, *shape), param_dtype)
        model = build(dtype=dtype, param_dtype=param_dtype)
        assert floats(jax.tree.leaves(nnx.state(model, nnx.Param))) == {jnp.dtype(param_dtype).name}
        return list(equations(jax.make_jaxpr(lambda x: grad(model, x, labels))(x).jaxpr))

    assert_products_in_bfloat16(program(BFLOAT16, jnp.float32))
    assert floats(v.aval for e in program(jnp.float64, jnp.float64) for v in (*e.invars, *e.outvars)) == {"float64"}


class Split(nnx.Module):
    """What a neuron sends, read before a synapse and after it."""

    def __init__(self, dtype):
        self.lif = LIF()
        self.synapse = Synapse(nnx.Linear(5, 4, dtype=dtype, rngs=nnx.Rngs(0)))
        self.before, self.after = LeakyReadout(), LeakyReadout()

    def __call__(self, x):
        spikes = self.lif(x)
        return self.before(spikes), self.after(self.synapse(spikes))


@pytest.mark.parametrize("method", ["saf_f", "saf_e", "ottt_a", "bptt"])
def test_messages_before_a_bfloat16_synapse_are_those_of_float32(method):
    def outputs(dtype):
        options = {"steps": 6, "outputs": "all"}
        grad = safjax.value_and_grad(lambda output: jnp.mean(output[1]), RULES[method](), **options)
        return grad(Split(dtype), jnp.linspace(0.3, 1.9, 10).reshape(2, 5))[0][1].outputs

    (before, after), (before_32, after_32) = outputs(BFLOAT16), outputs(jnp.float32)
    np.testing.assert_array_equal(before, before_32)
    assert before.dtype == after.dtype == jnp.float32 and np.unique(before).size > 5
    assert 0 < np.abs(after - after_32).max() < 4 * ROUNDING * np.abs(after_32).max()


def test_accumulated_and_traced_gradients_agree_to_the_rounding_of_bfloat16():
    """Theorem 1 of arXiv 2310.02772, where no spike flips by rounding."""
    images = jnp.asarray(np.random.default_rng(3).uniform(-1, 2, (4, 7)), jnp.float32)
    labels = jnp.arange(4) % nets.CLASSES

    def gradient(method, dtype):
        rngs = nnx.Rngs(1)
        dense = [
            Synapse(nnx.Linear(a, b, kernel_init=nnx.initializers.normal(1.5 / a**0.5), dtype=dtype, rngs=rngs))
            for a, b in ((7, 9), (9, nets.CLASSES))
        ]
        model = nnx.Sequential(dense[0], LIF(), dense[1], LeakyReadout())
        (_, aux), grads = safjax.value_and_grad(nets.loss, RULES[method](), steps=6)(model, images, labels)
        nets.assert_fires(aux.rates)
        return aux.rates, grads

    (rates, saf), (rates_ottt, ottt) = gradient("saf_e", BFLOAT16), gradient("ottt_a", BFLOAT16)
    assert rates == rates_ottt
    assert 1e-4 < nets.distance(saf, ottt) < 2 * ROUNDING  # each of the two is rounded
    assert nets.distance(saf, gradient("saf_e", jnp.float32)[1]) < 0.1


@pytest.mark.parametrize("strides", [1, 2])
def test_bfloat16_convolution_adds_up_in_float32(strides):
    """Sums of thousands of positive terms, which would come to rest at 256 terms in bfloat16."""
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.uniform(0.5, 1, s), BFLOAT16) for s in ((8, 16, 16, 64), (3, 3, 64, 16)))

    def convolve(x, w):
        return conv_general_dilated(x, w, (strides, strides), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def value_and_gradients(x, w):
        y, pull_back = jax.vjp(convolve, x, w)
        return y, *pull_back(jnp.ones_like(y))

    for actual, expected in zip(
        jax.jit(value_and_gradients)(x, w),
        jax.jit(value_and_gradients)(x.astype(jnp.float32), w.astype(jnp.float32)),
        strict=True,
    ):
        assert actual.dtype == BFLOAT16
        np.testing.assert_allclose(np.asarray(actual, np.float32), expected, rtol=ROUNDING)


@pytest.mark.parametrize("layer", [WSConv, functools.partial(nnx.Conv, kernel_size=(3, 3)), nnx.Linear])
def test_bias_of_a_bfloat16_layer_adds_its_gradient_up_in_float32(layer):
    model = nnx.Sequential(Synapse(layer(1, 4, dtype=BFLOAT16, rngs=nnx.Rngs(0))), InstantReadout())
    _, grads = safjax.value_and_grad(jnp.sum, RULES["exodus"](), steps=1)(model, jnp.ones((8, 32, 32, 1)))
    assert grads["layers"][0]["layer"]["bias"].dtype == jnp.float32
    np.testing.assert_allclose(grads["layers"][0]["layer"]["bias"], 8 * 32 * 32)
