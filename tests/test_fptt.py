"""FPTT: weights drawn to their average at every step; the authors' numbers, matched in float64.

`golden/fptt.npz`: two convolutions and two dense layers, λ = 0.5, sigmoid surrogate (α = 4); at each step plain SGD on
(t/T) CE and the regulariser, the state of the step before a constant; weights, averages and multipliers after each.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.losses import Timed
from safjax.nn import LIF, InstantReadout, LeakyReadout, Synapse
from safjax.rules import Rule
from safjax.rules.spikes import SpikePropagation
from safjax.schedules import EachStepUpdated
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")
SLTT_O = Rule("sltt_o", SpikePropagation(), EachStepUpdated())
PLACES = {
    "0": ("0", "layer"),
    "3": ("2", "layer", "layers", "1"),
    "6": ("4", "layer", "layers", "1"),
    "8": ("6", "layer"),
}


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "fptt.npz") as file:
        return {key: file[key] for key in file.files}


def flattened(x):
    """As PyTorch does it, channels first."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def net_of(golden):
    made = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    pool = nnx.Sequential(lambda x: safjax.ops.avg_pool(x, (2, 2)), nnx.Conv(5, 6, (3, 3), **made))
    net = nnx.Sequential(
        Synapse(nnx.Conv(2, 5, (3, 3), **made)), LIF(), Synapse(pool), LIF(),
        Synapse(nnx.Sequential(flattened, nnx.Linear(54, 8, **made))), LIF(),
        Synapse(nnx.Linear(8, 4, **made)), InstantReadout(),
    )  # fmt: skip
    variables = {tuple(map(str, path)): v for path, v in nnx.to_flat_state(nnx.state(net, nnx.Param))}
    for name, place in PLACES.items():
        for kind, value in (("kernel", golden[f"param/{name}.weight"]), ("bias", golden[f"param/{name}.bias"])):
            variables["layers", *place, kind].set_value(ours(value))
    return net


def ours(value):
    return jnp.asarray(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T)


def assert_theirs(tree, golden, kind, step):
    flat = {tuple(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.as_pure(tree))}
    for name, place in PLACES.items():
        for ending, leaf in (("weight", "kernel"), ("bias", "bias")):
            theirs = ours(golden[f"{kind}/{name}.{ending}"][step])
            close = {"rtol": 1e-9, "atol": 1e-9 * np.abs(theirs).max()}
            np.testing.assert_allclose(flat["layers", *place, leaf], theirs, **close, err_msg=f"{kind} {name} {step}")


def weighed(output, labels, weight):
    return weight * optax.softmax_cross_entropy_with_integer_labels(output, labels).mean()


def test_it_is_theirs_after_every_step(golden):
    net, steps = net_of(golden), int(golden["T"])
    numbers = {name: float(golden[name]) for name in ("alpha", "beta", "rho")}
    optimizer = safjax.fptt(optax.sgd(float(golden["learning_rate"])), **numbers)
    step = safjax.train_step(weighed, SLTT_O, optimizer, mean_over=1, outputs="all")
    x, y = jnp.asarray(golden["x"].transpose(0, 1, 3, 4, 2)), jnp.asarray(golden["y"])
    weights = jnp.arange(1, steps + 1) / steps
    whole, after, _ = step(net, step.init(net), x, y, Timed(weights))
    state, opt_state, rates = step.start(net, x[:1]), step.init(net), []
    for t in range(steps):
        net, opt_state, (_, aux) = step(net, opt_state, x[t : t + 1], y, Timed(weights[t : t + 1]), state=state)
        state = aux.state
        rates.append(aux.rates)
        np.testing.assert_allclose(aux.outputs[0], golden["logits"][t], rtol=1e-9, atol=1e-12)
        assert_theirs(nnx.state(net, nnx.Param), golden, "after", t)
        assert_theirs(opt_state.average, golden, "average", t)
        assert_theirs(opt_state.multiplier, golden, "multiplier", t)
    nets.assert_fires(jax.tree.map(lambda *r: sum(r) / steps, *rates))
    nets.assert_trees_close(nnx.state(whole, nnx.Param), nnx.state(net, nnx.Param))
    nets.assert_trees_close((after.average, after.multiplier), (opt_state.average, opt_state.multiplier))


def test_the_average_is_one_of_the_learned_numbers_that_are_kept_within_bounds():
    """A threshold that an update would take below its least value stops there, and its average sees that value."""
    lif = LIF(0.5, nnx.Param(jnp.full(4, 0.002)))
    net = nnx.Sequential(lif, Synapse(nnx.Linear(4, 2, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))), LeakyReadout())
    step = safjax.train_step(lambda output: output.sum(), SLTT_O, safjax.fptt(optax.sgd(100.0), beta=1.0), steps=1)
    net, state, _ = step(net, step.init(net), 0.01 * jnp.ones((3, 4)))
    threshold = net.layers[0].threshold[...]
    assert float(threshold.min()) == 1e-3
    expected = threshold + (threshold - 0.002)
    np.testing.assert_allclose(state.average["layers"][0]["threshold"][...], expected, rtol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_an_optimizer_that_asks_for_the_loss_is_given_that_of_the_sum(rho):
    """Whatever is asked for belongs together: the gradient of the function that is given is the one that is given."""
    seen = []

    def update(grads, state, params, *, value, grad, value_fn, **_):
        seen.append((grads, grad, *jax.value_and_grad(value_fn)(params), value))
        return jax.tree.map(lambda g: -0.1 * g, grads), state

    optimizer = safjax.fptt(optax.GradientTransformationExtraArgs(lambda params: (), update), rho=rho)
    params = jnp.array([1.0, -2.0])
    loss = lambda params: jnp.sum(params**3)  # noqa: E731
    state = optimizer.init(params)
    for _ in range(3):
        before = params
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        params = optax.apply_updates(params, updates)
    plain = jax.grad(loss)(before)
    assert float(jnp.abs(seen[-1][0] / plain - 1).max()) > 1e-3
    for given, grad, of_function, from_function, value in seen:
        np.testing.assert_allclose(given, grad)
        np.testing.assert_allclose(given, from_function, rtol=1e-12)
        np.testing.assert_allclose(of_function, value, rtol=1e-12)


@pytest.mark.parametrize("rule", [rules.ottt_o(), rules.saf_e()], ids=["ottt_o", "saf_e"])
def test_it_goes_with_every_rule_that_updates_at_every_step(rule):
    net = nets.Dense(LeakyReadout)
    step = safjax.train_step(nets.loss, rule, safjax.fptt(optax.adam(1e-3)), steps=nets.STEPS)
    x = jnp.asarray(np.random.default_rng(0).normal(0.3, 1.5, (nets.BATCH, 7)))
    net, state, (_, aux) = step(net, step.init(net), x, nets.labels())
    nets.assert_fires(aux.rates)
    assert int(state.optimizer[0].count) == nets.STEPS
    # The sum of all pulls is what μ holds: w̄ and μ moved.
    assert all(float(jnp.abs(m).max()) > 0 for m in jax.tree.leaves(state.multiplier))


BAD = [
    ({"alpha": 0.0}, "alpha=0.0.*above 0"),
    ({"alpha": float("nan")}, "alpha=nan"),
    ({"beta": 1.5}, "beta=1.5.*at most 1"),
    ({"beta": True}, "beta=True"),
    ({"rho": float("inf")}, "rho=inf.*finite"),
]


@pytest.mark.parametrize(("numbers", "message"), BAD)
def test_bad_numbers(numbers, message):
    with pytest.raises(ValueError, match=message):
        safjax.fptt(optax.sgd(0.1), **numbers)


def test_what_is_no_optimizer_and_no_weights():
    with pytest.raises(TypeError, match="expected an optax.GradientTransformation"):
        safjax.fptt(0.1)
    optimizer = safjax.fptt(optax.sgd(0.1))
    with pytest.raises(ValueError, match="with the weights"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
