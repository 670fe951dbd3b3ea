"""The public face of safjax: its names, documentation, signatures and values, and what importing it costs."""

import importlib
import inspect
import subprocess
import sys
import types

import pytest

import safjax
from safjax import rules

NAMES = {
    "safjax": {
        "Aux", "Exported", "Simulation", "State", "Stream", "TrainStep", "aot", "check", "compare", "convert", "cost",
        "export", "fptt", "keep_memory", "losses", "models", "nn", "ops", "predict", "reset", "rules", "simulate",
        "start", "stream", "surrogate", "train_step", "value_and_grad",
    },
    "safjax.aot": {
        "ASSUMPTION", "DEVICES", "Call", "CompilationFailed", "CompilerMissing", "Cost", "Device", "Memory", "Program",
        "compile_for", "cost_of", "device_named",
    },
    "safjax.nn": {
        "ALIF", "IF", "LIF", "PLIF", "PSN", "SPSN", "AcrossTime", "AfterDecay", "AxonalDelay", "BatchNorm",
        "CurrentLIF", "Delay", "DelayedLinear", "Dropout", "DynamicThresholdLIF", "InstantReadout", "LeakyReadout",
        "Neuron", "NormalisedLIF", "OnlineBatchNorm", "Recurrent", "Refractory", "ResetTo", "SequenceState",
        "SlidingPSN", "StepWeights", "Synapse", "WSConv", "concatenate", "detach", "fixed", "fold_batch_norms",
        "lif_init", "named_arrays", "scale_to_rate", "sinusoidal", "time_constants", "with_arrays",
    },
    "safjax.nn.time_constants": {"bounded", "decays", "gamma", "log_uniform", "normal", "uniform"},
    "safjax.linen": {"Layer", "init", "predict", "value_and_grad"},
    "safjax.nir": {"LIKE", "Convention", "ResetLost", "Wired", "from_nir", "library", "to_nir"},
    "safjax.data": {
        "BadFile", "BuildError", "Camera", "EventFile", "EventFrames", "Events", "FrameStream", "Frames", "Grid",
        "OutOfOrder", "Recipe", "Sound", "SoundFrames", "SpikeFile", "SpikeFrames", "Spikes", "Split", "Trial",
        "as_events", "augment", "by_count", "by_duration", "by_parts", "bytes_of", "cached", "cut", "datasets", "delta",
        "enlarged", "in_order", "joined", "latency", "level_crossing", "log_mel", "open_aedat2", "open_aedat3",
        "open_aedat4", "open_bin", "open_dat", "open_events", "open_evt2", "open_evt3", "open_hdf5", "open_mat",
        "open_npy", "poisson", "pool_time", "raster", "read_list", "read_trials", "read_wav",
    },
    "safjax.data.datasets": {
        "Incomplete", "Sample", "Samples", "asldvs", "cifar10dvs", "dvslip", "fsdd", "gesture", "gesture_cut",
        "held_out", "ncaltech101", "nmnist", "nmnist_small", "samples_of", "shd", "ssc",
    },
    "safjax.data.augment": {"crop", "drop", "drop_area", "drop_time", "jitter_time", "mirror", "shift", "warp_time"},
    "safjax.plots": {"cosines", "membranes", "raster", "rates", "surrogates"},
    "safjax.losses": {
        "SequenceLoss", "Timed", "WithRecords", "is_of_sequence", "is_timed", "max_over_time", "records_for",
        "spike_count", "sum_over_time", "timed_in", "van_rossum",
    },
    "safjax.neurons": {
        "AdaptiveCell", "AfterDecay", "Cell", "CurrentCell", "CurrentState", "LIFCell", "PSNCell", "RefractoryCell",
        "ResetTo", "SPSNCell", "SlidingPSNCell", "accumulation_step", "fire", "gain_step", "leaky_filter",
        "leaky_readout_step", "lif_sequence", "masked_weight", "psn", "run_cell", "sliding_psn", "sliding_psn_step",
        "spsn", "spsn_potential",
    },
    "safjax.rules": {
        "RULES", "Course", "Fired", "Propagation", "Rule", "approx_otpe", "bptt", "eprop", "eventprop", "exodus", "ide",
        "ostl", "otpe", "ottt_a", "ottt_o", "rate_backprop", "saf_e", "saf_f", "slayer", "sltt",
        "spike_representation", "stllr",
    },
    "safjax.surrogate": {
        "Arctan", "Exponential", "Gaussian", "Reciprocal", "Rectangle", "Sigmoid", "Surrogate", "Triangle",
    },
    "safjax.ops": {"avg_pool", "conv_general_dilated", "global_avg_pool", "max_pool", "portable"},
    "safjax.models": {
        "DVSGestureNet", "MSResNet", "SEWResNet", "Spikformer", "SpikingMLP", "SpikingRNN", "SpikingResNet",
        "SpikingVGG", "SpikingVGGF", "cifar_resnet18", "ms_resnet18", "ms_resnet34", "nf_resnet34", "sew_add",
        "sew_and", "sew_iand", "sew_resnet18", "sew_resnet34",
    },
}  # fmt: skip

OF_OTHER_NEURONS = ["eventprop"]
"""Rules that train no net of LIF neurons, which the table of rules is for."""

CONSTRUCTORS = [
    "approx_otpe", "bptt", "eprop", "eventprop", "exodus", "ide", "ostl", "otpe", "ottt_a", "ottt_o", "rate_backprop",
    "saf_e", "saf_f", "slayer", "sltt", "spike_representation", "stllr",
]  # fmt: skip
"""Every function that makes a rule."""

OPTIONS = {
    "approx_otpe": [{}, {"online": True}],
    "bptt": [
        {},
        {"detach_reset": True},
        {"layerwise": True},
        {"remat": True},
        {"segments": 3},
        {"layerwise": True, "segments": 3},
        {"slopes": "bfloat16"},
    ],
    "stllr": [
        {},
        {"pre_decay": 0.5},
        {"post_decay": 0.5},
        {"causal": 2.0},
        {"noncausal": 1},
        {"readout_decay": 0.9},
        {"first": 1},
    ],
    "exodus": [{}, {"parallel": True}, {"segments": 3}, {"segments": 3, "remat": True}],
    "slayer": [{}, {"parallel": True}, {"segments": 3}, {"segments": 3, "remat": True}],
    "ide": [{}, {"iterations": 30}],
    "eventprop": [{}, {"slowest": 0.1}],
    "sltt": [{}, {"sampled": 2}, {"sampled": 3}],
    "ostl": [{}, {"detach_reset": True}],
    "otpe": [{}, {"detach_reset": True}, {"everywhere": True}],
    "rate_backprop": [{}, {"detach_reset": False}, {"layerwise": True}],
    "ottt_a": [{}, {"trace_bias": False}, {"trace_input": False}, {"trace_bias": False, "trace_input": False}],
    "ottt_o": [{}, {"trace_bias": False}, {"trace_input": False}, {"trace_bias": False, "trace_input": False}],
}
"""Different choices of options, for the rules that have any."""


def own_names(module):
    """What a module offers: its `__all__`, or else the functions and classes that it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return set(listed)
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    return {name for name in own if not name.startswith("_")}


def exported():
    """Every public function and class, under its dotted name."""
    found = {f"{m}.{name}": getattr(importlib.import_module(m), name) for m, names in NAMES.items() for name in names}
    return [
        pytest.param(found[n], id=n) for n in sorted(found) if inspect.isfunction(found[n]) or inspect.isclass(found[n])
    ]


def written(value):
    """A function, or the methods of a class that its author wrote and users call."""
    if inspect.isfunction(value):
        return [value]
    methods = [m for m in vars(value).values() if inspect.isfunction(m)]
    public = [m for m in methods if not m.__name__.startswith("_") or m.__name__ in ("__init__", "__call__")]
    # Data classes and named tuples have methods made by the standard library.
    source = inspect.getsourcefile(value)
    return [m for m in public if m.__code__.co_filename == source]


@pytest.mark.parametrize("module", NAMES)
def test_public_names(module):
    assert own_names(importlib.import_module(module)) == NAMES[module]


@pytest.mark.parametrize("module", [name for name in NAMES if hasattr(importlib.import_module(name), "__path__")])
def test_packages_offer_nothing_beside_their_public_names(module):
    """What else stands in a package's namespace are its submodules, put there by Python's import system."""
    others = {name: value for name, value in vars(importlib.import_module(module)).items() if name not in NAMES[module]}
    stray = [n for n, v in others.items() if not n.startswith("_") and not isinstance(v, types.ModuleType)]
    assert stray == []


@pytest.mark.parametrize("value", exported())
def test_everything_public_is_documented(value):
    # A named tuple without a docstring gets its signature for one; a class without one inherits its base's.
    text = value.__doc__ or ""
    assert text and not text.startswith(f"{value.__name__}("), f"{value.__name__} has no docstring"
    methods = [m for m in written(value) if not m.__name__.startswith("_")]
    missing = [m.__qualname__ for m in methods if not inspect.getdoc(getattr(value, m.__name__, m))]
    assert missing == []


@pytest.mark.parametrize("value", exported())
def test_everything_public_has_type_hints(value):
    for function in written(value):
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
        assert bare == [], f"{function.__qualname__}: no type for {bare}"
        if function.__name__ != "__init__":
            assert signature.return_annotation is not signature.empty, f"{function.__qualname__}: no return type"


def parameters(function):
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def test_signatures_mirror_one_another():
    required = inspect.Parameter.empty
    learning = [("loss", required), ("rule", required)]
    running = [("net", required), ("x", required), ("steps", None)]
    kept = [("mean_over", None), ("outputs", None), ("record", ()), ("rates", True)]
    assert parameters(safjax.value_and_grad) == [*learning, ("steps", None), *kept]
    assert parameters(safjax.train_step) == [*learning, ("optimizer", required), ("steps", None), *kept]
    going_on = [("state", None), ("lengths", None)]
    assert parameters(safjax.predict) == [*running, *going_on, ("outputs", "all")]
    assert parameters(safjax.simulate) == [*running, ("record", ("spikes",)), *going_on]


def test_the_table_of_rules_is_complete():
    assert {name: getattr(rules, name) for name in CONSTRUCTORS if name not in OF_OTHER_NEURONS} == rules.RULES
    assert {name: make().name for name, make in rules.RULES.items()} == {name: name for name in rules.RULES}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_rules_are_values(name):
    make, choices = getattr(rules, name), OPTIONS.get(name, [{}])
    for options in choices:
        assert make(**options) == make(**options)
        assert hash(make(**options)) == hash(make(**options))
    assert len({make(**options) for options in choices}) == len(choices), "two different options made equal rules"
    options = inspect.signature(make).parameters
    assert set(options) == {option for choice in choices for option in choice}, "an option is missing from the table"
    assert all(p.kind is p.KEYWORD_ONLY for p in options.values())
    with pytest.raises(AttributeError):
        make().name = "another"


def test_no_two_rules_are_equal():
    assert len({make() for make in rules.RULES.values()}) == len(rules.RULES)


def fresh(code):
    """What `code` prints in a new interpreter."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


ALL = "import safjax; [getattr(safjax, name) for name in safjax.__all__]"
LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_importing_safjax_loads_jax_and_flax_only():
    """Their own dependencies come along (flax brings rich); safjax adds nothing but itself."""
    loaded, needed = set(fresh(f"{ALL}; {LOADED}")), set(fresh(f"import jax; from flax import nnx; {LOADED}"))
    assert loaded - needed - sys.stdlib_module_names == {"safjax"}
    unwanted = {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "tyro", "chex", "orbax", "experiments"}
    assert loaded & unwanted == set()


def test_importing_safjax_computes_nothing():
    """Devices are still unset after the import: a program may yet choose them."""
    assert fresh(f"{ALL}; import jax; jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count('cpu'))") == [
        "3"
    ]
