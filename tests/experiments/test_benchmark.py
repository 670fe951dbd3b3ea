"""The benchmark measures every row in a process of its own, and a row that fails does not stop the others."""

import json
import math
import re

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import ours, peers, report
from experiments.benchmark.operations import operations
from experiments.benchmark.options import Options, peer_rows
from experiments.benchmark.ours import METHODS
from experiments.benchmark.runner import Row, measure
from experiments.benchmark.work import Work
from experiments.benchmark.worker import Job, peak_bytes, prepare
from safjax.rules import bptt

DENSE = Work("dense", steps=3, batch_size=2, width=0.03)
SMALL = {
    "vgg": Work("vgg", steps=2, batch_size=2, width=0.03, image_size=16),
    "dense": DENSE,
    "conv": Work("conv", steps=2, batch_size=2, width=0.1, image_size=8),
}
FIRST = Row("bptt", [0.1, 9.0, 0.2], [2.0, 1.5, 1.25], 1.0, 2_000_000, 300_000_000, 10**9, "cpu")
SECOND = Row("spyx:bptt", [0.125, 0.0625, 1.5], [2.0, 1.5, 1.25], 1.24, 60_000, 250_000_000, None, "cpu")
FAILED = Row("sinabs:bptt", error="ValueError: a | b")


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_two_rows_in_processes_of_their_own(capsys, tmp_path):
    flags = ["--network=dense", "--width=0.03", "--steps=3", "--batch-size=2", "--repeats=2", "--threads=1"]
    assert benchmark.main([*flags, "--methods", "bptt", "--unrolled", f"--output={tmp_path}"]) == 0
    out = capsys.readouterr().out
    title, machine, _, header, _, *rows = out.splitlines()
    assert re.match(
        r"dense 700-8-8-20, 3% spikes, batch 2, T = 3, float32, cpu, 1 of \d+ cores, load .*, jax \d", title
    )
    assert all(float(speed) > 1 for speed in re.findall(r"(\d+) GFLOP/s before, (\d+) after", machine)[0])
    assert cells(header)[:3] == ["row", "step, median (min – max)", "÷ bptt"]
    assert [cells(row)[0] for row in rows] == ["bptt", "bptt, unrolled"]
    assert all(float(cell) > 0 for row in rows for cell in cells(row)[2:6])
    assert (tmp_path / "table.md").read_text() == out and (tmp_path / "chart.png").stat().st_size > 10_000
    loop, unrolled = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert len(loop["seconds"]) == 2 and loop["losses"] == pytest.approx(unrolled["losses"], rel=1e-4)
    assert loop["temp_bytes"] != unrolled["temp_bytes"] and loop["operations"] == unrolled["operations"] > 0


def test_the_others_go_on(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda library: False)
    jobs = [Job(method, DENSE, threads=1) for method in ("nonsense", "snntorch:bptt", "bptt")]
    failed, absent, good = measure(jobs, repeats=1)
    assert failed.error == "KeyError: 'nonsense'" and failed.seconds == []
    assert absent.error == "snntorch and torch not installed: pip install -e '.[experiments,peers]'"
    assert good.error is None and len(good.seconds) == 1 and good.peak_bytes > 50e6
    forward = 700 * 8 + 8 * 8 + 8 * 20
    assert good.operations == 2 * DENSE.steps * DENSE.batch_size * (2 * forward + 8 * 8 + 8 * 20)


def test_a_process_that_dies_leaves_its_last_words(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    [row] = measure([Job("bptt", DENSE, threads=1)], repeats=1)
    assert re.match(r"ended with exit code -?\d+: .*no_such_flag", row.error)


def test_table_compares_with_the_first_row():
    header, _, first, second = report.table([FIRST, SECOND]).splitlines()
    assert header == "| row | step, median (min – max) | ÷ bptt | temp MB | peak MB | compile s | GFLOP/s |"
    assert first == "| bptt | 200.0 ms (100.0 ms – 9.00 s) | 1.00 | 2.0 | 300.0 | 1.0 | 5.0 |"
    assert second == "| spyx:bptt | 125.0 ms (62.5 ms – 1.50 s) | 0.62 | 0.1 | 250.0 | 1.2 | – |"


def test_table_of_a_failed_row():
    header, rule, failed, second = report.table([FAILED, SECOND]).splitlines()
    assert failed == r"| sinabs:bptt | failed: ValueError: a \| b |  |  |  |  |  |"
    assert "÷ spyx:bptt" in header and "| 1.00 |" in second
    assert rule.count("|") == header.count("|") == second.count("|") == failed.count("|") - 1
    assert "failed" in report.table([FAILED]).splitlines()[-1]


def test_lines_hold_every_step():
    first, failed = map(json.loads, report.lines([FIRST, FAILED]).splitlines())
    assert first["seconds"] == [0.1, 9.0, 0.2] and first["median"] == 0.2 and first["gflops"] == 5.0
    assert failed["error"] == "ValueError: a | b" and "median" not in failed


def test_operations_of_a_loop():
    factor, image, kernel = jnp.ones((4, 4)), jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 5))

    def loop(x):
        return jax.lax.scan(lambda y, _: (jnp.tanh(x @ y), None), x, length=7)[0]

    def convolve(x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert operations(loop, factor) == 2 * 7 * 4**3
    assert operations(lambda x: jax.lax.cond(x.sum() > 0, loop, lambda x: x, x), factor) == 2 * 7 * 4**3
    assert operations(lambda x: (x @ x, x + 1)[1], factor) == 0
    assert operations(jax.jit(convolve), image) == 2 * (2 * 6 * 6 * 5) * (3 * 3 * 3)


def test_defaults_are_those_of_the_network():
    vgg, dense, conv = (Options(network=network).work for network in ("vgg", "dense", "conv"))
    assert (vgg.batch()[0].shape, vgg.steps, vgg.static) == ((16, 32, 32, 3), 6, True)
    assert (conv.batch()[0].shape, conv.steps, conv.static) == ((16, 32, 32, 3), 6, True)
    spikes, labels = dense.batch()
    assert (spikes.shape, labels.shape, dense.static) == ((100, 64, 700), (64,), False)
    assert set(spikes.ravel().tolist()) == {0.0, 1.0} and abs(float(spikes.mean()) - 0.03) < 0.001
    assert Options().methods[0] == "saf_f" and not any(":" in method for method in Options().methods)


def test_conv_learns():
    step = ours.prepare(SMALL["conv"], "saf_f").step
    assert step() > step()


def test_vgg_is_the_published_one():
    assert sum(leaf.size for leaf in jax.tree.leaves(ours.net_of(Options().work))) == 9_228_362


def test_variants_of_bptt():
    assert METHODS["bptt_layerwise"]() == bptt(layerwise=True) != bptt()
    assert METHODS["bptt_remat"]() == bptt(remat=True) != bptt()


def test_job_comes_back_from_its_command_line():
    job = Job("spyx:bptt", DENSE, threads=3)
    assert Job.from_json(job.to_json()) == job and job.library == "spyx" and Job("bptt", DENSE, 1).library is None


def test_peak_memory_is_at_least_what_is_held():
    before, held = peak_bytes(), b"x" * 300_000_000
    assert peak_bytes() >= max(before, len(held))


@pytest.mark.parametrize(("network", "name"), [(network, name) for network in SMALL for name in peer_rows(network)])
def test_peer_trains(network, name):
    library = name.partition(":")[0]
    if need := peers.missing(library):
        pytest.skip(need)
    job = Job(name, SMALL[network], threads=1)
    prepared = prepare(job)
    losses = [prepared.step() for _ in range(6)]
    assert abs(losses[0] - math.log(job.work.classes)) < 0.7 and losses[-1] < losses[0]
    assert (prepared.program().temp_bytes is not None) == (library == "spyx")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "ottt"], "unknown ottt; known are saf_f.*bptt_remat, spikingjelly:ottt_a"),
        (["--methods", "spyx:bptt"], "unknown spyx:bptt; known are"),
        (["--methods"], "none given"),
        (["--steps=0"], "--steps=0 is not possible"),
        (["--batch-size=0"], "--batch-size=0 is not possible"),
        (["--repeats=0"], "--repeats=0 is not possible"),
        (["--threads=0"], "--threads=0 is not possible"),
        (["--width=0", "--network=dense"], "--width=0.0 is not possible"),
        (["--image-size=7"], "--image-size=7 is not possible"),
        (["--image-size=32", "--network=dense"], "expected 8 or more, and --network=vgg"),
    ],
)
def test_bad_flags_are_named(flags, message):
    with pytest.raises(SystemExit, match=message):
        benchmark.main(flags)
