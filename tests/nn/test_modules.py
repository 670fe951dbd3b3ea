"""Layers inside foreign modules: nothing leaks, nothing is reset, nothing is used up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, BatchNorm, InstantReadout, LeakyReadout, Synapse
from safjax.nn.binding import bind
from safjax.schedules.schedule import update
from tests import nets
from tests.tables import BROAD

pytestmark = pytest.mark.usefixtures("x64")


def dense_input(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1.2, (nets.BATCH, 7)))


def compute(net, rule, x=None, steps=nets.STEPS):
    return nets.value_and_grad(nets.loss, rule, steps)(net, dense_input() if x is None else x, nets.labels())


def test_a_net_is_left_as_it_was():
    net = nets.Dense()
    before = nnx.split(net)
    compute(net, rules.ottt_a())
    safjax.predict(net, dense_input(), 3)
    after = nnx.split(net)
    assert before[0] == after[0]
    jax.tree.map(np.testing.assert_array_equal, before[1], after[1])


def test_every_sequence_starts_from_zero():
    """Running another batch in between changes nothing: there is no state to reset."""
    net = nets.Dense()
    first = safjax.predict(net, dense_input(0), 4)
    safjax.predict(net, dense_input(1), 4)
    np.testing.assert_array_equal(first, safjax.predict(net, dense_input(0), 4))


def test_the_gradient_tree_is_that_of_the_parameters_under_every_rule():
    def gradients(rule):
        return safjax.value_and_grad(nets.loss, rule)(nets.Residual(), nets.video(), nets.labels())[1]

    expected = jax.tree.structure(nnx.state(nets.Residual(), nnx.Param))
    for make in BROAD.values():
        # Shapes need no compilation.
        assert jax.tree.structure(jax.eval_shape(functools.partial(gradients, make()))) == expected


def test_stock_layers_before_and_after_get_their_gradients():
    """The hybrid net's stock layers learn too; under BPTT exactly as autodiff of an unrolled loop says."""
    net = nets.Hybrid(InstantReadout)
    (_, aux), grads = safjax.value_and_grad(nets.loss, rules.bptt(), 3)(net, nets.image(), nets.labels())
    nets.assert_fires(aux.rates)
    graphdef, params = nnx.split(net)

    def unrolled(params):
        net = nnx.merge(graphdef, params)
        x = nnx.relu(nnx.max_pool(net.before(nets.image()), (2, 2), (2, 2)))
        membrane, losses = 0.0, []
        for _ in range(3):
            potential = net.lif.decay * membrane + net.synapse.layer(x)
            spikes = net.lif.surrogate(potential - net.lif.threshold)
            membrane = potential - net.lif.threshold * spikes
            losses.append(nets.loss(net.after(nnx.tanh(net.last.layer(spikes))), nets.labels()))
        return sum(losses) / 3

    nets.assert_trees_close(grads, jax.grad(unrolled)(params), rtol=1e-11)


def test_batch_statistics_move_under_spike_rules():
    class Normalised(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            norm = BatchNorm(9, over="step", param_dtype=nets.DTYPE)
            self.first, self.lif = Synapse(nnx.Sequential(nets._dense(7, 9, rngs), norm)), LIF()
            self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout()

        def __call__(self, x):
            return self.readout(self.last(self.lif(self.first(x))))

    for rule in (rules.exodus(), rules.bptt()):
        net = Normalised()
        mean = net.first.layer.layers[1].mean
        assert not np.any(mean[...])
        compute(net, rule)
        assert np.any(mean[...])
    step = safjax.train_step(nets.loss, rules.sltt(), optax.sgd(0.1), nets.STEPS)
    trained, *_ = step(net, step.init(net), dense_input(), nets.labels())
    assert np.any(trained.first.layer.layers[1].mean[...] != mean[...])


def test_sampled_steps_average_to_the_full_gradient():
    """SLTT-K is unbiased: over the T equally likely choices of one step its mean is SLTT; with K = T it is SLTT."""
    net, steps = nets.Dense(), 3
    run = safjax.value_and_grad(nets.loss, rules.sltt(sampled=1), steps)
    seen = {}
    for seed in range(40):
        _, grads = run(net, dense_input(), nets.labels(), key=jax.random.key(seed))
        seen.setdefault(float(optax.tree.norm(grads)), grads)
    assert len(seen) == steps
    (_, aux), full = compute(net, rules.sltt(), steps=steps)
    nets.assert_fires(aux.rates)
    mean = jax.tree.map(lambda *g: sum(g) / steps, *seen.values())
    nets.assert_trees_close(mean, full, rtol=1e-11)
    everything = safjax.value_and_grad(nets.loss, rules.sltt(sampled=steps), steps)
    _, grads = everything(net, dense_input(), nets.labels(), key=jax.random.key(0))
    nets.assert_trees_close(grads, full, rtol=1e-12)


def test_train_step_is_gradient_and_update():
    """For rules that update once, a training step is value_and_grad and one optimizer update."""
    for name in ("saf_f", "ottt_a", "bptt"):
        net, rule, optimizer = nets.Dense(), rules.RULES[name](), optax.adam(1e-2)
        (_, aux), grads = compute(net, rule)
        nets.assert_fires(aux.rates)
        params = nnx.state(net, nnx.Param)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        step = safjax.train_step(nets.loss, rule, optimizer, nets.STEPS)
        trained, *_ = step(net, step.init(net), dense_input(), nets.labels())
        nets.assert_trees_close(nnx.state(trained, nnx.Param), optax.apply_updates(params, updates))


def test_an_update_keeps_the_dtype_of_the_parameters():
    params, gradients = {"w": jnp.ones(3, jnp.bfloat16)}, {"w": jnp.ones(3, jnp.float32)}
    optimizer = optax.sgd(0.25)
    updated, _ = update(optimizer, gradients, optimizer.init(params), params)
    assert updated["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(updated["w"].astype(float), 0.75)


def test_only_nets_of_its_own_making_are_used_up():
    net, other = nets.Dense(), nets.Dense(seed=1)
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.1), 3)
    trained, opt_state, _ = step(net, step.init(net), dense_input(), nets.labels())
    step(trained, opt_state, dense_input(), nets.labels())
    step(other, step.init(other), dense_input(), nets.labels())
    for given in (net, other):
        assert np.isfinite(safjax.predict(given, dense_input(), 3)).all()


def test_it_composes_with_jit_and_vmap():
    """value_and_grad is an ordinary traced function: under jit, and over an ensemble of nets by vmap."""
    net = nets.Dense()
    run = safjax.value_and_grad(nets.loss, rules.ottt_a(), 3)
    (value, _), grads = run(net, dense_input(), nets.labels())
    graphdef, params = nnx.split(net)
    jitted = jax.jit(lambda params, x, y: run(nnx.merge(graphdef, params), x, y))
    (again, _), others = jitted(params, dense_input(), nets.labels())
    np.testing.assert_allclose(value, again, rtol=1e-12)
    nets.assert_trees_close(grads, others)
    stacked = jax.tree.map(lambda p: jnp.stack([p, p]), params)
    (both, _), _ = jax.vmap(jitted, in_axes=(0, None, None))(stacked, dense_input(), nets.labels())
    np.testing.assert_allclose(both, [value, value], rtol=1e-12)


def test_stock_convolutions_take_the_gradients_that_are_fast_in_a_loop():
    net = nnx.clone(nets.Conv())
    plain = net.second.layer.layers[1]
    assert plain.conv_general_dilated is jax.lax.conv_general_dilated
    bind(net, rules.bptt(), nets.image(), 2, static=True)
    assert plain.conv_general_dilated is safjax.ops.conv_general_dilated
