"""Arrays of a net by name: what goes out comes back, and what does not fit is named."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import LIF, BatchNorm, Dropout, LeakyReadout, Synapse, named_arrays, with_arrays
from tests import nets


def net_of(seed, hidden=6):
    rngs = nnx.Rngs(seed)
    first = nnx.Sequential(nnx.Linear(4, hidden, rngs=rngs), BatchNorm(hidden, over="step"))
    layers = Synapse(first), LIF(0.8), Dropout(0.3, rngs=rngs), Synapse(nnx.Linear(hidden, 3, rngs=rngs))
    return nnx.Sequential(*layers, LeakyReadout())


@pytest.fixture(scope="module")
def arrays():
    return named_arrays(net_of(0))


def test_another_net_with_them_computes_the_same(arrays):
    x = jnp.asarray(np.random.default_rng(0).normal(1, 2, (7, 5, 4)))
    one, other = net_of(0), net_of(1)
    one.eval()
    other.eval()
    expected = safjax.predict(one, x)
    assert nets.distance(safjax.predict(other, x), expected) > 0.01
    loaded = with_arrays(other, {name: np.asarray(array) for name, array in arrays.items()})
    np.testing.assert_array_equal(safjax.predict(loaded, x), expected)
    assert nets.distance(safjax.predict(other, x), expected) > 0.01, "the net that was given has changed"


def test_random_keys_have_no_name(arrays):
    assert not [name for name in arrays if "rngs" in name or "key" in name]
    assert {"layers.0.layer.layers.1.mean", "layers.0.layer.layers.1.var"} <= set(arrays)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a.pop("layers.3.layer.bias"), r"There is no array for 'layers\.3\.layer\.bias'\."),
        (lambda a: a.update(other=jnp.zeros(2)), r"The net has none of the name 'other'\."),
        (
            lambda a: a.update({"layers.3.layer.kernel": jnp.zeros((3, 6), jnp.float32)}),
            r"'layers\.3\.layer\.kernel' is float32\[3, 6\] there, but float32\[6, 3\] in the net\.",
        ),
        (
            lambda a: a.update({"layers.3.layer.bias": jnp.zeros(3, jnp.bfloat16)}),
            r"'layers\.3\.layer\.bias' is bfloat16\[3\] there, but float32\[3\] in the net\.",
        ),
    ],
)
def test_what_does_not_fit_is_named(arrays, change, told):
    given = dict(arrays)
    change(given)
    with pytest.raises(ValueError, match=told):
        with_arrays(net_of(0), given)
