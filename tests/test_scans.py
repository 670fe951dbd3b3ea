"""Constants, carries and rows of a loop are told apart by their shapes, whatever JAX calls a scan's parameters."""

import jax
import jax.numpy as jnp
import pytest

from safjax import scans


def scan_of(function, *args):
    return next(e for e in jax.make_jaxpr(function)(*args).jaxpr.eqns if e.primitive.name == "scan")


@pytest.mark.parametrize("constants", [0, 2])
@pytest.mark.parametrize("carried", [0, 1, 3])
@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("results", [0, 2])
def test_carries_stand_between_constants_and_rows(constants, carried, rows, results):
    """Of any shape: a constant as long as the loop is no row."""

    def run(held, first, read):
        def turn(carry, row):
            total = sum(jnp.sum(x) for x in (*held, *carry, *(row or ())))
            return [total * c for c in carry], [total] * results

        return jax.lax.scan(turn, first, read, length=4)

    held, first = [jnp.ones(4)] * constants, [jnp.ones((4, i + 1)) for i in range(carried)]
    scan = scan_of(run, held, first, [jnp.ones((4, 4))] * rows or None)
    assert scans.carries(scan) == slice(constants, constants + carried)
    assert len(scans.body(scan).invars) == len(scan.invars) == constants + carried + rows
    assert len(scans.body(scan).outvars) == carried + results
