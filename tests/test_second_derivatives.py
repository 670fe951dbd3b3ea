"""Derivatives of derivatives: of spike functions, of rules' gradients, and where they are refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.test_util import check_grads

import safjax
from safjax import ops, rules, surrogate
from safjax.nn.states import split
from safjax.ops.standardisation import standardise
from tests import nets
from tests.tables import DEEP

pytestmark = pytest.mark.usefixtures("x64")


@dataclasses.dataclass(frozen=True)
class OfAUser(surrogate.Surrogate):
    def slope(self, x):
        return 1 / (1 + x**2)


def logistic(x):
    return 1 / (1 + np.exp(-4 * x))


# σ(x) and σ'(x), by hand.
BY_HAND = {
    surrogate.Sigmoid(): (
        lambda x: 4 * logistic(x) * (1 - logistic(x)),
        lambda x: 16 * logistic(x) * (1 - logistic(x)) * (1 - 2 * logistic(x)),
    ),
    surrogate.Triangle(2.0): (lambda x: np.maximum(0, 1 - abs(x) / 2) / 2, lambda x: -np.sign(x) * (abs(x) < 2) / 4),
    surrogate.Rectangle(1.5): (lambda x: (abs(x) < 0.75) / 1.5, lambda x: 0 * x),
    surrogate.Arctan(): (
        lambda x: 1 / (1 + (np.pi * x) ** 2),
        lambda x: -2 * np.pi**2 * x / (1 + (np.pi * x) ** 2) ** 2,
    ),
    surrogate.Exponential(): (lambda x: 2 * np.exp(-2 * abs(x)), lambda x: -4 * np.sign(x) * np.exp(-2 * abs(x))),
    surrogate.Gaussian(1.0): (
        lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
        lambda x: -x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    ),
    OfAUser(): (lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2),
}
INPUTS, WEIGHT = np.array([0.7, 1.3, -0.4, 1.9]), 1.1


def squares(spike, weight):
    """Σ s[t]² of a leaky sum without reset, in a scan."""

    def body(u, x):
        u = 0.5 * u + weight * x
        return u, spike(u - 1) ** 2

    return jax.lax.scan(body, jnp.zeros_like(weight), jnp.asarray(INPUTS))[1].sum()


MODES = {
    "reverse over reverse": lambda f: jax.grad(jax.grad(f)),
    "forward over reverse": lambda f: lambda w: jax.jvp(jax.grad(f), (w,), (jnp.ones_like(w),))[1],
    "reverse over forward": lambda f: jax.grad(lambda w: jax.jvp(f, (w,), (jnp.ones_like(w),))[1]),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "hessian of a compiled, rematerialised loop": lambda f: jax.hessian(jax.jit(jax.checkpoint(f))),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spike", BY_HAND, ids=str)
def test_of_every_surrogate(spike, mode):
    slope, bend = BY_HAND[spike]
    x = np.array([-0.4, 0.3, 0.6])
    f = functools.partial(squares, spike)

    @jax.jit
    def derivatives(x, weight):
        return jax.vmap(MODES[mode](lambda x: spike(x) ** 2))(x), jax.grad(f)(weight), MODES[mode](f)(weight)

    second, of_sum, second_of_sum = derivatives(jnp.asarray(x), WEIGHT)
    np.testing.assert_allclose(second, 2 * slope(x) ** 2 + 2 * (x >= 0) * bend(x), rtol=1e-12, atol=1e-14)

    sums = np.array([sum(0.5 ** (t - j) * INPUTS[j] for j in range(t + 1)) for t in range(len(INPUTS))])
    u = WEIGHT * sums - 1
    assert 0 < (u >= 0).sum() < len(u)
    np.testing.assert_allclose(of_sum, sum(2 * (u >= 0) * slope(u) * sums), rtol=1e-12)
    expected = sum((2 * slope(u) ** 2 + 2 * (u >= 0) * bend(u)) * sums**2)
    np.testing.assert_allclose(second_of_sum, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64, jnp.int32])
def test_the_step_keeps_its_dtype_and_takes_any_number(dtype):
    exact = jnp.issubdtype(dtype, jnp.integer)
    x = jnp.asarray([-2, 0, 3] if exact else [-jnp.inf, -0.1, -0.0, 0.1, jnp.inf, jnp.nan], dtype)
    for spikes in (surrogate.Sigmoid()(x), jax.jit(surrogate.Sigmoid())(x), jax.vmap(surrogate.Sigmoid())(x)):
        assert spikes.dtype == dtype
        np.testing.assert_array_equal(spikes.astype(float), [0, 1, 1] if exact else [0, 0, 1, 1, 1, np.nan])


def test_a_slope_of_another_shape_is_refused():
    class Wrong(surrogate.Surrogate):
        def slope(self, x):
            return jnp.ones((2, *x.shape))

    with pytest.raises(TypeError, match=r"Wrong.slope returned the shape \[2, 3\] for x of shape \[3\].*same shape"):
        jax.grad(lambda x: Wrong()(x).sum())(jnp.ones(3))


def smooth(x):
    return jax.nn.sigmoid(4 * x)


def spelled_out(x):
    """`Sigmoid()` with its antiderivative, so that JAX's own rules differentiate it."""
    return jax.lax.stop_gradient((x >= 0).astype(x.dtype) - smooth(x)) + smooth(x)


RULES = {
    "bptt": rules.bptt(),
    "bptt, layerwise": rules.bptt(layerwise=True),
    "bptt, remat": rules.bptt(remat=True),
    "exodus": rules.exodus(),
    "exodus, associative scan": rules.exodus(parallel=True),
    "sltt": rules.sltt(),
    "sltt, sampled": rules.sltt(sampled=2),
}
FORWARD_TOO = ["bptt", "bptt, layerwise", "sltt"]
KEY = jax.random.key(1)


def sequence():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (5, nets.BATCH, 7)))


def normals(seed, tree):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), tree)


def projected(net, rule, spike):
    """(parameters, input) ↦ a projection of the rule's gradient, as a compiled function; and the parameters."""
    for _, module in nnx.iter_modules(net):
        if isinstance(module, safjax.nn.LIF):
            module.surrogate = spike
    graphdef, params, rest = split(net, nnx.Param)
    weights, gradients = normals(3, params), safjax.value_and_grad(nets.loss, rule)

    def function(params, x):
        key = {"key": KEY} if rule.schedule.draws else {}
        (_, aux), grads = gradients(nnx.merge(graphdef, params, rest), x, nets.labels(), **key)
        return optax.tree.vdot(weights, grads), aux.rates

    return jax.jit(function), params


def directional(function, at, along):
    """Derivative of the projection along parameters and input, by reverse over reverse."""
    grads, rates = jax.jit(jax.grad(function, (0, 1), has_aux=True))(*at)
    return [float(optax.tree.vdot(g, d)) for g, d in zip(grads, along, strict=True)], rates


@pytest.mark.parametrize("name", RULES)
def test_of_rules_against_finite_differences(name):
    """With a smooth function for spikes the gradient is smooth, so its own differences say what is right."""
    check_by_differences(nets.Dense(), RULES[name], sequence(), name in FORWARD_TOO)


@pytest.mark.parametrize("name", ["bptt", "exodus"])
def test_through_convolutions_and_standardised_kernels(name):
    check_by_differences(nets.Conv(), RULES[name], nets.video(steps=3), False)


def check_by_differences(net, rule, x, forward_too, h=1e-5):
    function, params = projected(net, rule, smooth)
    at, along = (params, x), (normals(4, params), normals(5, x))
    second, _ = directional(function, at, along)
    zeros = jax.tree.map(jnp.zeros_like, at)
    for i, derivative in enumerate(second):
        direction = (*zeros[:i], along[i], *zeros[i + 1 :])
        ahead, behind = (
            function(*jax.tree.map(lambda a, d, s=sign: a + s * h * d, at, direction))[0] for sign in (1, -1)
        )
        np.testing.assert_allclose(derivative, (ahead - behind) / (2 * h), rtol=1e-5)
        if forward_too:
            forward = jax.jvp(lambda *at: function(*at)[0], at, direction)[1]
            np.testing.assert_allclose(derivative, forward, rtol=1e-10)


@pytest.mark.parametrize("name", RULES)
def test_of_rules_with_steps(name):
    """A step with its slope is the step spelled out with the slope's antiderivative."""
    function, params = projected(nets.Dense(), RULES[name], surrogate.Sigmoid())
    at, along = (params, sequence()), (normals(4, params), normals(5, sequence()))
    second, rates = directional(function, at, along)
    nets.assert_fires(rates)
    reference = RULES["sltt, sampled"] if name == "sltt, sampled" else RULES["sltt" if name == "sltt" else "bptt"]
    expected, _ = directional(projected(nets.Dense(), reference, spelled_out)[0], at, along)
    np.testing.assert_allclose(second, expected, rtol=1e-10)


def test_a_constant_reset_is_constant_in_every_derivative():
    """SLAYER is BPTT with a detached reset, twice too; neither is the one with the reset's gradient."""
    at = projected(nets.Dense(), rules.bptt(), smooth)[1], sequence()
    along = normals(4, at[0]), normals(5, at[1])
    slayer, detached, attached = (
        directional(projected(nets.Dense(), rule, surrogate.Sigmoid())[0], at, along)[0]
        for rule in (rules.slayer(), rules.bptt(detach_reset=True), rules.bptt())
    )
    np.testing.assert_allclose(slayer, detached, rtol=1e-10)
    assert not np.allclose(slayer, attached, rtol=0.01)


@pytest.mark.parametrize("rule", [rules.bptt(), rules.exodus()], ids=str)
def test_the_gradient_through_a_step_of_training(rule):
    """Of the loss after one step of gradient descent, with respect to the parameters before it and the input."""

    def after(rule, spike):
        graphdef, params, rest = split(nets.Dense(surrogate=spike), nnx.Param)
        gradients = safjax.value_and_grad(nets.loss, rule)

        def objective(params, x):
            (_, aux), grads = gradients(nnx.merge(graphdef, params, rest), x, nets.labels())
            net = nnx.merge(graphdef, jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), rest)
            return gradients(net, x, nets.labels())[0][0], aux.rates

        return jax.jit(jax.grad(objective, (0, 1), has_aux=True))(params, sequence())

    actual, rates = after(rule, surrogate.Sigmoid())
    nets.assert_fires(rates)
    nets.assert_trees_close(actual, after(rules.bptt(), spelled_out)[0], rtol=1e-10)


ACCUMULATE = [name for name, make in DEEP.items() if make().propagation.accumulates]


@pytest.mark.parametrize("name", ACCUMULATE)
def test_rules_with_sums_for_constants_are_not_differentiated_again(name):
    net, x = nets.Dense(), sequence()
    graphdef, params, rest = split(net, nnx.Param)
    gradients = safjax.value_and_grad(nets.loss, rules.RULES[name]())
    step = safjax.train_step(nets.loss, rules.RULES[name](), optax.sgd(0.1))

    def gradient(params, x):
        return optax.tree.norm(gradients(nnx.merge(graphdef, params, rest), x, nets.labels())[1])

    def value(params, x):
        return gradients(nnx.merge(graphdef, params, rest), x, nets.labels())[0][0]

    def trained(params, x):
        net = nnx.merge(graphdef, params, rest)
        return optax.tree.norm(split(step(net, step.init(net), x, nets.labels())[0], nnx.Param)[1])

    message = f"rule '{name}' returned was differentiated.*Use bptt.*what has none"
    for function in (gradient, value, trained):
        with pytest.raises(TypeError, match=message):
            jax.grad(function, (0, 1))(params, x)
    with pytest.raises(TypeError, match="differentiated|custom_vjp"):
        jax.jvp(lambda x: gradient(params, x), (x,), (x,))
    net, y = nets.Dense(), nets.labels()
    constant = jax.grad(lambda x: jnp.sum(x) * gradients(*jax.lax.stop_gradient((net, x)), y)[0][0])(x)
    np.testing.assert_allclose(constant, value(params, x), rtol=1e-12)


@pytest.mark.parametrize("channels, features, size", [(3, 4, 5), (64, 128, 4)])
def test_of_a_convolution(channels, features, size):
    """In its plain spelling and in that of minimal filtering."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, size, size, channels)))
    w = jnp.asarray(rng.normal(size=(3, 3, channels, features)) / channels)
    weights = normals(1, (x, w))

    def second(convolve):
        layout = ("NHWC", "HWIO", "NHWC")
        first = jax.grad(lambda x, w: jnp.sin(convolve(x, w, (1, 1), "SAME", dimension_numbers=layout)).sum(), (0, 1))
        return jax.jit(jax.grad(lambda *at: optax.tree.vdot(weights, first(*at)), (0, 1)))(x, w)

    nets.assert_trees_close(second(ops.conv_general_dilated), second(jax.lax.conv_general_dilated), rtol=1e-10)


def test_of_standardised_kernels():
    rng = np.random.default_rng(0)
    kernel, gain = jnp.asarray(rng.normal(size=(3, 2, 4))), jnp.asarray(rng.uniform(0.5, 2, 4))
    check_grads(standardise, (kernel, gain), order=2, modes=["rev"], rtol=1e-6, atol=1e-6)
