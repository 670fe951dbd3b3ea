"""--precision: which numbers a run computes with, and what it leaves behind."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import safjax
from experiments import digits, randman
from experiments.config import parse
from experiments.config.settings import settings
from experiments.storage.arrays import variables
from experiments.training import trained
from experiments.training.trainer import make_feed
from tests.experiments.conftest import TINY
from tests.experiments.making import devices_of, trainer_of


def float_types(text):
    """The floating types of a program's tensors."""
    return set(re.findall(r"(?:tensor<|x)(b?f\d+)>", text))


def step_program(default, *flags):
    """The training step of an experiment, as the compiler is given it; and the dtypes of what it trains."""
    config = parse(default, "", flags)
    with settings(config.net.precision):
        feed = make_feed(config, devices_of(config))
        trainer = trainer_of(config, feed)
        inputs, labels, _, _ = next(feed.train_batches(1))
        text = trainer._step.lower(trainer.net, trainer._opt_state, inputs, labels).as_text()
        trained = jax.tree.leaves((variables(trainer.net), trainer._opt_state))
        return text, {leaf.dtype.name for leaf in trained if jnp.issubdtype(leaf.dtype, jnp.inexact)}


@pytest.mark.parametrize("method", ["saf_f", "ottt_o", "exodus", "ide"])
def test_float64_steps_hold_no_other_float(method):
    text, trained = step_program(digits.CONFIG, *TINY, f"--method={method}", "--precision=float64")
    assert float_types(text) == {"f64"} and trained == {"float64"}


@pytest.mark.parametrize("default", [digits.CONFIG, randman.CONFIG])
def test_bfloat16_steps_keep_the_optimizer_in_float32(default):
    layers = ["--layers", "4"]
    text, trained = step_program(default, *layers, "--steps=3", "--precision=bfloat16")
    assert float_types(text) == {"f32", "bf16"} and trained == {"float32"}
    assert float_types(step_program(default, *layers, "--steps=3")[0]) == {"f32"}


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float64", marks=pytest.mark.slow)])
def test_runs_in_every_precision(precision, finished):
    ended = finished("--method=saf_f", "--precision=" + precision)
    assert ended.code == 0 and not jax.config.values["jax_enable_x64"]
    reference = finished("--method=saf_f").summary
    # Of float64, the weights are drawn anew.
    assert ended.summary["test_loss"] == pytest.approx(reference["test_loss"], rel=1e-2)


def test_double_precision_is_stored_and_read_in_full(finished):
    ended = finished("--method=saf_f", "--precision=float64")
    with pytest.raises(RuntimeError, match=r"jax.enable_x64\(True\)"):
        trained.load_parameters(ended.workdir)
    with jax.enable_x64(True):
        net = trained.load_parameters(ended.workdir)
        outputs = safjax.predict(net, jnp.asarray(np.ones((2, 16, 16, 1))), 2)
    assert outputs.dtype == np.float64 and np.isfinite(outputs).all()
    assert len(set(np.asarray(outputs).ravel())) > 2


def test_settings_end_with_the_run():
    config = parse(digits.CONFIG, "", ["--precision=float64"])
    with pytest.raises(KeyError), settings(config.net.precision):
        assert jnp.zeros(()).dtype == jnp.float64
        raise KeyError
    assert jnp.zeros(()).dtype == jnp.float32


@pytest.mark.slow
def test_bfloat16_learns_as_well_as_float32(run):
    flags = ["--method=saf_f", "--epochs=15", "--steps=5", "--batch-size=64", "--layers", "16", "M", "32", "M", "64"]
    assert run(*flags, "--precision=bfloat16").summary["test_accuracy"] > 0.95
