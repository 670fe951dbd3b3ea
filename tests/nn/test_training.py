"""Which arrays a training step uses up: those of its own last result, and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import safjax
from safjax import rules
from tests import nets


def trained(step, net, opt_state, count=2):
    for _ in range(count):
        net, opt_state, (value, _) = step(net, opt_state, jnp.ones((nets.BATCH, 4)), nets.labels())
    return net, opt_state, float(value)


def test_only_its_own_arrays_are_used_up():
    net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0))), safjax.nn.LeakyReadout(0.5))
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.1, momentum=0.9), 2)
    start, opt_state = nnx.state(net), step.init(net)
    values, last = [], net
    for _ in range(3):  # As for folds or seeds: each begins with the same parameters and optimizer state.
        nnx.update(last, start)
        last, _, value = trained(step, last, opt_state)
        values.append(value)
    assert len(set(values)) == 1
    one, state, _ = trained(step, net, opt_state, 1)
    kept = jax.tree.map(jnp.copy, nnx.state(one))
    trained(step, one, state, 1)
    assert all(array.is_deleted() for array in jax.tree.leaves(nnx.state(one)))
    assert np.isfinite(jax.tree.leaves(kept)[0]).all()


def test_an_optimizer_whose_state_is_the_parameters_themselves():
    """schedule_free keeps the parameters it was given: neither they nor the net may be used up with its state."""
    net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0))), safjax.nn.LeakyReadout(0.5))
    optimizer = optax.GradientTransformation(lambda params: params, lambda grads, state, params: (grads, state))
    step = safjax.train_step(nets.loss, rules.saf_f(), optimizer, 2)
    later, _, _ = trained(step, net, step.init(net), 1)
    trained(step, later, step.init(later), 1)
    assert np.isfinite(safjax.predict(net, jnp.ones((1, 4)), 2)).all()
