"""Which arrays a training step uses up: those of its own last result, and no others; who asks for them is told."""

import copy
import gc
import pickle
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from orbax import checkpoint

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
    kept, arrays = copy.deepcopy(one), jax.tree.leaves(nnx.state(one))
    trained(step, one, state, 1)
    assert all(array.is_deleted() for array in arrays)
    assert np.isfinite(safjax.predict(kept, jnp.ones((1, 4)), 2)).all()


def test_a_loop_that_takes_no_results_is_told():
    net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0))), safjax.nn.LeakyReadout(0.5))
    step, batch = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.1), 2), (jnp.ones((3, 4)), nets.labels()[:3])
    opt_state = step.init(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):  # Several steps from one net, each of them wanted.
            kept = step(net, opt_state, *batch)
        other, own_state = net, opt_state
        for _ in range(3):
            other, own_state, _ = step(other, own_state, *batch)
    del kept
    with pytest.warns(UserWarning, match=r"results were not taken.*net, opt_state, \(value, aux\) = step\("):
        for _ in range(3):
            step(net, opt_state, *batch)
            gc.collect()  # Nets have cycles of references; a longer loop needs no help.
    adam = safjax.train_step(nets.loss, rules.saf_f(), optax.adam(0.1), 2)
    opt_state = adam.init(net)
    with pytest.warns(UserWarning, match="results were not taken"):
        for _ in range(4):
            _new, opt_state, _ = adam(net, opt_state, *batch)


USES = {
    "predict": lambda net, step, state: safjax.predict(net, jnp.ones((1, 4)), 2),
    "simulate": lambda net, step, state: safjax.simulate(net, jnp.ones((1, 4)), 2),
    "stream": lambda net, step, state: safjax.stream(net),
    "gradient": lambda net, step, state: safjax.value_and_grad(nets.loss, rules.saf_f(), 2)(
        net, jnp.ones((1, 4)), nets.labels()[:1]
    ),
    "step": lambda net, step, state: trained(step, net, state, 1),
    "init": lambda net, step, state: step.init(net),
}

USES_ELSEWHERE = {
    "print": lambda net: str(nnx.state(net)),
    "a weight": lambda net: net.layers[0].layer.kernel[...] + 1,
    "a weight in numpy": lambda net: np.asarray(net.layers[0].layer.kernel),
    "its shape": lambda net: net.layers[0].layer.kernel.shape,
    "its layer": lambda net: net.layers[0].layer(jnp.ones((1, 4))),
    "a compiled function": lambda net: nnx.jit(lambda net: net.layers[0].layer(jnp.ones((1, 4))))(net),
    "a late copy": lambda net: jax.tree.map(jnp.copy, nnx.state(net)),
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.dumps(nnx.as_pure(nnx.state(net))),
    "orbax": lambda net: checkpoint.StandardCheckpointer().save("/nowhere", nnx.as_pure(nnx.state(net))),
}
TOLD = r"used up this net or optimizer state.*best = copy.deepcopy\(net\)"


def test_what_is_used_up_says_so():
    """Kept under another name, by a shallow clone or as a state, a net is told to be gone, and how to keep it."""
    net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0))), safjax.nn.LeakyReadout(0.5))
    step = safjax.train_step(nets.loss, rules.saf_f(), optax.adam(0.1), 2)
    net, state, _ = trained(step, net, step.init(net), 1)
    best, clone, kept, best_state = net, nnx.clone(net), copy.deepcopy((net, state)), state
    expected = safjax.predict(net, jnp.ones((1, 4)), 2)
    net, state, _ = trained(step, net, state, 1)
    for use in USES.values():
        for gone in (best, clone):
            with pytest.raises(RuntimeError, match=TOLD):
                use(gone, step, state)
    with pytest.raises(RuntimeError, match=TOLD):
        trained(step, net, best_state, 1)
    for use in USES_ELSEWHERE.values():
        with pytest.raises(RuntimeError, match=TOLD):
            use(best)
    np.testing.assert_array_equal(safjax.predict(kept[0], jnp.ones((1, 4)), 2), expected)
    trained(step, *kept, 1)
    nnx.update(best, nnx.state(net))  # A used-up net may be filled anew.
    assert np.isfinite(safjax.predict(best, jnp.ones((1, 4)), 2)).all()


def test_an_optimizer_whose_state_is_the_parameters_themselves():
    """schedule_free keeps the parameters it was given: neither they nor the net may be used up with its state."""
    net = nnx.Sequential(safjax.nn.Synapse(nnx.Linear(4, nets.CLASSES, rngs=nnx.Rngs(0))), safjax.nn.LeakyReadout(0.5))
    optimizer = optax.GradientTransformation(lambda params: params, lambda grads, state, params: (grads, state))
    step = safjax.train_step(nets.loss, rules.saf_f(), optimizer, 2)
    later, _, _ = trained(step, net, step.init(net), 1)
    trained(step, later, step.init(later), 1)
    assert np.isfinite(safjax.predict(net, jnp.ones((1, 4)), 2)).all()
