"""Labels go where values go, through loops and calls; those of what learns end where a derivative ends."""

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from safjax.dependence import EFFECT, Learned, follow
from safjax.surrogate import Sigmoid

W = Learned("w")


def sensed():
    return jax.experimental.io_callback(lambda: np.zeros(3), jax.ShapeDtypeStruct((3,), jnp.float32))


def carried(w, x):
    """What is read of the carry's second part depends on w after two rounds only."""
    return jax.lax.scan(lambda c, x: ((w, c[0], c[1] + 0 * x), c[2]), (0.0, 0.0, 0.0), x)[1]


def in_a_while_loop(w, x):
    return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * w, c[1] + 1), (x, 0))[0]


@jax.custom_jvp
def step(u):
    return (u > 0).astype(u.dtype)


step.defjvp(lambda primals, tangents: (step(*primals), *tangents))


@jax.custom_vjp
def rounded(u):
    return jnp.round(u)


rounded.defvjp(lambda u: (rounded(u), None), lambda _, error: (error,))


FUNCTIONS = {
    "sum": (lambda w, x: w + x, {W, "x"}),
    "one": (lambda w, x: 2 * jnp.tanh(x), {"x"}),
    "call": (jax.jit(lambda w, x: (w, x)[1] * 2), {"x"}),
    "remat": (jax.checkpoint(lambda w, x: jnp.sin(w) * x), {W, "x"}),
    "map": (lambda w, x: jax.vmap(lambda a: a * w)(x), {W, "x"}),
    "scan": (carried, {W, "x"}),
    "while": (in_a_while_loop, {W, "x"}),
    "cond": (lambda w, x: jax.lax.cond(w > 0, lambda: 0 * x, lambda: x), {"x"}),
    "branch": (lambda w, x: jax.lax.cond(x[0] > 0, lambda: w * x, lambda: x), {W, "x"}),
    "stopped": (lambda w, x: jax.lax.stop_gradient(w) * x, {"x"}),
    "compared": (lambda w, x: jnp.where(x > w, x, 0.0), {"x"}),
    "rounded": (lambda w, x: jnp.round(w) + jnp.floor(w), set()),
    "surrogate": (lambda w, x: Sigmoid()(w * x), {W, "x"}),
    "own jvp": (lambda w, x: step(w * x), {W, "x"}),
    "own vjp": (lambda w, x: rounded(w * x), {W, "x"}),
    "effect": (lambda w, x: 2 * sensed(), {EFFECT}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_result_depends_on(name):
    function, expected = FUNCTIONS[name]
    jaxpr = jax.make_jaxpr(function)(1.0, jnp.ones(3)).jaxpr
    (labels,) = follow(jaxpr, [frozenset({W}), frozenset({"x"})], lambda name, labels: frozenset())
    assert labels == expected


def test_names_are_found_everywhere_and_add_labels():
    def program(w, x):
        def body(c, x):
            return checkpoint_name(c, "inside") * w, x

        carry, _ = jax.lax.scan(body, x[0], x)
        read = jax.jit(lambda a: checkpoint_name(a, "read"))(x)
        alone = jax.vmap(lambda a: checkpoint_name(a, "alone"))(x)
        return jax.lax.while_loop(lambda c: c < 1, lambda c: checkpoint_name(c + w, "while"), carry) + read + alone

    found = {}

    def look(name, labels):
        found[name] = found.get(name, frozenset()) | labels
        return frozenset({"read"}) if name == "read" else frozenset()

    jaxpr = jax.make_jaxpr(program)(1.0, jnp.ones(3)).jaxpr
    (labels,) = follow(jaxpr, [frozenset({W}), frozenset({"x"})], look)
    assert labels == {W, "x", "read"}
    assert found == {"inside": {W, "x"}, "read": {"x"}, "alone": {"x"}, "while": {W, "x"}}
