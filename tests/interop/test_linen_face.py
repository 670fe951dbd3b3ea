"""Linen modules in synapses, and nets as functions of dictionaries: the same gradients as of the NNX net."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import safjax
import safjax.linen
from safjax.nn import LIF, BatchNorm, Dropout, LeakyReadout, Synapse, named_arrays, with_arrays
from safjax.rules import RULES
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 4


class Hidden(linen.Module):
    """A Linen module of two."""

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(6, param_dtype=nets.DTYPE)(x)
        return linen.Dense(9, param_dtype=nets.DTYPE, bias_init=linen.initializers.normal(0.3))(1.5 * x)


class HiddenOfNNX(nnx.Module):
    def __init__(self):
        one, two = (nnx.Linear(n, m, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0)) for n, m in ((7, 6), (6, 9)))
        self.one, self.two = one, two

    def __call__(self, x):
        return self.two(1.5 * self.one(x))


def x():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 2.0, (nets.BATCH, 7)))


def net(*more):
    rngs = nnx.Rngs(0)
    first = Synapse(safjax.linen.Layer(Hidden(), x(), rngs=rngs))
    kernel = linen.initializers.normal(1.0)
    dense = linen.Dense(nets.CLASSES, param_dtype=nets.DTYPE, kernel_init=kernel)
    return nnx.Sequential(
        first, *more, LIF(), Synapse(safjax.linen.Layer(dense, jnp.ones((1, 9)), rngs=rngs)), LeakyReadout()
    )


def of_nnx(net):
    """The same net of NNX layers, with the same parameters."""
    dense = nnx.Linear(9, nets.CLASSES, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    bare = nnx.Sequential(Synapse(HiddenOfNNX()), LIF(), Synapse(dense), LeakyReadout())
    return with_arrays(bare, {stock(name): array for name, array in named_arrays(net).items()})


def stock(name):
    return name.replace("params.", "").replace("Dense_0", "one").replace("Dense_1", "two")


@pytest.mark.parametrize("name", ["bptt", "ottt_a", "saf_e", "saf_f", "sltt", "exodus"])
def test_gradients_are_those_of_the_nnx_net(name):
    ours, rule = net(), RULES[name]()
    params = safjax.linen.init(ours)
    (value, aux), grads = safjax.linen.value_and_grad(ours, nets.loss, rule, STEPS)(params, x(), nets.labels())
    nets.assert_fires(aux.rates)
    (expected, _), stocks = nets.value_and_grad(nets.loss, rule, STEPS)(of_nnx(ours), x(), nets.labels())
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    found = {".".join(k.key for k in path): g for path, g in jax.tree.leaves_with_path(grads)}
    wanted = {".".join(str(k) for k in path): g for path, g in nnx.to_flat_state(nnx.as_pure(stocks))}
    nets.assert_trees_close({stock(k): g for k, g in found.items()}, wanted)


def test_a_train_state_learns():
    ours = net()
    apply = safjax.linen.predict(ours, STEPS, outputs="mean")
    state = TrainState.create(apply_fn=apply, params=safjax.linen.init(ours), tx=optax.adam(0.05))
    loss_and_grad, values = safjax.linen.value_and_grad(ours, nets.loss, RULES["saf_f"](), STEPS), []
    np.testing.assert_array_equal(state.apply_fn(state.params, x()), safjax.predict(ours, x(), STEPS, outputs="mean"))
    for _ in range(20):
        (value, _), grads = loss_and_grad(state.params, x(), nets.labels())
        state, values = state.apply_gradients(grads=grads), [*values, value]
    assert values[-1] < 0.5 * values[0]


def test_what_has_no_place_is_refused_by_name():
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"BatchNorm.*'batch_stats'.*safjax.nn.BatchNorm"):
        safjax.linen.Layer(linen.BatchNorm(use_running_average=False), x(), rngs=rngs)
    with pytest.raises(TypeError, match=r"expected a flax.linen.Module"):
        safjax.linen.Layer(nnx.Linear(7, 9, rngs=rngs), x(), rngs=rngs)
    ours = net()
    params = safjax.linen.init(ours)
    loss_and_grad = safjax.linen.value_and_grad(ours, nets.loss, RULES["bptt"](), STEPS)
    del params["layers"]["0"]["layer"]["params"]["Dense_0"]["kernel"]
    with pytest.raises(ValueError, match=r"nothing at 'layers.0.layer.params.Dense_0.kernel'.*\(7, 6\)"):
        loss_and_grad(params, x(), nets.labels())


@pytest.mark.parametrize("make", [lambda: Dropout(0.3, rngs=nnx.Rngs(1)), lambda: Synapse(BatchNorm(9, over="step"))])
def test_what_a_call_changes_would_be_lost(make):
    ours = net(make())
    params = safjax.linen.init(ours)
    with pytest.raises(ValueError, match=r"changes its variable 'layers.1.*net.eval\(\)"):
        safjax.linen.value_and_grad(ours, nets.loss, RULES["bptt"](), STEPS)(params, x(), nets.labels())
    ours.eval()
    safjax.linen.value_and_grad(ours, nets.loss, RULES["bptt"](), STEPS)(params, x(), nets.labels())
