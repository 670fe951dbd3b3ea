"""A net and an optimizer as named arrays, and back to the last bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.storage.arrays import all_finite, from_arrays, to_arrays, variables


class Net(nnx.Module):
    """Something of every kind of variable: parameters, statistics, a random key and its count."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_names_are_paths():
    assert set(to_arrays(variables(Net(0)))) == {
        "layers.0.kernel",
        "layers.0.bias",
        "norm.scale",
        "norm.bias",
        "norm.mean",
        "norm.var",
        "dropout.rngs.key",
        "dropout.rngs.count",
    }


def test_everything_comes_back_random_numbers_too():
    net, other = Net(0), Net(1)
    net.dropout.rngs.count[...] = jnp.uint32(7)
    net.norm.mean[...] = jnp.arange(3.0)
    assert not np.array_equal(net.dropout.rngs.key.get_value(), other.dropout.rngs.key.get_value())
    nnx.update(other, from_arrays(variables(other), to_arrays(variables(net))))
    mine, theirs = to_arrays(variables(net)), to_arrays(variables(other))
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert jnp.array_equal(net.dropout(jnp.ones(64)), other.dropout(jnp.ones(64)))


def test_state_of_an_optimizer_comes_back_as_it_was():
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.adamw(optax.cosine_decay_schedule(0.1, 10)))
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.zeros(3)}
    _, state = optimizer.update(params, optimizer.init(params), params)
    back = from_arrays(optimizer.init(params), to_arrays(state))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for mine, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        assert (mine.dtype, mine.weak_type) == (theirs.dtype, theirs.weak_type)
        np.testing.assert_array_equal(mine, theirs)


def test_copies_do_not_change_with_the_device():
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jnp.zeros(1000)
    copy = to_arrays({"x": array})["x"]
    for _ in range(3):
        array = step(array)
    assert array[0] == 3 and not copy.any()
    assert copy.flags.owndata


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros(2, np.float32)}, "b: on one side only"),
        ({"a": np.zeros(2, np.float32), "b": np.zeros(1), "c": np.zeros(1)}, "c: on one side only"),
        ({"a": np.zeros(3, np.float32), "b": np.zeros(1, np.int32)}, "a is float32[3], not float32[2]"),
        ({"a": np.zeros(2, np.float64), "b": np.zeros(1, np.int32)}, "a is float64[2], not float32[2]"),
    ],
)
def test_arrays_of_another_tree_are_refused(arrays, words):
    with pytest.raises(ValueError) as error:
        from_arrays({"a": jnp.zeros(2), "b": jnp.zeros(1, jnp.int32)}, arrays)
    assert words in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_all_finite(value, dtype):
    assert all_finite({"a": np.zeros(2, dtype), "count": np.array(1, np.int32), "key": np.zeros(2, np.uint32)})
    assert not all_finite({"count": np.array(1, np.int32), "a": np.array([0, value], dtype)})
