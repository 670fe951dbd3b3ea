"""The core needs JAX alone: it is imported where Flax cannot be, and its rules train plain functions there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax.nn import LIF, LeakyReadout, Synapse
from safjax.rules import RULES

PAGE = Path(__file__).parent.parent / "docs" / "api" / "core.md"

pytestmark = pytest.mark.usefixtures("x64")

STEPWISE = ["bptt", "sltt", "ottt_a", "saf_e", "saf_f", "approx_otpe"]

HIDDEN = """
import sys
sys.modules.update(dict.fromkeys(("flax", "optax", "matplotlib")))  # None: importing them fails
import jax
jax.config.update("jax_enable_x64", True)
"""
FOUND = f"""
import json
found = {{}}
for name in {STEPWISE}:
    (value, rates), grads = value_and_grad(rules.RULES[name](), params, x)
    found[name] = [float(value), float(rates["hidden"]), {{n: g.tolist() for n, g in grads.items()}}]
inputs = x.tolist(), {{n: p.tolist() for n, p in params.items()}}
print(json.dumps([inputs, found]))
"""


def without_flax(code):
    """What a program prints in an interpreter without Flax, optax and matplotlib."""
    result = subprocess.run([sys.executable, "-c", HIDDEN + code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_only_what_is_made_of_flax_needs_it():
    core = [name for name in safjax.__all__ if name not in safjax._OF_FLAX]
    others = ["neurons", "schedules", "messages", "task", "hoist", "affine"]
    out = without_flax(
        f"""
import importlib, safjax
for name in {others}: importlib.import_module("safjax." + name)
for name in {core}: getattr(safjax, name)
for name in safjax._OF_FLAX:
    try: getattr(safjax, name)
    except ModuleNotFoundError as error: print(error.name)
"""
    )
    assert len(core) == 8 and out.split() == ["flax"] * len(safjax._OF_FLAX)


def test_every_public_name_is_found_and_no_other():
    for name in safjax.__all__:
        assert getattr(safjax, name).__name__.endswith(name) and name in dir(safjax)
    with pytest.raises(AttributeError, match="module 'safjax' has no attribute 'trian_step'"):
        safjax.trian_step  # noqa: B018


@pytest.fixture(scope="module")
def found():
    """(inputs, {rule: (value, rate, gradients)}) of the page's program of plain functions, in float64."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return json.loads(without_flax(program + FOUND))


@pytest.mark.parametrize("name", STEPWISE)
def test_plain_functions_are_trained_as_a_net_of_modules_is(found, name):
    (x, params), by_rule = found
    value, rate, grads = by_rule[name]
    x, params = np.asarray(x), {n: np.asarray(p) for n, p in params.items()}
    layers = [nnx.Linear(*p.shape, use_bias=False, param_dtype=x.dtype, rngs=nnx.Rngs(0)) for p in params.values()]
    for layer, kernel in zip(layers, params.values(), strict=True):
        layer.kernel.set_value(jax.numpy.asarray(kernel))
    net = nnx.Sequential(Synapse(layers[0]), LIF(0.7, 0.5), Synapse(layers[1]), LeakyReadout(0.7))
    loss = lambda output: jax.numpy.mean((output - 0.5) ** 2)  # noqa: E731
    (expected, aux), exact = safjax.value_and_grad(loss, RULES[name]())(net, x)
    assert x.dtype == np.float64 and 0.05 < rate < 0.6
    np.testing.assert_allclose([value, rate], [expected, aux.rates["layers.1"]], rtol=1e-12)
    for own, other in zip((grads["hidden"], grads["out"]), jax.tree.leaves(nnx.as_pure(exact)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-14)
