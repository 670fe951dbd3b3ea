"""What is said to be differentiable for certain is, and what somebody else's rule decides is not said to be."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from safjax import ops, rules, surrogate
from safjax.differentiable import surely_differentiable
from safjax.neurons import LIFCell, lif_sequence
from safjax.nn import LIF, LeakyReadout, SequenceState, Synapse, WSConv
from tests.refused_nets import IMAGE, STEPS, chain, dense


@jax.custom_vjp
def broken(x):
    return x


broken.defvjp(lambda x: (x, None), lambda _, error: (error, error))


@dataclasses.dataclass(frozen=True)
class OneSlope(surrogate.Surrogate):
    """A slope of another shape than x."""

    def slope(self, x):
        return jnp.ones((*x.shape, 1))


def looped(x):
    return jax.lax.while_loop(lambda x: x.sum() < 0, lambda x: x + 1, x)


X, IMAGES = jnp.ones((4, 3)), jnp.ones((2, 8, 8, 3))
SURE = {
    "softmax": (jax.nn.softmax, X),
    "activations": (lambda x: jax.nn.relu(x) + jax.nn.gelu(x) + jax.nn.silu(x), X),
    "convolution": (lambda x: WSConv(3, 4, rngs=nnx.Rngs(0))(x), IMAGES),
    "pooling": (lambda x: nnx.max_pool(x, (2, 2), (2, 2)) + ops.avg_pool(x, (2, 2)), IMAGES),
    "neurons": (lambda x: lif_sequence(x, LIFCell(0.5, 1.0, surrogate.Sigmoid()), None)[0], X[:, None]),
    "a loop": (lambda x: jax.lax.scan(lambda a, b: (a + b, a * b), x[0], x)[1], X),
    "a mask": (lambda x: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, x.shape), x, 0), X),
}
UNSURE = {
    "a loop without an end": (looped, X),
    "somebody's rule": (broken, X),
    "somebody's rule in a function": (jax.jit(lambda x: 2 * broken(x)), X),
    "somebody's slope": (OneSlope(), X),
    "complex numbers": (lambda x: jnp.fft.fft(x).real, X),
    "a call back": (lambda x: (jax.debug.callback(lambda x: None, x), x)[1], X),
}


@pytest.mark.parametrize("name", SURE)
def test_sure(name):
    function, x = SURE[name]
    assert surely_differentiable(jax.make_jaxpr(function)(x).jaxpr)
    jax.eval_shape(jax.grad(lambda x: jnp.sum(function(x))), x)


@pytest.mark.parametrize("name", UNSURE)
def test_unsure(name):
    function, x = UNSURE[name]
    assert not surely_differentiable(jax.make_jaxpr(function)(x).jaxpr)


class Widening(nnx.Module):
    """Its state has another dtype after a step, so that no loop can carry it."""

    def __init__(self):
        self.seen = SequenceState(jnp.zeros((), jnp.bfloat16))

    def __call__(self, x):
        self.seen.set_value(self.seen.get_value() + x.mean())
        return x + self.seen.get_value()


@pytest.mark.parametrize(
    ("make", "trained"),
    [
        (lambda: chain(dense(broken), LIF()), ()),
        (lambda: chain(dense(), LIF(surrogate=OneSlope())), ()),
        (lambda: chain(Synapse(Widening()), LIF()), ()),
        (lambda: nnx.Sequential(dense(), LIF(), LeakyReadout()), tuple(rules.RULES)),
    ],
)
def test_a_gradient_that_only_its_trace_tells_of(make, trained):
    """The check, which need not trace the gradient of most nets, says what training does."""
    report = safjax.check(make(), jnp.ones(IMAGE), STEPS)
    for name, rule in rules.RULES.items():
        try:
            jax.eval_shape(lambda x: safjax.value_and_grad(jnp.mean, rule(), STEPS)(make(), x), jnp.ones(IMAGE))  # noqa: B023
            trains = True
        except (TypeError, ValueError):
            trains = False
        assert report[name].trains == trains == (name in trained), (name, report[name])
