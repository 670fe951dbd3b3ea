"""Flags: every field of the configuration, with its range, in both spellings, and back from JSON."""

import json
import re
import typing

import pytest

from experiments import (
    cifar10,
    cifar10_dvs,
    cifar100,
    digits,
    dvs_gesture,
    fashion_mnist,
    imagenet,
    nmnist,
    randman,
    saccades,
    shd,
    speech_direction,
    spoken_digits,
    ssc,
)
from experiments.config import MAY_CHANGE, PART_OF, Config, ConfigError, differences, from_json, parse, to_json
from experiments.config.datasets import DATASETS
from experiments.data.images.augmentations import AUGMENTATIONS
from experiments.data.images.image_files import CROPS
from experiments.training.networks import READOUTS, RESNETS, SURROGATES
from safjax.rules import RULES

EXPERIMENTS = [
    *(cifar10, cifar100, fashion_mnist, digits, imagenet, randman, spoken_digits),
    *(saccades, speech_direction, nmnist, shd, ssc, dvs_gesture, cifar10_dvs),
]
FLAGS = {
    "method": "ottt_a",
    "dataset": "digits",
    "augmentation": "none",
    "image-size": "64",
    "network": "resnet18",
    "width": "0.5",
    "steps": "3",
    "decay": "0.25",
    "threshold": "0.75",
    "surrogate": "triangle",
    "readout": "instant",
    "epochs": "7",
    "batch-size": "32",
    "held-out": "0.1",
    "leave-out": "theo",
    "bins": "count",
    "pool": "2",
    "chain": "2",
    "head": "flatten",
    "optimizer": "adamw",
    "learning-rate": "0.01",
    "momentum": "0.8",
    "weight-decay": "0.001",
    "loss-mse": "0.1",
    "precision": "bfloat16",
    "seed": "3",
    "data-dir": "elsewhere",
    "workdir": "somewhere",
    "compiled": "kept",
    "keep": "5",
    "save-every": "100",
    "accumulate": "2",
    "devices": "8",
    "coordinator": "auto",
}
SWITCHES = {"quiet", "resume"}
PROCESSES = {"processes", "process"}
"""Only together, and with --coordinator."""
BAD = [
    "--method=backprop",
    "--dataset=mnist",
    "--surrogate=box",
    "--optimizer=lion",
    "--readout=max",
    "--network=resnet50",
    "--image-size=0",
    "--image-size=large",
    "--weight-decay=-0.1",
    "--weight-decay=nan",
    "--weight-decay=0.1",
    "--steps=0",
    "--steps=2.5",
    "--steps=many",
    "--epochs=0",
    "--batch-size=0",
    "--batch-size=-1",
    "--held-out=1",
    "--bins=size",
    "--pool=0",
    "--chain=0",
    "--chain=5",
    "--head=max",
    "--held-out=-0.1",
    "--learning-rate=0",
    "--learning-rate=-0.1",
    "--learning-rate=nan",
    "--learning-rate=inf",
    "--momentum=1",
    "--loss-mse=1.5",
    "--loss-mse=-0.5",
    "--decay=-0.1",
    "--decay=1.1",
    "--decay=nan",
    "--threshold=-1",
    "--threshold=0",
    "--width=0",
    "--width=-1",
    "--seed=-1",
    "--layers=M",
    "--layers=0",
    "--layers=65537",
    "--layers",
    "--width=1e9",
    "--threshold=1e-320",
    "--learning-rate=1e39",
    "--seed=4294967296",
    "--steps=2147483648",
    "--precision=float16",
    "--workdir=",
    "--workdir=~nobody-of-that-name/x",
    "--data-dir=",
    "--keep=0",
    "--save-every=0.5",
    "--no-such-flag=1",
]


@pytest.mark.parametrize(
    ("field", "table"),
    [
        ("method", RULES),
        ("dataset", DATASETS),
        ("surrogate", SURROGATES),
        ("readout", READOUTS),
        ("augmentation", {*AUGMENTATIONS, *CROPS, "sound"}),
        ("network", {"vgg", *RESNETS}),
    ],
)
def test_names_are_those_that_there_are(field, table):
    assert set(typing.get_args(typing.get_type_hints(type(getattr(Config(), PART_OF[field])))[field])) == set(table)


def test_published_recipe():
    expected = {
        "layers": (64, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512),
        "width": 1.0,
        "steps": 6,
        "decay": 0.5,
        "threshold": 1.0,
        "surrogate": "sigmoid",
        "epochs": 300,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "loss_mse": 0.05,
        "augmentation": "crop_flip_cutout",
    }
    for experiment in (cifar10, cifar100):
        values = {**to_json(experiment.CONFIG), "layers": experiment.CONFIG.net.layers}
        assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_dataset_is_named_as_the_module(experiment):
    assert experiment.__name__ == f"experiments.{experiment.CONFIG.data.dataset}"


@pytest.mark.parametrize("flag", FLAGS)
def test_flag_in_both_spellings(flag):
    value = FLAGS[flag]
    together = parse(cifar10.CONFIG, "", [f"--{flag}={value}"])
    apart = parse(cifar10.CONFIG, "", [f"--{flag}", value])
    assert together == apart
    now = to_json(together)
    changed = {name for name, old in to_json(cifar10.CONFIG).items() if now[name] != old}
    assert changed == {flag.replace("-", "_")}


def test_no_flag_is_the_default_and_every_field_has_a_flag():
    assert parse(digits.CONFIG, "", []) == digits.CONFIG
    fields = {name.replace("_", "-") for name in PART_OF}
    assert fields == {*FLAGS, *SWITCHES, *PROCESSES, "layers"}
    together = ["--coordinator=here:4000", "--processes=3", "--process=2"]
    assert parse(digits.CONFIG, "", together).run.process == 2
    assert parse(digits.CONFIG, "", ["--quiet", "--resume"]) == digits.CONFIG.changed(quiet=True, resume=True)
    assert parse(digits.CONFIG, "", ["--layers", "8", "M", "16"]).net.layers == (8, "M", 16)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_help_shows_description_and_defaults(experiment, capsys):
    with pytest.raises(SystemExit) as end:
        parse(experiment.CONFIG, experiment.__doc__, ["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"python -m {experiment.__name__} --method={experiment.CONFIG.training.method}" in shown
    for name, value in to_json(experiment.CONFIG).items():
        default = " ".join(map(str, value)) if name == "layers" else value
        flag = name.replace("_", "-")
        assert f"--{flag}, --no-{flag} " in shown if name in SWITCHES else f"--{flag} " in shown
        assert f"(default: {default})" in shown or f"(default: {default!r})" in shown


@pytest.mark.parametrize("flag", BAD)
def test_bad_value_ends_with_2_before_anything_is_written(flag, capsys, empty_folder):
    with pytest.raises(SystemExit) as end:
        parse(digits.CONFIG, "", [flag])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and flag.split("=")[0] in err and "Traceback" not in err
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--methd=saf_f", "Did you mean --method?"),
        ("--lerning_rate=1", "Did you mean --learning-rate?"),
        ("--zzz", "--help lists those that there are"),
    ],
)
def test_a_flag_that_there_is_not(flag, words, capsys):
    with pytest.raises(SystemExit) as end:
        parse(digits.CONFIG, "", [flag])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("error: there is no flag ") and words in err and err.count("\n") == 1


def test_weight_decay_is_for_the_optimizers_that_have_it():
    for optimizer in ("sgd", "adamw"):
        assert Config().changed(optimizer=optimizer, weight_decay=0.1).training.weight_decay == 0.1
    with pytest.raises(ConfigError, match=r"--weight-decay=0.1 is not possible: .* adamw"):
        Config().changed(optimizer="adam", weight_decay=0.1)


def test_bad_value_in_python():
    with pytest.raises(ConfigError, match=r"--decay=2.*\[0, 1\]"):
        Config().changed(decay=2)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_json_round_trip(experiment):
    config = experiment.CONFIG.changed(learning_rate=0.1 + 0.2, workdir="a b")
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_flags_are_grouped_by_the_parts(capsys):
    with pytest.raises(SystemExit):
        parse(digits.CONFIG, "", ["--help"])
    shown = capsys.readouterr().out
    places = [shown.index(f" {part} options ") for part in ("data", "net", "training", "run")]
    assert places == sorted(places)
    for name, part in PART_OF.items():
        flag = re.search(rf"--{name.replace('_', '-')}[ ,]", shown[places[0] :]).start() + places[0]
        begins = places[("data", "net", "training", "run").index(part)]
        assert begins < flag and not any(begins < other < flag for other in places)


def test_only_the_run_may_change():
    """What a run computes depends on nothing of that part, which so may be another one when it is resumed."""
    assert {name for name, part in PART_OF.items() if part == "run"} == set(MAY_CHANGE)
    assert differences(to_json(digits.CONFIG), digits.CONFIG.changed(keep=7, devices=1, data_dir="b")) == []
    assert differences(to_json(digits.CONFIG), digits.CONFIG.changed(decay=0.75)) == ["--decay was 0.5 and is now 0.75"]
