"""Splitting a function at the border of what varies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax.hoist import hoist

pytestmark = pytest.mark.usefixtures("x64")


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def primitives(function, *args):
    return [eqn.primitive.name for eqn in jax.make_jaxpr(function)(*args).eqns]


def layer(weights, constants, varying):
    kernel = weights["kernel"] / jnp.linalg.norm(weights["kernel"])
    first = jnp.sin(constants["image"] @ kernel)
    masks = {"mask": constants["image"] > 0, "signs": weights["bias"] > 0}
    return {"next": varying + first + weights["bias"], "same": varying, "one": 1.0, **masks}


def example():
    kernel, bias, image, varying = arrays((3, 3), (3,), (4, 3), (4, 3))
    return {"kernel": kernel, "bias": bias}, {"image": image}, varying


def test_the_two_halves_compose_to_the_function():
    weights, constants, varying = example()
    prelude, body = hoist(layer, weights, constants, varying)
    result = body(*prelude(weights, constants), varying)
    expected = layer(weights, constants, varying)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_invariant_work_is_in_the_prelude_only():
    weights, constants, varying = example()
    prelude, body = hoist(layer, weights, constants, varying)
    assert "dot_general" in primitives(prelude, weights, constants)
    inside = primitives(body, *prelude(weights, constants), varying)
    assert not {"dot_general", "sin", "div"}.intersection(inside)


def test_a_bias_is_not_handed_over_at_the_size_of_the_map():
    weights, constants, varying = example()
    prelude, _ = hoist(lambda w, c, v: v * w["bias"], weights, constants, varying)
    assert [a.shape for a in prelude(weights, constants)[0]] == [(3,)]


def test_only_what_depends_on_the_weights_is_to_be_differentiated():
    weights, constants, varying = example()
    prelude, _ = hoist(layer, weights, constants, varying)
    from_weights, from_constants = prelude(weights, constants)
    assert sorted(a.shape for a in from_weights) == [(3,), (4, 3)]
    assert [a.dtype for a in from_constants] == [jnp.bool_, jnp.bool_]


def test_gradients_pull_back_through_the_prelude():
    weights, constants, varying = example()
    prelude, body = hoist(layer, weights, constants, varying)

    def direct(weights):
        return jnp.sum(layer(weights, constants, varying)["next"] ** 2)

    results, pull_back, fixed = jax.vjp(lambda w: prelude(w, constants), weights, has_aux=True)
    at_border = jax.grad(lambda r: jnp.sum(body(r, fixed, varying)["next"] ** 2))(results)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), pull_back(at_border)[0], jax.grad(direct)(weights)
    )


def test_custom_gradients_survive_on_both_sides():
    @jax.custom_vjp
    def doubled_error(x):
        return x

    doubled_error.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))
    prelude, body = hoist(lambda w, c, v: doubled_error(w) * doubled_error(v), 3.0, (), 5.0)
    gradient = jax.grad(lambda w, v: body(*prelude(w, ()), v), (0, 1))(3.0, 5.0)
    assert gradient == (10.0, 6.0)


def test_closed_over_arrays_and_unused_arguments():
    outer = jnp.arange(3.0)
    prelude, body = hoist(lambda w, c, v: (outer * v, c["k"]), {"unused": outer}, {"k": jnp.array(7)}, outer)
    product, k = jax.jit(lambda v: body(*prelude({"unused": outer}, {"k": jnp.array(7)}), v))(outer)
    np.testing.assert_array_equal(product, outer**2)
    assert k == 7


def test_random_bits_of_a_fixed_key_leave_the_loop():
    key = jax.random.key(0)
    prelude, body = hoist(lambda w, c, v: v * jax.random.bernoulli(c, 0.5, (4,)), (), key, jnp.ones(4))
    fixed = prelude((), key)
    assert "random_bits" not in str(jax.make_jaxpr(body)(*fixed, jnp.ones(4)))


def test_effects_stay_in_the_body():
    """A print for debugging speaks once at every step, whether what it shows varies or not."""
    seen = []

    def function(w, c, v):
        jax.debug.callback(lambda x: seen.append(float(x)), v)
        jax.debug.callback(lambda x: seen.append(float(x)), w)
        return jnp.sin(w) * v

    prelude, body = hoist(function, jnp.array(1.0), (), jnp.array(2.0))
    results = prelude(jnp.array(1.0), ())
    jax.effects_barrier()
    assert seen == []
    for v in (5.0, 6.0):
        body(*results, jnp.array(v))
    jax.effects_barrier()
    assert sorted(seen) == [1.0, 1.0, 5.0, 6.0]
