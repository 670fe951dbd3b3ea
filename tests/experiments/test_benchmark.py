"""The benchmark runs and prints a row for each form of each rule."""

import pytest

from experiments import benchmark


def test_smallest_run(capsys):
    flags = ["--width=0.03", "--batch-size=2", "--image-size=16", "--repeats=1", "--steps=2"]
    benchmark.main([*flags, "--methods", "saf_f", "ottt_a", "--unrolled"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[1].strip() for row in rows] == ["saf_f", "saf_f, unrolled", "ottt_a", "ottt_a, unrolled"]
    assert all(float(row[3]) > 0 for row in rows)


def test_unknown_rule_is_named():
    with pytest.raises(SystemExit, match="unknown ottt; known are saf_f"):
        benchmark.main(["--methods", "ottt"])
