"""Exported nets compute what safjax computes, in a process that has JAX alone."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import LIF, PSN, BatchNorm, Dropout, InstantReadout, LeakyReadout, Synapse
from tests import nets
from tests.test_examples import DOCS, python_blocks

pytest.importorskip("flatbuffers")
pytestmark = pytest.mark.usefixtures("x64")

READER = python_blocks((DOCS / "export.md").read_text())[1][1]

ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"safjax", "flax", "optax"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
import os
import numpy as np

for folder in sys.argv[2:]:
    os.chdir(folder)
    x = np.load("x.npy")
    steps = len(x) if x.ndim in (3, 5) else 4
    exec(open(sys.argv[1]).read().replace("x[0]", "(x[0] if x.ndim in (3, 5) else x)"))
    state, streamed = start(arrays, x[0] if x.ndim in (3, 5) else x), []
    for t in range(steps):
        state, output = stream(arrays, state, x[t] if x.ndim in (3, 5) else x)
        streamed.append(output)
    np.savez("outputs.npz", predict=np.asarray(outputs), stream=np.stack(streamed))
assert not {"safjax", "flax"} & set(sys.modules)
"""
"""Sequences have three or five axes, images two or four."""


def sequence():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 2.0, (5, nets.BATCH, 7)))


def cases():
    """{name: (net, x, steps)}"""
    return {
        "dense": (nets.Dense(), sequence(), None),
        "convolutions": (nets.Conv(), nets.image(), 4),
        "feedback": (nets.Feedback(), nets.video(steps=3), None),
    }


def test_a_file_runs_without_safjax(tmp_path):
    """By the reader of the page, to the bit, the whole sequence and step by step; every layer fires."""
    expected = {}
    for name, (net, x, steps) in cases().items():
        (tmp_path / name).mkdir()
        sizes = {"batch": nets.BATCH} | ({"length": len(x)} if steps is None else {})
        safjax.export(net, x, steps, **({} if name == "dense" else sizes)).save(tmp_path / name / "net.saf")
        np.save(tmp_path / name / "x.npy", x)
        run, stream = safjax.simulate(net, x, steps), safjax.stream(net)
        nets.assert_fires({path: spikes.mean() for path, spikes in run.spikes.items()})
        state, outputs = stream.start(x if steps else x[0]), []
        for t in range(steps or len(x)):
            state, output = stream(state, x if steps else x[t])
            outputs.append(output)
        expected[name] = {"predict": safjax.predict(net, x, steps), "stream": jnp.stack(outputs)}
    (tmp_path / "reader.py").write_text(READER)
    folders = [str(tmp_path / name) for name in expected]
    settings = {**os.environ, "JAX_ENABLE_X64": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", ALONE, str(tmp_path / "reader.py"), *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, outputs in expected.items():
        for kind, found in np.load(tmp_path / name / "outputs.npz").items():
            np.testing.assert_array_equal(found, outputs[kind], err_msg=f"{name}, {kind}")


@pytest.mark.parametrize("kept", ["all", "mean"])
def test_any_batch_and_any_length(kept):
    net, x = nets.Dense(), sequence()
    exported = safjax.export(net, x[:2, :1], outputs=kept)
    assert exported.about["x"] == {"shape": ["t", "b", 7], "dtype": "float64"}
    for some in (x, x[:3, :2]):
        np.testing.assert_array_equal(exported.predict(some), safjax.predict(net, some, outputs=kept))


@pytest.mark.parametrize("features", [4, 128], ids=["as it stands", "winograd"])
def test_any_batch_of_images(features):
    """Of the convolution that has a spelling of its own on CPU, as of others."""
    net = nnx.Sequential(
        Synapse(nnx.Conv(2, 64, (3, 3), param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))),
        LIF(),
        Synapse(nnx.Sequential(nets._pooled, nnx.Conv(64, features, (3, 3), param_dtype=nets.DTYPE, rngs=nnx.Rngs(1)))),
        InstantReadout(),
    )
    exported = safjax.export(net, nets.image()[:1], 3)
    assert exported.about["platforms"] == ["cpu", "cuda", "tpu"]
    np.testing.assert_allclose(
        exported.predict(nets.image()), safjax.predict(net, nets.image(), 3), rtol=1e-12, atol=1e-12
    )
    written = {
        p: safjax.export(net, nets.image(), 3, platforms=[p]).programs["predict"].mlir_module() for p in ("cpu", "cuda")
    }
    assert written["cuda"].count("stablehlo.convolution") == 2
    assert (written["cpu"].count("stablehlo.convolution") == 1) == (features == 128)


def test_evaluation_whichever_mode_it_is_in():
    layers = nnx.Sequential(nnx.Linear(7, 9, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0)), BatchNorm(9, over="step"))
    net = nnx.Sequential(Synapse(layers), LIF(), Dropout(0.4, rngs=nnx.Rngs(1)), LeakyReadout())
    net.layers[0].layer.layers[1].mean[...] = jnp.linspace(-1.0, 1.0, 9, dtype=jnp.float32)
    exported = safjax.export(net, sequence())
    assert not net.layers[2].deterministic and "layers.0.layer.layers.1.mean" in exported.arrays
    assert not any("rngs" in name or "key" in name for name in exported.arrays)
    np.testing.assert_array_equal(exported.predict(sequence()), safjax.predict(net, sequence()))


def _flat(x):
    return x.reshape(len(x), -1)


def test_what_needs_a_number_is_refused_with_what_to_write():
    net, x = nnx.Sequential(Synapse(_flat), LIF(), InstantReadout()), nets.video(steps=2)
    with pytest.raises(ValueError, match=r"Write safjax.export\(..., batch=3\).* x.shape\[0\] in place of len\(x\)"):
        safjax.export(net, x)
    exported = safjax.export(net, x, batch=3)
    np.testing.assert_array_equal(exported.predict(x), safjax.predict(net, x))
    whole = nnx.Sequential(PSN(5, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0)), LeakyReadout(0.5))
    with pytest.raises(ValueError, match=r"PSN at 'layers.0'.*Write safjax.export\(..., length=5\), and"):
        safjax.export(whole, sequence())
    exported = safjax.export(whole, sequence(), length=5)
    np.testing.assert_array_equal(exported.predict(sequence()), safjax.predict(whole, sequence()))
    with pytest.raises(ValueError, match="computes all steps of a sequence at once"):
        exported.start(sequence()[0])


def test_mistakes():
    net, x = nets.Dense(), sequence()
    for options, told in (
        ({"batch": 0}, "batch=0"),
        ({"length": 2.0}, "length=2.0"),
        ({"platforms": ["gpu"]}, "'cuda'"),
        ({"platforms": "cpu"}, "platforms='cpu'"),
        ({"outputs": "first"}, "outputs='first'"),
    ):
        with pytest.raises(ValueError, match=told):
            safjax.export(net, x, **options)
    with pytest.raises(ValueError, match="an image has no length"):
        safjax.export(net, x[0], 3, length=4)
    with pytest.raises(TypeError, match="Expected the net"):
        safjax.export(nets.Dense, x)
    with pytest.raises(TypeError, match="x must be an array"):
        safjax.export(net, None)


def test_arrays_inside_and_beside(tmp_path):
    """bfloat16, which NumPy's files do not know, comes back as it was."""
    pytest.importorskip("safetensors")
    dense = nnx.Linear(7, 9, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    net = nnx.Sequential(Synapse(dense), LIF(), LeakyReadout())
    x = sequence().astype(jnp.float32)
    exported, expected = safjax.export(net, x), safjax.predict(net, x)
    inside, alone, beside = tmp_path / "a.saf", tmp_path / "b.saf", tmp_path / "b.safetensors"
    exported.save(inside)
    exported.save(alone, arrays=beside)
    for again in (safjax.Exported.load(inside), safjax.Exported.load(alone, beside)):
        assert again.about == exported.about and again.arrays["layers.0.layer.kernel"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(again.predict(x), expected)
    with pytest.raises(ValueError, match="saved beside.*arrays="):
        safjax.Exported.load(alone)
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="expected a file that safjax.export"):
        safjax.Exported.load(tmp_path / "other.npz")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    exported = safjax.export(nets.Dense(), sequence(), platforms=["cpu"])
    monkeypatch.setitem(sys.modules, "jax._src.export.serialization", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"flatbuffers: pip install 'safjax\[export\]'"):
        exported.save(tmp_path / "net.saf")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="safetensors"):
        exported.save(tmp_path / "net.saf", arrays=tmp_path / "net.safetensors")
    assert not list(Path(tmp_path).iterdir())
