"""The benchmark runs and prints a row for each form of each rule."""

import re

import pytest

from experiments import benchmark
from experiments.benchmark import METHODS, Options, Row
from safjax.rules import bptt

TINY = ["--width=0.03", "--batch-size=2", "--repeats=1"]


def table(capsys, *flags):
    """What stands above the table, its header and its rows as lists of cells."""
    benchmark.main([*TINY, *flags])
    lines = capsys.readouterr().out.splitlines()
    header, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return lines[0], header, rows


def test_smallest_run(capsys):
    title, header, rows = table(capsys, "--image-size=16", "--steps=2", "--methods", "saf_f", "--unrolled")
    assert title.startswith("VGG × 0.03, 16×16×3, batch 2, T = 2, float32, ") and header[2] == "÷ saf_f"
    assert [row[0] for row in rows] == ["saf_f", "saf_f, unrolled"]
    assert all(float(row[3]) > 0 for row in rows)


def test_spike_trains(capsys):
    title, header, rows = table(capsys, "--network=dense", "--steps=3", "--methods", "bptt", "exodus", "bptt_layerwise")
    assert title.startswith("dense 700-8-8-20, 3% spikes, batch 2, T = 3, float32, ") and header[2] == "÷ bptt"
    assert [row[0] for row in rows] == ["bptt", "exodus", "bptt_layerwise"]
    assert all(re.fullmatch(r"([\d.]+ m?s) \(\1 – \1\)", row[1]) for row in rows)


def test_line_compares_the_medians():
    first = Row("bptt", 1.0, 2.0, print, seconds=[0.1, 9.0, 0.2])
    second = Row("exodus", 1.24, 0.06, print, seconds=[0.125, 0.0625, 1.5])
    assert first.line(first) == "| bptt | 200.0 ms (100.0 ms – 9.00 s) | 1.00 | 2.0 | 1.0 |"
    assert second.line(first) == "| exodus | 125.0 ms (62.5 ms – 1.50 s) | 0.62 | 0.1 | 1.2 |"


def test_defaults_are_those_of_the_network():
    vgg = benchmark.vgg(Options(width=0.03))
    assert (vgg.inputs.shape, vgg.labels.shape, vgg.steps, vgg.static) == ((16, 32, 32, 3), (16,), 6, True)
    dense = benchmark.dense(Options(network="dense", width=0.03))
    assert (dense.inputs.shape, dense.labels.shape, dense.steps, dense.static) == ((100, 64, 700), (64,), 100, False)
    assert set(dense.inputs.ravel().tolist()) == {0.0, 1.0} and abs(float(dense.inputs.mean()) - 0.03) < 0.001


def test_variants_of_bptt():
    assert METHODS["bptt_layerwise"]() == bptt(layerwise=True) != bptt()
    assert METHODS["bptt_remat"]() == bptt(remat=True) != bptt()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "ottt"], "unknown ottt; known are saf_f.*bptt_remat"),
        (["--methods"], "none given"),
        (["--steps=0"], "--steps=0 is not possible"),
        (["--batch-size=0"], "--batch-size=0 is not possible"),
        (["--repeats=0"], "--repeats=0 is not possible"),
        (["--width=0", "--network=dense"], "--width=0.0 is not possible"),
        (["--image-size=7"], "--image-size=7 is not possible"),
        (["--image-size=32", "--network=dense"], "expected 8 or more, and --network=vgg"),
    ],
)
def test_bad_flags_are_named(flags, message):
    with pytest.raises(SystemExit, match=message):
        benchmark.main(flags)
