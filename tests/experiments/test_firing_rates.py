"""Layers that are silent or saturated are named, once."""

import json
import math

import pytest

from experiments.training.firing_rates import SATURATED, SILENT, complaints, warn_of_firing_rates


def told(now, before=None):
    return list(complaints(now, before or {}))


def test_a_net_that_fires_is_left_alone():
    assert told({"a": SILENT, "b": SATURATED, "c": 0.1}) == [] == told({})


@pytest.mark.parametrize(("rate", "word", "advice"), [(0.0, "silent", "lower"), (0.995, "saturated", "higher")])
def test_a_layer_is_named_with_what_to_try(rate, word, advice):
    (message,) = told({"layers.1": 0.2, "layers.3": rate})
    assert f"layer layers.3 is {word}" in message and f"Try a {advice} --threshold" in message


def test_a_layer_is_named_once_and_again_after_it_has_recovered():
    quiet, loud, good = {"a": 0.0, "b": 0.2}, {"a": 0.3, "b": 1.0}, {"a": 0.2, "b": 0.2}
    assert told(quiet, quiet) == told(loud, loud) == []
    assert len(told(quiet, good)) == len(told(loud, good)) == 1
    assert len(told(quiet, loud)) == 1


def test_a_dead_net_is_one_message():
    (message,) = told({"a": 0.0, "b": 0.0005})
    assert message.startswith("no layer fires")
    assert told({"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.1}) == [message]
    assert told({"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0}) == []


def test_the_last_two_records_are_compared(capsys):
    records = [{"epoch": 1, "rates": {"a": 0.2, "b": 0.5}}, {"epoch": 2, "rates": {"a": 0.0, "b": 0.5}}]
    warn_of_firing_rates(records)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("warning: epoch 2: layer a is silent") and err.count("\n") == 1
    warn_of_firing_rates([*records, {**records[-1], "epoch": 3}])
    assert capsys.readouterr().err == ""


def test_a_run_warns_on_stderr_and_goes_on(run):
    ended = run("--method=saf_f", "--threshold=1000", "--quiet")
    assert ended.code == 0 and math.isfinite(ended.summary["test_loss"])
    assert ended.err.splitlines() == [
        line for line in ended.err.splitlines() if line.startswith("warning: epoch 1: no ")
    ]
    assert ended.err.count("\n") == 1 and json.loads(ended.out) == ended.summary
