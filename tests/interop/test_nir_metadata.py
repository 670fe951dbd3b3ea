"""What a NIR file leaves open: firing at the threshold, the time step, the reset; and where it is told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import safjax

nir = pytest.importorskip("nir")
from safjax.nir import Convention, from_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

DT = 1e-3


def neurons(size, *numbers):
    """A graph of nothing but LIF neurons of one tau, r, v_leak and v_threshold."""
    return nir.NIRGraph.from_list(nir.LIF(*(np.full(size, number) for number in numbers)))


@pytest.mark.parametrize(("fires", "expected"), [(">", 0.0), (">=", 1.0)])
def test_a_membrane_that_meets_its_threshold(fires, expected):
    graph = neurons(1, 2e-3, 2.0, 0.0, 1.0)
    net = from_nir(graph, DT, like=Convention(fires=fires))
    run = safjax.simulate(net, jnp.ones((1, 1, 1), jnp.float32))
    assert float(run.outputs[0, 0, 0]) == expected
    gradient = jax.grad(lambda x: safjax.predict(net, x).sum())(jnp.ones((1, 1, 1)))
    assert float(gradient[0, 0, 0]) > 0.1


def test_metadata_come_first():
    graph = neurons(3, 4e-3, 4.0, 0.0, 1.0)
    graph.metadata = {"dt": DT}
    graph.nodes["lif"].metadata = {"reset": "subtract", "fires": ">="}
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (12, 2, 3)), float)
    net = from_nir(graph)
    plain = from_nir(dataclasses.replace(graph, metadata={}), DT, like=Convention("subtract", fires=">="))
    np.testing.assert_array_equal(safjax.predict(net, x), safjax.predict(plain, x))
    assert net.layers["lif"].reset == 1.0
    with pytest.raises(ValueError, match="the metadata of the graph say dt = 0.001"):
        from_nir(graph, 1e-4)
    with pytest.raises(ValueError, match="metadata of 'lif' say reset = 'subtract'"):
        from_nir(graph, reset="zero")
