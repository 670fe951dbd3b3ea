"""Nets of the field in a dozen plain lines, each trained by every rule that `safjax.check` names."""

import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from tests import examples_of_the_field, nets

RULES = {
    **{name: make() for name, make in rules.RULES.items()},
    "bptt(layerwise=True)": rules.bptt(layerwise=True),
    "rate_backprop(layerwise=True)": rules.rate_backprop(layerwise=True),
}
PROGRAMS = {
    module.name: importlib.import_module(f"tests.examples_of_the_field.{module.name}")
    for module in pkgutil.iter_modules(examples_of_the_field.__path__)
}
CASES = [(name, rule) for name, program in PROGRAMS.items() for rule in program.TRAINED_BY]
QUICK = {
    *(("sew_block", "exodus"), ("spikformer_block", "bptt"), ("spike_driven_attention", "slayer")),
    *(("unet", "ottt_a"), ("lsnn", "bptt"), ("two_inputs", "saf_e")),
    *(("snntorch_dense", "saf_f"), ("snntorch_convolutional", "sltt"), ("spikingjelly_lif", "exodus")),
    *(("decolle", "sltt"), ("eprop", "ottt_a"), ("feedback_alignment", "exodus"), ("tess", "stllr")),
    *(("plif", "slayer"), ("spyx_shd", "bptt"), ("delays", "exodus"), ("tebn", "bptt(layerwise=True)")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_check_names_the_rules_that_train_it(name):
    program = PROGRAMS[name]
    assert safjax.check(program.Net(nnx.Rngs(0)), program.inputs(), program.STEPS).trained_by == program.TRAINED_BY


@pytest.mark.parametrize(
    ("name", "rule"), [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_it_trains(name, rule):
    program, labels = PROGRAMS[name], jnp.arange(3)
    net, step = program.Net(nnx.Rngs(0)), safjax.train_step(program.loss, RULES[rule], optax.adam(1e-3), program.STEPS)
    opt_state, before = step.init(net), jax.tree.map(np.array, nnx.as_pure(nnx.state(net, nnx.Param)))
    for _ in range(3):
        net, opt_state, (value, aux) = step(net, opt_state, program.inputs(), labels)
        assert np.isfinite(value)
        nets.assert_fires(aux.rates)
    after = nnx.as_pure(nnx.state(net, nnx.Param))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    still = [
        jax.tree_util.keystr(p) for p, a in jax.tree.leaves_with_path(jax.tree.map(np.array_equal, after, before)) if a
    ]
    assert still == [], "without a gradient"
