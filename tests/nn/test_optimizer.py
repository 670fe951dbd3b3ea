"""Gradients and NNX: an `nnx.Optimizer` takes them as they are, and so do optax and JAX's own functions of trees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def image():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.5, (nets.BATCH, 7)))


def gradient(rule, net=None):
    net = nets.Dense() if net is None else net
    return safjax.value_and_grad(nets.loss, rule, nets.STEPS)(net, image(), nets.labels())[1]


def kinds(params):
    """The kernels learn one way, the biases another."""
    return jax.tree.map(lambda p: "kernel" if p.ndim > 1 else "bias", params)


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "masked": optax.chain(optax.masked(optax.add_decayed_weights(0.1), lambda p: jax.tree.map(lambda p: p.ndim > 1, p)),
                          optax.sgd(0.1, momentum=0.9)),
    "multi": optax.multi_transform({"kernel": optax.adam(1e-2), "bias": optax.sgd(0.1)}, kinds),
}  # fmt: skip


@pytest.mark.parametrize(("name", "optimizers"), [("saf_f", OPTIMIZERS), ("exodus", ["adam"])])
def test_an_nnx_optimizer_is_a_training_step(name, optimizers):
    rule = rules.RULES[name]()
    run = safjax.value_and_grad(nets.loss, rule, nets.STEPS)
    for transformation in (OPTIMIZERS[optimizer] for optimizer in optimizers):
        net, trained = nets.Dense(), nets.Dense()
        optimizer = nnx.Optimizer(net, transformation, wrt=nnx.Param)
        step = safjax.train_step(nets.loss, rule, transformation, nets.STEPS)
        state = step.init(trained)
        for _ in range(3):
            (_, aux), grads = run(net, image(), nets.labels())
            nets.assert_fires(aux.rates)
            optimizer.update(net, grads)
            trained, state, _ = step(trained, state, image(), nets.labels())
        nets.assert_trees_close(nnx.state(net, nnx.Param), nnx.state(trained, nnx.Param))
    assert jax.tree.structure(grads) == jax.tree.structure(nnx.state(net, nnx.Param))


class Frozen(nnx.Param):
    """A kind of parameter of one's own."""


def test_kinds_of_parameters_stay_what_they_are():
    net = nets.Dense()
    for path, module in nnx.iter_modules(net):
        if isinstance(module, nnx.Linear) and "first" in map(str, path):
            module.kernel = Frozen(module.kernel[...], sharding_metadata="none")
    before = nnx.clone(net, arrays=True)
    found = [variable for _, variable in nnx.iter_graph(net) if isinstance(variable, Frozen)]
    optimizer = nnx.Optimizer(net, optax.sgd(0.1), wrt=nnx.All(nnx.Param, nnx.Not(Frozen)))
    optimizer.update(net, gradient(rules.saf_f(), net))
    assert len(found) == 1
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), nnx.state(net, nnx.Param), nnx.state(before, nnx.Param))
    kept = [path for path, leaf in nnx.to_flat_state(nnx.as_pure(changed)) if not leaf]
    assert len(kept) == 1 and kept[0][-1] == "kernel"


def test_functions_of_trees():
    net, grads = nets.Dense(), gradient(rules.saf_f())
    plain = nnx.as_pure(grads)
    first = jax.tree.leaves(plain)[0]
    (path, leaf), *_ = nnx.to_flat_state(grads)
    assert functools.reduce(lambda tree, key: tree[key], path, grads) is leaf
    assert leaf.shape == first.shape
    assert leaf.dtype == first.dtype == jnp.float64
    np.testing.assert_array_equal(jnp.sum(leaf), first.sum())
    np.testing.assert_allclose(optax.tree.norm(grads), optax.tree.norm(plain), rtol=1e-14)
    nets.assert_trees_close(jax.tree.map(lambda g: 2 * g, grads), optax.tree.add(grads, grads))
    for params, of in ((nnx.state(net, nnx.Param), grads), (nnx.as_pure(nnx.state(net, nnx.Param)), plain)):
        optimizer = optax.adamw(0.1)
        updates, _ = optimizer.update(of, optimizer.init(params), params)
        nnx.update(net, optax.apply_updates(params, updates))


def test_gradients_inside_of_transformations():
    """Compiled, mapped over a batch of inputs, and carried through a loop: the same gradients."""
    net, rule = nets.Dense(), rules.saf_f()
    graphdef, params = nnx.split(net)
    images = jnp.stack([image(), 1.1 * image()])

    def of(params, x):
        net = nnx.merge(graphdef, params)
        return safjax.value_and_grad(nets.loss, rule, nets.STEPS)(net, x, nets.labels())[1]

    expected = [safjax.value_and_grad(nets.loss, rule, nets.STEPS)(net, x, nets.labels())[1] for x in images]
    mapped = jax.jit(jax.vmap(of, (None, 0)))(params, images)
    for i in range(2):
        nets.assert_trees_close(jax.tree.map(lambda g, i=i: g[i], mapped), expected[i], rtol=1e-11)
    total, _ = jax.lax.scan(
        lambda total, x: (jax.tree.map(jnp.add, total, of(params, x)), None),
        jax.tree.map(jnp.zeros_like, params),
        images,
    )
    nets.assert_trees_close(total, jax.tree.map(jnp.add, *expected), rtol=1e-11)
