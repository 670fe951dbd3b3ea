"""What a week of training rests on: one compilation, flat memory, the same numbers from the same seed."""

import logging

import jax
import numpy as np
import pytest

from experiments import digits
from experiments.config import parse
from experiments.storage import checkpoints
from experiments.training import trainer
from experiments.training.metrics import Tally
from experiments.training.progress import ProgressReport
from tests.experiments.conftest import TINY, run_digits
from tests.experiments.making import devices_of, trainer_of
from tests.experiments.test_resume import assert_same_run

STEPS = 2000


def tiny(*flags):
    config = parse(digits.CONFIG, "", [*TINY, *flags])
    return trainer_of(config, trainer.make_feed(config, devices_of(config)))


@pytest.fixture
def compilations(caplog):
    """What has been compiled, as JAX says it."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        yield lambda: [record.getMessage() for record in caplog.records if "ompiling" in record.getMessage()]


@pytest.mark.parametrize("method", ["saf_f", pytest.param("saf_e", marks=pytest.mark.slow)])
def test_nothing_is_compiled_after_the_first_step(method, compilations):
    training = tiny(f"--method={method}", "--batch-size=128")
    batches = training.train_epoch(1, Tally())
    next(batches)
    assert any("update" in message for message in compilations())
    before = len(compilations())
    list(batches)
    assert compilations()[before:] == []


def test_nothing_is_compiled_in_later_epochs(compilations):
    training = tiny("--method=saf_f")
    for epoch in (1, 2, 3):
        before = len(compilations())
        list(training.train_epoch(epoch, Tally()))
        list(training.evaluate())
    assert compilations()[before:] == []


def resident():
    """Memory of this process, MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


@pytest.mark.slow
def test_memory_is_flat(run, monkeypatch):
    """Over 2,000 steps, with a checkpoint at every epoch's end and ten within it; warm after a quarter of them."""
    measured, show = [], ProgressReport.show

    def watched(self, *place):
        show(self, *place)
        measured.append(resident())

    monkeypatch.setattr(ProgressReport, "show", watched)
    epochs = -(-STEPS // 89)
    assert run("--method=saf_f", "--batch-size=16", f"--epochs={epochs}", "--save-every=8").code == 0
    assert len(measured) >= STEPS
    assert max(measured) - max(measured[: STEPS // 4]) < 16, measured[::100]


@pytest.mark.slow
def test_same_seed_same_bits_other_seed_others(finished, run, tmp_path):
    first, other = finished("--method=saf_f"), run("--method=saf_f", "--seed=1")
    assert_same_run(run_digits(tmp_path / "again", "--method=saf_f"), first)
    one, two = (checkpoints.latest(ended.workdir / "checkpoints").net for ended in (first, other))
    assert not any(np.array_equal(one[name], two[name]) for name in one if name.endswith("kernel"))
