"""The benchmark measures every row in a process of its own, and a row that fails does not stop the others."""

import functools
import importlib
import json
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import safjax
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import ours, peers, runner
from experiments.benchmark.options import peer_rows
from experiments.benchmark.ours import METHODS
from experiments.benchmark.rows import Job
from experiments.benchmark.runner import Limits, Worker, measure
from experiments.benchmark.tables.peers import OURS
from experiments.benchmark.work import Work
from experiments.benchmark.worker import peak_bytes, prepare
from experiments.energy.operations import operations
from experiments.training.losses import mean_loss
from safjax.nn import BatchNorm
from safjax.rules import bptt
from tests.nets import assert_fires

FORMS = {network: OURS[network] for network in ("pooled", "gesture", "recurrent", "spikformer")}
DENSE = Work("dense", steps=3, batch_size=2, width=0.03)
SMALL = {
    "vgg": Work("vgg", steps=2, batch_size=2, width=0.03, image_size=16),
    "dense": DENSE,
    "conv": Work("conv", steps=2, batch_size=2, width=0.1, image_size=8),
    "pooled": Work("pooled", steps=4, batch_size=2, width=0.5, image_size=16),
    "gesture": Work("gesture", steps=3, batch_size=4, width=0.2, image_size=16),
    "recurrent": Work("recurrent", steps=3, batch_size=2, width=0.1),
    "spikformer": Work("spikformer", steps=2, batch_size=2, width=0.1, image_size=2),
}
PARAMETERS = {
    "dense": 700 * 256 + 256 + 256 * 256 + 256 + 256 * 20 + 20,
    "conv": 9 * (3 * 64 + 64 * 128 + 128 * 256) + 64 + 128 + 256 + 256 * 10 + 10,
    "pooled": 25 * 12 + 12 + 25 * 12 * 64 + 64 + 1024 * 10 + 10,
    "gesture": 9 * (2 + 32 + 32) * 32 + 3 * 2 * 32 + 4 * 4 * 32 * 11 + 11,
    "recurrent": 700 * 128 + 128 * 128 + 128 * 20,
    "spikformer": 4 * (128 * 128 + 3 * 128) + 2 * 128 * 512 + 3 * 512 + 3 * 128 + 128 * 10 + 10,
}
TOO_LARGE = Work("dense", steps=3, batch_size=10**12, width=0.03)


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.fixture
def processes(monkeypatch):
    """All that are started: rows, and matrix products."""
    started, start = [], subprocess.Popen

    def popen(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(runner.subprocess, "Popen", popen)
    return started


@pytest.mark.slow
def test_two_rows_in_processes_of_their_own(capsys, tmp_path, processes):
    flags = ["--network=dense", "--width=0.03", "--steps=3", "--batch-size=2", "--repeats=2", "--threads=1"]
    assert benchmark.main(["measure", *flags, "--methods", "bptt", "--unrolled", f"--output={tmp_path}"]) == 0
    out = capsys.readouterr().out
    title, machine, _, header, _, *rows = out.splitlines()
    assert re.match(
        r"dense 700-8-8-20, 3% spikes, batch 2, T = 3, float32, cpu, 1 of \d+ cores, load .*, jax \d", title
    )
    products = [float(speed) for speed in re.findall(r"(\d+) GFLOP/s before, (\d+) after", machine)[0]]
    assert min(products) > 1
    assert cells(header)[:4] == ["row", "step, median (min – max)", "turns", "÷ bptt"]
    assert [cells(row)[0] for row in rows] == ["bptt", "bptt, unrolled"]
    assert all(float(cell) > 0 for row in rows for cell in cells(row)[2:9])
    assert (tmp_path / "table.md").read_text() == out and (tmp_path / "dense.png").stat().st_size > 10_000
    loop, unrolled = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert len(loop["seconds"]) == 2 and loop["losses"] == pytest.approx(unrolled["losses"], rel=1e-4)
    assert loop["temp_bytes"] != unrolled["temp_bytes"] and loop["operations"] == unrolled["operations"] > 0
    assert loop["share"] == pytest.approx(loop["gflops"] * 2 / sum(loop["products"])) and loop["threads"] == 1
    assert len(processes) == 4 and all(process.poll() is not None for process in processes)


@pytest.mark.slow
def test_the_others_go_on(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda library: False)
    jobs = [Job(method, DENSE, threads=1) for method in ("nonsense", "snntorch:bptt", "bptt")]
    failed, large, absent, good = measure([jobs[0], Job("bptt", TOO_LARGE, threads=1), *jobs[1:]], Limits(repeats=1))
    assert failed.error == "KeyError: 'nonsense'" and failed.seconds == []
    assert "MemoryError" in large.error
    assert absent.error == "snntorch and torch not installed: pip install -e '.[experiments,peers]'"
    assert good.error is None and len(good.seconds) == 1 and good.peak_bytes > 50e6
    assert 0 < good.first_seconds < good.compile_seconds
    forward = 700 * 8 + 8 * 8 + 8 * 20
    assert good.operations == 2 * DENSE.steps * DENSE.batch_size * (2 * forward + 8 * 8 + 8 * 20)


def test_a_process_that_dies_leaves_its_last_words(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    [row] = measure([Job("bptt", DENSE, threads=1)], Limits(repeats=1))
    assert re.match(r"ended with exit code -?\d+: .*no_such_flag", row.error)


def test_a_process_that_the_system_kills_ran_out_of_memory(processes):
    worker = Worker(Job("bptt", DENSE, threads=1), timeout=600)
    processes[0].kill()
    worker.turn()
    assert worker.row.error == "killed, as the system does when memory runs out"
    worker.end()


def test_a_silent_process_is_ended(processes):
    [row] = measure([Job("bptt", DENSE, threads=1)], Limits(repeats=3, timeout=0.01))
    assert row.error == "no answer within 0.01 s (--timeout)" and row.seconds == []
    assert processes[0].poll() is not None


def test_ctrl_c_leaves_no_process(monkeypatch, processes, capsys, tmp_path):
    def interrupted(worker):
        assert processes[-1].poll() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "start", interrupted)
    monkeypatch.setattr(benchmark, "product_gflops_of", lambda threads: 100.0)
    assert benchmark.main(["measure", "--network=dense", f"--output={tmp_path}"]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert len(processes) == 1 and processes[0].poll() is not None


@pytest.mark.parametrize(("seconds", "turns"), [(1e-9, 2), (2.5, 3), (100.0, 7)])
def test_slow_rows_have_fewer_turns(monkeypatch, seconds, turns):
    class Steady:
        def __init__(self, job, timeout):
            self.row = runner.Row(job, first_seconds=1.0)

        def start(self):
            pass

        def turn(self):
            self.row.seconds.append(1.0)

        def end(self):
            pass

    monkeypatch.setattr(runner, "Worker", Steady)
    [row] = measure([Job("bptt", DENSE, threads=1)], Limits(repeats=7, seconds=seconds))
    assert len(row.seconds) == turns


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


@pytest.mark.parametrize(
    ("method", "image_passes", "inner_passes", "last_passes"),
    # Under SAF-F nothing that comes later depends on what goes to the readout before the last step.
    [("saf_f", 2, 4 + 2, 3), ("ottt_a", 2, 3 * 4, 3 * 4), ("bptt", 2, 3 * 4, 3 * 4), ("saf_e", 2 * 4, 3 * 4, 3 * 4)],
)
def test_operations_of_a_training_step_are_those_counted_by_hand(method, image_passes, inner_passes, last_passes):
    work = Work("conv", steps=4, batch_size=2, width=0.1, image_size=8)
    image, one, two, three = work.sizes
    first, second, third, dense = 8 * 8 * 9 * image * one, 8 * 8 * 9 * one * two, 4 * 4 * 9 * two * three, three * 10
    # A static image is convolved once, and only the weight's gradient is needed there, unless the weight changes.
    passes = image_passes * first + inner_passes * (second + third) + last_passes * dense
    assert ours.operations_of(work, method) == 2 * work.batch_size * passes


def test_defaults_are_those_of_the_network():
    vgg, dense, conv = map(Work.usual, ("vgg", "dense", "conv"))
    assert (vgg.batch()[0].shape, vgg.steps, vgg.static) == ((16, 32, 32, 3), 6, True)
    assert (conv.batch()[0].shape, conv.steps, conv.static) == ((16, 32, 32, 3), 6, True)
    spikes, labels = dense.batch()
    assert (spikes.shape, labels.shape, dense.static) == ((100, 64, 700), (64,), False)
    assert set(spikes.ravel().tolist()) == {0.0, 1.0} and abs(float(spikes.mean()) - 0.03) < 0.001
    assert Work.usual("resnet").image_size == 224


def test_small_networks_have_the_sizes_of_users():
    shapes = {name: Work.usual(name).batch()[0].shape for name in ("pooled", "gesture", "recurrent", "spikformer")}
    assert shapes["pooled"] == (25, 32, 28, 28, 1) and shapes["gesture"] == (16, 8, 32, 32, 2)
    assert shapes["recurrent"] == (100, 64, 700) and shapes["spikformer"] == (4, 16, 8, 8, 128)
    assert [round(float(Work.usual(name).batch()[0].mean()), 2) for name in shapes] == [0.2, 0.1, 0.03, 0.2]
    assert [Work.usual(name).decay for name in shapes] == [0.9, 0.5, 0.95, 0.5]


@pytest.mark.parametrize("network", PARAMETERS)
def test_as_many_parameters_as_counted_by_hand(network):
    """In the row of every library that is installed."""
    net = nnx.eval_shape(lambda: ours.net_of(Work.usual(network)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param))) == PARAMETERS[network]
    for name in peer_rows(network):
        library, _, method = name.partition(":")
        if library in ("snntorch", "spikingjelly") and peers.missing(library) is None:
            module = importlib.import_module(f"experiments.benchmark.peers.{library}")
            theirs = module.net_of(Work.usual(network), method)
            assert sum(weights.numel() for weights in theirs.parameters()) == PARAMETERS[network], name


@pytest.mark.parametrize(("network", "method"), [(network, name) for network in FORMS for name in FORMS[network]])
def test_every_form_trains_every_small_network(network, method):
    """And takes batch normalisation over all steps where it goes layer by layer, else over each."""
    work = SMALL[network]
    step, net = ours.step_of(work, method), ours.net_of(work, method)
    norms = {part.over for _, part in nnx.iter_graph(net) if isinstance(part, BatchNorm)}
    over = "time" if method in ("bptt_layerwise", "exodus") else "step"
    assert norms == ({over} if network in ("gesture", "spikformer") else set())
    loss, _ = jax.eval_shape(lambda *batch: step(net, step.init(net), *batch)[2], *work.batch())
    assert loss.shape == ()


@pytest.mark.parametrize("network", FORMS)
def test_small_networks_fire(network):
    work = Work.usual(network, steps=6, batch_size=2)
    (_, aux), _ = safjax.value_and_grad(functools.partial(mean_loss, mse_weight=0.0), bptt())(
        ours.net_of(work), *map(jnp.asarray, work.batch())
    )
    assert_fires(aux.rates)


@pytest.mark.parametrize(("network", "method"), [("conv", "saf_f"), ("pooled", "bptt"), ("recurrent", "bptt")])
def test_ours_learn(network, method):
    step = ours.prepare(SMALL[network], method).step
    assert step() > step()


def test_vgg_is_the_published_one():
    assert sum(leaf.size for leaf in jax.tree.leaves(ours.net_of(Work.usual("vgg")))) == 9_228_362


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
    if "torch" in peers.PEERS[library].needs:
        importlib.import_module("torch").manual_seed(0)
    job = Job(name, SMALL[network], threads=1)
    prepared = prepare(job)
    program = prepared.program()
    losses = [prepared.step() for _ in range(6)]
    assert abs(losses[0] - math.log(job.work.classes)) < 0.7 and losses[-1] < losses[0]
    assert (program.temp_bytes is not None) == (library == "spyx")


def test_a_row_imports_no_library_but_its_own():
    """Or else the memory of other libraries' rows would hold JAX."""
    program = "import sys, experiments.benchmark.worker; print({'jax', 'safjax', 'torch'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
