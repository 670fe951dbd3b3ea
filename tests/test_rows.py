"""What tells from a program that it computes rows each by itself, and all of them alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from safjax.rows import NUMBERS, by_rows, largest_row, telling_numbers
from safjax.same_program import same_program

ROWS = 127, 211


def program(function, rows):
    return jax.make_jaxpr(function)(jnp.ones((5, 4)), jax.ShapeDtypeStruct((rows, 5), jnp.float32))


def seen(function):
    """Whether both say that rows may lie in any batch."""
    one, other = (program(function, rows) for rows in ROWS)
    return by_rows(one, [None, 0], ROWS[0]), same_program(one, other, ROWS)


APART = {
    "a dense layer": lambda w, x: jnp.tanh(x @ w),
    "filled": lambda w, x: jnp.concatenate([x @ w, jnp.zeros((len(x), 1))], 1),
    "a normalisation of each": lambda w, x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
    "there and back": lambda w, x: x[::-1][::-1],
    "through another shape": lambda w, x: x.reshape(-1).reshape(x.shape),
}
DIFFERENT = {
    "a mean": lambda w, x: x - x.mean(0),
    "a swap": lambda w, x: x[::-1],
    "an index": lambda w, x: x + jnp.arange(len(x))[:, None],
    "a draw": lambda w, x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape),
    "a constant": lambda w, x: x + np.arange(len(x), dtype=np.float32)[:, None],
    "a cut": lambda w, x: x + jnp.tile(w[:, :1], (60, 1))[: len(x)],
    "in a loop": lambda w, x: jax.lax.scan(lambda c, row: (c + row, c), x[0], x)[1],
    "of other rows": lambda w, x: jnp.where(jnp.any(x > 2), x, 0.0),
    "nothing": lambda w, x: jnp.ones((len(x), 2)),
}
COUNTED = {
    "divided": lambda w, x: x / len(x),
    "a root": lambda w, x: x * len(x) ** 0.5,
    "a power": lambda w, x: x ** (len(x) // 40),
    "another operation": lambda w, x: jnp.sin(x) if len(x) > 200 else x,
    "half as long": lambda w, x: x + jnp.ones(len(x) // 2).sum(),
    "a constant": lambda w, x: x * np.full(5, len(x), np.float32),
    "inside": lambda w, x: jax.jit(lambda x: x / len(x))(x),
}


@pytest.mark.parametrize("name", APART)
def test_each_by_itself(name):
    assert seen(APART[name]) == (True, True)


@pytest.mark.parametrize("name", DIFFERENT)
def test_not_each_by_itself(name):
    assert not seen(DIFFERENT[name])[0]


@pytest.mark.parametrize("name", COUNTED)
def test_what_knows_how_many_there_are(name):
    assert not seen(COUNTED[name])[1]


def test_rows_may_lie_along_another_axis_of_an_input():
    closed = jax.make_jaxpr(lambda x: x.T * 2.0)(jnp.ones((5, ROWS[0])))
    assert by_rows(closed, [1], ROWS[0]) and not by_rows(closed, [0], ROWS[0])


def test_numbers_that_no_axis_is_a_multiple_of():
    assert telling_numbers([(3, 3, 64, 128), (10,)]) == [*NUMBERS[:2]]
    assert telling_numbers([(2 * 127, 211), ()]) == [*NUMBERS[2:4]]
    assert telling_numbers([tuple(NUMBERS)]) == []


def test_the_largest_row():
    closed = program(lambda w, x: (jnp.repeat(x, 6, 1) * 2.0).sum(1, keepdims=True) + w.sum(), ROWS[0])
    assert largest_row(closed.jaxpr, ROWS[0]) == 4 * 30
