"""NIR files that other libraries wrote, and the spikes that those compute: each under the convention of its writer."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from tests.nets import assert_fires

nir = pytest.importorskip("nir")
from safjax.nir import from_nir, to_nir  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

GOLDEN = Path(__file__).parent.parent / "golden" / "nir"

WRITTEN = {
    "norse_conv": {"like": "norse"},
    "norse_dense": {"like": "norse"},
    "norse_recurrent_cuba": {"like": "norse", "reset": "subtract"},
    "norse_recurrent_lif": {"like": "norse"},
    "sinabs_iaf_conv": {"like": "sinabs"},
    "sinabs_lif": {"like": "sinabs"},
    "snntorch_conv": {"like": "snntorch", "reset": "zero"},
    "snntorch_leaky": {"like": "snntorch", "reset": "late"},
    "snntorch_rleaky": {"like": "snntorch", "reset": "zero"},
    "snntorch_synaptic": {"like": "snntorch", "reset": "zero"},
    "snntorch_zero": {"like": "snntorch", "reset": "zero"},
    "spikingjelly_conv": {"like": "spikingjelly"},
    "spikingjelly_cuba": {"like": "spikingjelly"},
    "spyx_conv": {"like": "spyx"},
    "spyx_lif": {"like": "spyx"},
    "spyx_rlif": {"like": "spyx"},
}


def golden(name):
    """(graph, dt, x with channels last, what the library computed)."""
    data = np.load(GOLDEN / f"{name}.npz")
    x = jnp.asarray(data["x"], jnp.float64)
    return nir.read(GOLDEN / f"{name}.nir"), float(data["dt"]), jnp.moveaxis(x, 2, -1), data


def test_every_file_is_read():
    assert sorted(WRITTEN) == sorted(path.stem for path in GOLDEN.glob("*.nir"))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_computes_what_its_writer_does(name):
    graph, dt, x, data = golden(name)
    run = safjax.simulate(from_nir(graph, dt, **WRITTEN[name]), x)
    exact = name != "norse_conv"
    np.testing.assert_allclose(run.outputs, data["output"], rtol=0, atol=0 if exact else 1e-15)
    spikes = [spikes for path, spikes in run.spikes.items() if exact or path != "layers.6"]
    assert_fires({str(i): float(np.mean(np.asarray(s) > 0)) for i, s in enumerate(spikes)}, 0.05, 0.6)
    if not name.startswith("spyx"):
        for key, found in zip(("spikes1", "spikes2"), spikes, strict=False):
            if key in data:
                expected = np.moveaxis(data[key], 2, -1)
                np.testing.assert_array_equal(found, expected)


slow = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::safjax.nir.ResetLost")
@pytest.mark.parametrize(
    "name",
    ["snntorch_rleaky", *(pytest.param(n, marks=slow) for n in ("norse_conv", "norse_recurrent_cuba", "spyx_conv"))],
)
def test_what_was_read_is_written_again(name):
    """With another flattening, biases at the first step and late answers in the graph itself, not in a convention."""
    graph, dt, x, data = golden(name)
    again = to_nir(from_nir(graph, dt, **WRITTEN[name]), x, dt)
    outputs = safjax.predict(from_nir(again), x)
    np.testing.assert_allclose(outputs, data["output"], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("snntorch_leaky", {"like": "snntorch", "reset": "zero"}),
        ("spyx_lif", {"reset": "late"}),
        ("sinabs_lif", {"like": "spikingjelly", "reset": "subtract"}),
    ],
)
def test_with_another_convention_it_does_not(name, wrong):
    """Or else the test above proves nothing."""
    graph, dt, x, data = golden(name)
    outputs = safjax.predict(from_nir(graph, dt, **wrong), x)
    assert np.mean(np.asarray(outputs) != data["output"]) > 0.02
