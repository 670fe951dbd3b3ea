"""`python -m experiments.compare`: its nets are what it says, and a tiny run leaves tables and figures."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import safjax
from experiments import compare
from experiments.report import cosines
from tests import nets

RULES = ("ottt_a", "saf_e", "slayer", "eprop")


@pytest.mark.slow
def test_a_tiny_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare, "SETTINGS", compare.SETTINGS[1:])
    numbers = {"nets": 2, "batch-size": 3, "updates": 3, "every": 2, "turns": 1}
    flags = [f"--{name}={value}" for name, value in numbers.items()]
    assert compare.main([*flags, f"--output={tmp_path / 'out'}", "--method=saf_e", "--rules", *RULES]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "out" / "tables.md").read_text() == said
    assert "2 random nets, λ = 0.9, T = 12; layers fire at" in said and "Digits after 2 updates by saf_e" in said
    (traced, spent) = (
        [line.split(" | ") for line in said.splitlines() if line.startswith(f"| `{rule}`")] for rule in RULES[:2]
    )
    assert len(traced) == 2 and [row[1:] for row in traced] == [row[1:] for row in spent], "Theorem 1"
    assert 0.5 < float(traced[0][1]) < 0.999
    slayer = [line for line in said.splitlines() if line.startswith("| `slayer`")]
    assert all(line.endswith("| 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |") for line in slayer), "BPTT without the reset"
    assert "`eprop` does not train them, at" in said and "| `eprop`" not in said, "a layer that no readout hears"
    assert "compile s" in said
    for name in ("random_nets.png", "training.png"):
        with Image.open(tmp_path / "out" / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[0] > 400 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(("decay", "steps"), compare.SETTINGS)
def test_the_random_nets_fire(decay, steps):
    net, (x, labels) = compare.random_net(decay, 0), compare.random_batch(16, 0)
    rates = {path: spikes.mean() for path, spikes in safjax.simulate(net, x, steps).spikes.items()}
    nets.assert_fires(rates, 0.15, 0.5)
    assert len(rates) == 3 and labels.shape == (16,) and jnp.max(labels) < compare.CLASSES


def test_numbers_that_are_not_possible(capsys):
    with pytest.raises(SystemExit, match="2"):
        compare.main(["--nets=0"])
    assert "--nets" in capsys.readouterr().err


def test_rules_with_the_same_gradients_share_a_curve():
    one, other = np.array([0.5, 0.7]), np.array([0.5, 0.9])
    apart = {"left": {"a": one, "b": one, "c": other}, "right": {"a": one, "b": other, "c": other}}
    assert cosines._shared({"left": apart["left"]}) == {"a, b": "a", "c": "c"}
    assert cosines._shared(apart) == {"a": "a", "b": "b", "c": "c"}
    assert cosines._shared({"undefined": {"a": np.array([np.nan]), "b": np.array([np.nan])}}) == {"a, b": "a"}
