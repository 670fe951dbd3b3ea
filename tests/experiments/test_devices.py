"""Training on several devices and in several processes; what cannot work is refused."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from experiments.config import Config, ConfigError
from experiments.distribution.devices import Agreement
from experiments.distribution.parallel import ParallelStep
from experiments.storage.arrays import to_arrays
from experiments.training import trained
from safjax.nn import LIF, Dropout, LeakyReadout, Synapse
from safjax.rules import saf_f
from tests.experiments.making import devices_of

ROOT = Path(__file__).parents[2]
TINY = ("--method=ottt_a", "--layers", "4", "M", "8", "--steps=2", "--batch-size=256", "--epochs=8")
EXACT = "--precision=float64"
PATIENCE = 900
"""Seconds for what takes a few, on a machine with other work."""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"devices": 0}, "--devices=0 is not possible: expected a whole number of devices"),
        ({"coordinator": "here"}, "--coordinator=here is not possible: expected HOST:PORT"),
        ({"coordinator": "here:99999", "processes": 2, "process": 0}, "expected HOST:PORT"),
        ({"coordinator": "here:1234"}, "--processes=None is not possible: expected how many processes"),
        ({"coordinator": "here:1234", "processes": 2}, "--process=None is not possible: expected which of them"),
        ({"coordinator": "here:1234", "processes": 2, "process": 2}, "--process=2 is not possible: expected which"),
        ({"processes": 2}, "--processes=2 is not possible: expected none, but with --coordinator=HOST:PORT"),
        ({"coordinator": "auto", "process": 0}, "--process=0 is not possible: expected none"),
        ({"accumulate": 0}, "--accumulate=0 is not possible: expected a whole number of batches"),
    ],
)
def test_impossible_settings(values, words):
    with pytest.raises(ConfigError, match=words):
        Config().changed(**values)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--devices=5",), "--devices=5 is more than there are: JAX sees 1 (cpu) in a process. Give 1 or fewer"),
        (("--method=saf_e", "--accumulate=2"), "Give --method=ottt_a"),
    ],
)
def test_what_cannot_run_ends_with_2_and_nothing_written(flags, words, run):
    ended = run(*flags)
    assert ended.code == 2 and words in ended.err and not ended.workdir.exists()


def test_batch_that_cannot_be_divided(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda process=None: 8 * jax.devices())
    with pytest.raises(ConfigError, match="--batch-size=30 .* 8 devices into equal parts. Give 24 or 32 examples"):
        devices_of(Config().changed(batch_size=30, devices=8))
    with pytest.raises(ConfigError, match="--batch-size=6 .* 8 devices into equal parts. Give 8 examples"):
        devices_of(Config().changed(batch_size=6, devices=8))


def test_devices_by_default_are_one_on_cpu(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda process=None: 8 * jax.devices())
    assert devices_of(Config()).mesh.size == 1


def test_one_process_agrees_with_itself():
    agreement = Agreement(devices_of(Config()))
    assert [agreement(number) for number in (0, 15, 0)] == [0, 15, 0]


def test_one_device_trains_a_net_with_dropout_as_without_any_division():
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(Synapse(nnx.Linear(3, 8, rngs=rngs)), LIF(), Dropout(0.5, rngs=rngs))
    net = nnx.Sequential(net, Synapse(nnx.Linear(8, 2, rngs=rngs)), LeakyReadout())
    task = (lambda output, labels: jnp.mean((output - labels) ** 2), saf_f(), optax.sgd(0.1), 2)
    alone, step = (
        safjax.train_step(*task, outputs="all"),
        ParallelStep(*task, devices_of(Config())),
    )
    x, labels, kept = 3 * jnp.ones((4, 3)), jnp.ones((4, 2)), (nnx.Param, nnx.RngState)
    one, _, (value, expected) = alone(net, alone.init(net), x, labels)
    other, _, (same, aux) = step(*step.init(net), x, labels)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(
            (to_arrays(nnx.as_pure(nnx.state(n, kept))), v, a)
            for n, v, a in ((other, same, aux), (one, value, expected))
        ),
    )


def start(folder, *flags, devices=1, err):
    """`python -m experiments.digits` in a process of its own that sees so many CPUs."""
    settings = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    command = [sys.executable, "-m", "experiments.digits", *TINY, f"--workdir={folder}", *flags]
    with err.open("w") as file:
        return subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=file, text=True
        )


def start_two(folder, *flags, other=()):
    """Two processes that meet at a free port of this machine; `other` are flags of the second alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = (f"--coordinator=127.0.0.1:{port}", "--processes=2")
    return [
        start(folder, *launch, f"--process={process}", *flags, *own, err=errors(folder, process))
        for process, own in enumerate(((), other))
    ]


def errors(folder, process):
    return folder.parent / f"{process}.err"


def epoch_line(process):
    """The next line of an epoch that a process prints."""
    return next(line for line in process.stdout if line.startswith("epoch"))


def codes(processes):
    return [process.wait(PATIENCE) for process in processes]


def measured(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        [r["train_loss"], r["test_loss"], r["train_accuracy"], r["test_accuracy"], *r["rates"].values()]
        for r in records
    ]


def assert_same(folder, reference):
    assert len(measured(folder)) == 8
    np.testing.assert_allclose(measured(folder), measured(reference), rtol=1e-10)
    with jax.enable_x64(True):
        ours, theirs = (nnx.state(trained.load_parameters(path), nnx.Param) for path in (folder, reference))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """A run in one process with two devices."""
    folder = tmp_path_factory.mktemp("two") / "run"
    process = start(folder, EXACT, "--devices=2", devices=2, err=errors(folder, 0))
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors(folder, 0).read_text()
    assert len(out.splitlines()) == 9
    return folder


@pytest.mark.slow
def test_one_device_trains_as_two(two_devices, tmp_path):
    folder = tmp_path / "run"
    assert start(folder, EXACT, err=errors(folder, 0)).wait(PATIENCE) == 0
    assert_same(folder, two_devices)


@pytest.mark.slow
def test_processes_train_as_one_through_death_and_signals(two_devices, tmp_path):
    """Process 1 is killed, then both are stopped by a SIGTERM to it, then one process with one device ends the run."""
    folder = tmp_path / "run"
    first, second = start_two(folder, EXACT)
    epoch_line(first)
    second.kill()
    assert first.wait(PATIENCE) not in (0, -signal.SIGKILL)
    said = errors(folder, 0).read_text()
    assert "Connection" in said or "another task died" in said

    first, second = start_two(folder, EXACT, "--resume")
    epoch_line(first)
    second.send_signal(signal.SIGTERM)
    assert codes((first, second)) == [143, 143], errors(folder, 0).read_text() + errors(folder, 1).read_text()
    assert "resumed in epoch" in errors(folder, 0).read_text()
    assert "epoch" not in second.stdout.read() and "resumed" not in errors(folder, 1).read_text()
    assert len(measured(folder)) < 8

    last = start(folder, EXACT, "--resume", err=errors(folder, 0))
    assert last.wait(PATIENCE) == 0, errors(folder, 0).read_text()
    assert "resumed in epoch" in errors(folder, 0).read_text()
    assert_same(folder, two_devices)


@pytest.mark.slow
def test_two_processes_train_as_one_with_two_devices(two_devices, tmp_path):
    folder = tmp_path / "run"
    processes = start_two(folder, EXACT)
    assert codes(processes) == [0, 0], errors(folder, 0).read_text() + errors(folder, 1).read_text()
    assert_same(folder, two_devices)


@pytest.mark.slow
def test_processes_with_different_flags_are_told(tmp_path):
    folder = tmp_path / "run"
    assert codes(start_two(folder, other=("--seed=1",))) == [2, 2]
    for process in (0, 1):
        assert "process 1 was started with other flags than process 0" in errors(folder, process).read_text()
    assert not folder.exists()
