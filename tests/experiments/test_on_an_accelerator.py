"""`make gpu`: proofs, times and memory of an accelerator, tried out where there is none."""

import subprocess
import sys
from unittest import mock

import pytest

import experiments.device.__main__ as program
from experiments.device.runs import Found, Proofs, proofs
from experiments.device.table import report
from safjax.aot import DEVICES, Cost
from safjax.aot.compiling import Memory

H200 = Found("gpu", "NVIDIA H200", 1)
WORK = {"network": "vgg", "steps": 6, "batch_size": 16, "width": 1.0, "image_size": 32}
MEASURED = {"error": None, "median": 0.02, "temp_bytes": 137_000_000, "compile_seconds": 9.6}
ROW = {"row": "saf_f", "method": "saf_f", **WORK, **MEASURED}


def test_without_an_accelerator_it_says_what_it_would_run():
    done = subprocess.run([sys.executable, "-m", "experiments.device"], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert "JAX finds no accelerator here" in done.stderr
    assert "pytest tests -m device and not slow" in done.stderr
    assert "experiments.benchmark rules" in done.stderr and "--steps 6 48" in done.stderr


@pytest.mark.parametrize(
    "kind, name",
    [
        *(("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA A100-SXM4-40GB", "a100")),
        *(("NVIDIA L4", "l4"), ("TPU v5 lite", "v5e"), ("TPU v5", "v5p"), ("TPU v6 lite", "v6e"), ("TPU v4", "v4")),
        *(("NVIDIA L40S", None), ("cpu", None)),
    ],
)
def test_the_compiler_knows_devices_by_what_they_call_themselves(kind, name):
    assert Found("gpu", kind, 1).known == name


def test_what_was_measured_stands_beside_what_was_foretold():
    memory = Memory(arguments=0, outputs=0, shared=0, temporary=150_000_000)
    cost = Cost(DEVICES["h200"], 1, memory, 1000, 0, 0, 0.003, 0, 0, False)
    failed = {**ROW, "row": "bptt", "method": "bptt", "error": "out of | memory"}
    page = report(H200, Proofs(3, ("tests/a.py::test_b",), False), [ROW, failed], {("saf_f", 6): cost}, "the plan")
    assert "# NVIDIA H200" in page and "3 tests passed, 1 failed. There was no time for the others." in page
    assert "- failed: `tests/a.py::test_b`" in page
    assert "| saf_f | 6 | 20.0 ms | 137 | 150 | 10 | 3.0 ms | 2.0 ms | 4.0 |" in page
    assert "| bptt | 6 | failed: out of \\| memory |" in page


def test_a_failing_test_is_told_by_its_name(tmp_path):
    tests = tmp_path / "test_two.py"
    tests.write_text(
        "import pytest\n@pytest.mark.parametrize('x', ['a b', 'c'])\ndef test_x(x):\n    assert x == 'c'\n"
    )
    found = proofs([str(tests), "--rootdir", str(tmp_path)], 60, lambda line: None)
    assert found.passed == 1 and found.ended and [name.rpartition("::")[2] for name in found.failed] == ["test_x[a b]"]
    with pytest.raises(RuntimeError, match="no test was run"):
        proofs([str(tests), "-k", "nothing"], 60, lambda line: None)


def test_a_failure_of_any_part_is_an_exit_code(tmp_path):
    output = f"--output={tmp_path / 'gpu.md'}"
    parts = {"found_device": H200, "foretold": {}}
    for tested, rows, code in [
        (Proofs(2, (), True), [ROW], 0),
        (Proofs(2, ("tests/a.py::test_b",), True), [ROW], 1),
        (Proofs(2, (), False), [ROW], 1),
        (Proofs(2, (), True), [], 1),
        (Proofs(2, (), True), [{**ROW, "error": "no memory"}], 1),
    ]:
        answers = {**parts, "proofs": tested, "benchmark": rows}
        with mock.patch.multiple(program, **{name: mock.Mock(return_value=value) for name, value in answers.items()}):
            assert program.main(["--steps", "6", "--methods", "saf_f", output]) == code


@pytest.mark.slow
def test_a_small_trial_on_a_cpu(tmp_path, capsys):
    flags = ["--on=cpu", "--steps", "2", "--methods", "saf_f", "exodus_segments", f"--output={tmp_path / 'gpu.md'}"]
    assert program.main(flags) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "gpu.md")
    page = (tmp_path / "gpu.md").read_text()
    assert "1 tests passed, 0 failed." in page
    assert "\n| saf_f | 2 | " in page and "\n| exodus_segments | 2 | " in page
    assert "Nothing was foretold: it is not among the devices of safjax.cost" in page
