"""Every subcommand of the benchmark: its rows, its tables, its charts, and what it concludes."""

import json
import re

import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import peers, pipeline, report, worker
from experiments.benchmark.rows import BATCHES, Job, Row
from experiments.benchmark.targets import ONLINE, PAPER, PEERS, SHARES, Place, Target, flat, target_table
from experiments.benchmark.work import Work

DENSE = Work("dense", steps=3, batch_size=2, width=0.03)
FIRST = Row(Job("bptt", DENSE, 1), [0.1, 9.0, 0.2], [2.0, 1.5, 1.25], 2.0, 1.0, 2_000_000, 300_000_000, 10**9, "cpu")
SECOND = Row(Job("spyx:bptt", DENSE, 1), [0.125, 0.0625, 1.5], [2.0, 1.5, 1.25], 1.24, 1.24, 60_000, 250_000_000)
FAILED = Row(Job("sinabs:bptt", DENSE, 1), error="ValueError: a | b")
SIZES = ["--batch-size=2", "--repeats=1", "--threads=1"]
TINY = ["--network=dense", "--width=0.03", *SIZES]


def row(method, seconds, network="vgg", steps=6, **measured):
    return Row(Job(method, Work.usual(network, steps), 1), [seconds], [1.0], 1.0, products=(90.0, 110.0), **measured)


def invented(jobs, limits):
    """What no row took: each is slower than the one before."""
    return [
        Row(job, [1.0 + place] * limits.repeats, [1.0], 1.0, 2.0, 10**6 * (1 + place), 10**8, 10**11, "cpu")
        for place, job in enumerate(jobs)
    ]


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """Call with a command line: what is printed where all rows are `invented`."""
    monkeypatch.setattr(benchmark, "measure", invented)
    monkeypatch.setattr(benchmark, "product_gflops_of", lambda threads: 100.0)

    def tell(*flags):
        assert benchmark.main([*flags, f"--output={tmp_path}"]) == 0
        out = capsys.readouterr().out
        assert (tmp_path / "table.md").read_text() == out
        return out

    return tell


def charts(folder):
    return {path.name for path in folder.glob("*.png") if path.stat().st_size > 10_000}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_rules(told, tmp_path):
    out = told("rules", "--repeats=1")
    titles = [line for line in out.splitlines() if ", float32, cpu, " in line]
    assert [title.split(",")[3] for title in titles] == [f" T = {steps}" for steps in (2, 6, 12, 24, 48)]
    assert "| temp memory of saf_f, vgg, T = 48 ÷ T = 6 | ≤ 1.02 | 1.00 | yes |" in out
    assert out.count("compile time of") == len(ONLINE)
    assert "| share of product of saf_f, vgg, T = 6 | ≥ 0.70 | 1.00 | yes |" in out
    assert charts(tmp_path) == {"rules.png"}
    assert {each["steps"] for each in rows_of(tmp_path)} == {2, 6, 12, 24, 48}


def test_paper(told, tmp_path):
    out = told("paper")
    assert "| saf_e ÷ ottt_o | 6 | 0.50 | 0.70 | 0.50 | 0.715 | 1.00 |" in out
    assert "| saf_f ÷ ottt_a | 32 | 0.75 | 0.37 | 0.75 | 0.700 | 1.00 |" in out
    assert "| step time of saf_f ÷ ottt_a, vgg, T = 32 | ≤ 0.36 | 0.75 | no |" in out
    assert out.count("÷ ottt") >= len(PAPER) and charts(tmp_path) == {"paper.png"}


def test_peers(told, tmp_path):
    out = told("peers")
    assert out.count("| step time of ") == len(PEERS)
    assert "| step time of saf_f ÷ spikingjelly:ottt_a, vgg, T = 6 | ≤ 0.22 | 0.11 | yes |" in out
    assert (
        "| turns | ÷ spikingjelly:ottt_a | ÷ spikingjelly:ottt_o | ÷ spikingjelly:sltt | ÷ spikingjelly:bptt |" in out
    )
    assert "| turns | ÷ spyx:bptt | ÷ snntorch:bptt |" in out
    assert "step time of bptt or bptt_layerwise or exodus ÷ snntorch:bptt or spyx:bptt or spikingjelly:bptt or" in out
    names = ("vgg", "dense", "conv", "pooled", "gesture", "recurrent", "spikformer")
    assert charts(tmp_path) == {f"{name}.png" for name in names}


def test_input(told, tmp_path):
    out = told("input", "--methods", "ottt_a", "saf_f")
    assert "| images/s of input:memory ÷ ottt_a or saf_f, vgg, T = 6 | ≥ 5.00 | 16.00 | yes |" in out
    assert "| row | turn, median (min – max) | turns | peak MB | images/s |" in out
    assert f"| input:files | 1.00 s (1.00 s – 1.00 s) | 7 | 100.0 | {BATCHES * 16:.1f} |" in out
    assert charts(tmp_path) == {"memory.png", "files.png"}


def test_stream(told, tmp_path):
    out = told("stream", "--steps=50")
    assert "| step time of stream:saf_e ÷ saf_e, dense, T = 50 | ≤ 1.30 | 2.00 | no |" in out
    assert charts(tmp_path) == {"stream.png"}


def test_inference(told, tmp_path):
    out = told("inference", "--batch-sizes", "8", "1")
    titles = [line for line in out.splitlines() if ", float32, cpu, " in line]
    assert [title.split(",")[2] for title in titles] == [" batch 1", " batch 8"]
    assert out.count("| step time of inference:predict ÷ spikingjelly:predict, vgg, T = 6 | ≤ 1.00 | 0.33 | yes |") == 2
    assert out.count("| step time of inference:stream ÷ inference:predict, vgg, T = 6 | ≤ 1.30 | 2.00 | no |") == 2
    assert [line for line in out.splitlines() if line.startswith("Batch")] == ["Batch 1:", "Batch 8:"]
    assert charts(tmp_path) == {"inference_1.png", "inference_8.png"}


@pytest.mark.parametrize("network", ["dense", "pooled"])
def test_a_stream_infers_as_one_call_does(network):
    work = DENSE if network == "dense" else Work("pooled", steps=4, batch_size=2, width=0.5, image_size=16)
    call, stream = (worker.prepare(Job(f"inference:{name}", work, 1)) for name in ("predict", "stream"))
    assert call.program().temp_bytes > 0 and call.step() != 0
    assert stream.step() == pytest.approx(call.step(), rel=1e-5)


@pytest.mark.parametrize("method", ["ottt_o", "sltt"])
def test_a_stream_trains_as_one_call_does(method):
    """Both rows of its table have the same losses, turn by turn."""
    whole, stream = (worker.prepare(Job(name, DENSE, 1)) for name in (method, f"stream:{method}"))
    assert stream.program().temp_bytes > 0
    losses = [(whole.step(), stream.step()) for _ in range(3)]
    assert losses[0][0] != losses[2][0]
    for one, other in losses:
        assert one == pytest.approx(other, rel=1e-4)


def test_rows_that_failed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "measure", lambda jobs, limits: [Row(job, error="killed") for job in jobs])
    monkeypatch.setattr(benchmark, "product_gflops_of", lambda threads: 100.0)
    for name in ("measure", "rules", "paper", "peers", "input"):
        assert benchmark.main([name, f"--output={tmp_path / name}"]) == 1
        assert "failed: killed" in capsys.readouterr().out
    assert {each["error"] for each in rows_of(tmp_path / "paper")} == {"killed"}


def test_targets():
    slow, fast = row("bptt", 0.9), row("bptt_layerwise", 0.8)
    target = Target("step time", Place("vgg", 6, ("bptt", "bptt_layerwise")), 0.85, Place("vgg", 6, ("sltt",)))
    title = "step time of bptt or bptt_layerwise ÷ sltt, vgg, T = 6"

    def last(*rows):
        return target_table([target], rows).splitlines()[-1]

    assert last(slow, fast, row("sltt", 1.0)) == f"| {title} | ≤ 0.85 | 0.80 (bptt_layerwise) | yes |"
    assert last(slow, row("sltt", 1.0)) == f"| {title} | ≤ 0.85 | 0.90 (bptt) | no |"
    assert last(slow, Row(row("sltt", 1.0).job, error="killed")) == f"| {title} | ≤ 0.85 | – | not measured |"
    assert target_table([target], [slow, row("sltt", 1.0, steps=7), row("sltt", 1.0, network="conv")]) == ""
    shares = target_table(SHARES, [row("saf_f", 1.0, operations=69 * 10**9), row("bptt", 1.0, operations=61 * 10**9)])
    assert shares.splitlines()[2:] == [
        "| share of product of saf_f, vgg, T = 6 | ≥ 0.70 | 0.69 | no |",
        "| share of product of bptt, vgg, T = 6 | ≥ 0.60 | 0.61 | yes |",
    ]


def test_online_rules_stay_flat():
    rows = [row("sltt", 1.0, temp_bytes=100, compile_seconds=1.0), row("sltt", 9.0, "vgg", 48, temp_bytes=103)]
    memory, compiling = target_table(flat("sltt", "vgg", 6, 48), rows).splitlines()[2:]
    assert memory == "| temp memory of sltt, vgg, T = 48 ÷ T = 6 | ≤ 1.02 | 1.03 | no |"
    assert compiling.endswith("| – | not measured |")


def test_table_compares_with_the_references():
    header, _, first, second = report.table([FIRST, SECOND], ["bptt"]).splitlines()
    assert header.startswith("| row | step, median (min – max) | turns | ÷ bptt | temp MB | peak MB | compile s | GMAC")
    assert first == "| bptt | 200.0 ms (100.0 ms – 9.00 s) | 3 | 1.00 | 2.0 | 300.0 | 1.0 | 0.5 | 5.0 | – |"
    assert second == "| spyx:bptt | 125.0 ms (62.5 ms – 1.50 s) | 3 | 0.62 | 0.06 | 250.0 | 1.2 | – | – | – |"


def test_table_of_a_failed_row():
    header, rule, failed, _ = report.table([FAILED, SECOND], ["spyx:bptt"]).splitlines()
    assert failed.startswith(r"| sinabs:bptt | failed: ValueError: a \| b |  |")
    assert rule.count("|") == header.count("|") == failed.count("|") - 1


def test_lines_hold_every_step():
    first, failed = FIRST.to_json(), FAILED.to_json()
    assert first["seconds"] == [0.1, 9.0, 0.2] and first["median"] == 0.2 and first["gflops"] == 5.0
    assert (first["row"], first["network"], first["steps"]) == ("bptt", "dense", 3)
    assert failed["error"] == "ValueError: a | b" and "median" not in failed


def test_a_folder_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert benchmark.main(["measure", f"--output={tmp_path / 'file'}"]) == 2
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "measure --methods ottt",
            "--methods=ottt is not possible: expected some of saf_f,.*spikingjelly:bptt, each once",
        ),
        ("measure --methods spyx:bptt", "--methods=spyx:bptt is not possible"),
        ("measure --methods", "--methods= is not possible"),
        ("measure --methods saf_f saf_f", "--methods=saf_f saf_f is not possible"),
        ("measure --steps=0", "--steps=0 is not possible: expected a whole number, 1 or more"),
        ("measure --batch-size=0", "--batch-size=0 is not possible"),
        ("measure --repeats=0", "--repeats=0 is not possible"),
        ("measure --threads=0", "--threads=0 is not possible"),
        ("measure --seconds=nan", "--seconds=nan is not possible"),
        ("measure --timeout=inf", "--timeout=inf is not possible"),
        ("measure --width=0 --network=dense", "--width=0.0 is not possible"),
        ("measure --image-size=7", "--image-size=7 is not possible"),
        ("measure --image-size=32 --network=dense", "expected 8 or more, and a network that is shown images"),
        ("measure --image-size=12 --network=pooled", "--image-size=12 is not possible: expected 16 or more"),
        ("measure --image-size=32 --network=recurrent", "--image-size=32 is not possible"),
        ("rules --steps 6 6", "--steps=6 6 is not possible"),
        ("rules --methods spikingjelly:bptt", "--methods=spikingjelly:bptt is not possible"),
        ("paper --steps", "--steps= is not possible"),
        ("peers --networks", "--networks= is not possible"),
        ("inference --batch-sizes 1 1", "--batch-sizes=1 1 is not possible: expected whole numbers, 1 or more"),
        ("inference --batch-sizes 0", "--batch-sizes=0 is not possible"),
        ("inference --steps=0", "--steps=0 is not possible"),
        ("inference --image-size=7", "--image-size=7 is not possible"),
        ("input --kinds files files", "--kinds=files files is not possible"),
        ("input --image-size=2", "--image-size=2 is not possible"),
    ],
)
def test_bad_flags_are_named(flags, message, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit) as ended:
        benchmark.main(flags.split())
    assert ended.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize("method", ["memory", "files"])
def test_pipeline_gives_whole_batches(method, monkeypatch):
    monkeypatch.setattr(pipeline, "CIFAR", 64)
    step = pipeline.prepare(Work("resnet", 2, batch_size=4, image_size=16), method).step
    means = [step(), step()]
    # Normalised pixels, other ones in each epoch.
    assert all(abs(mean) < 0.7 for mean in means) and means[0] != means[1]
    assert Job(f"input:{method}", DENSE, 1).examples == BATCHES * 2


def test_photos_are_as_large_as_those_of_imagenet():
    assert 100_000 < len(pipeline.photo(0)) < 130_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        (["rules", *TINY, "--steps", "2", "6", "--methods", "saf_f", "bptt"], 4),
        (["paper", *TINY, "--steps", "2"], 4),
        (["input", *SIZES, "--width=0.03", "--image-size=16"], 4),
        (["peers", "--networks", "conv", "--width=0.03", "--repeats=1", "--threads=1"], 9),
    ],
)
def test_measured(flags, rows, tmp_path):
    benchmark.main([*flags, f"--output={tmp_path}"])
    measured = rows_of(tmp_path)
    assert len(measured) == rows and charts(tmp_path)
    for each in measured:
        library = each["method"].partition(":")[0]
        assert each["error"] == (peers.missing(library) if library in peers.PEERS else None)
