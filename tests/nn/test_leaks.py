"""No entry point leaves a tracer behind, as `jax.checking_leaks` tells."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import Dropout
from tests import nets
from tests.nn.test_layer_loops import Net as Loop
from tests.tables import DEEP

RULES = {**{name: make() for name, make in rules.RULES.items()}, "bptt, layerwise": rules.bptt(layerwise=True)}
T = 2


class Masked(nets.Dense):
    """With dropout, so that it is found out too what the net itself makes anew at every step."""

    def __init__(self):
        super().__init__()
        self.dropout = Dropout(0.2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.readout(self.last(self.lif2(self.second(self.dropout(self.lif1(self.first(x)))))))


def dense_input():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (nets.BATCH, 7)))


NETS = {
    "dense": (nets.Dense, dense_input),
    "dropout": (Masked, dense_input),
    "feedback": (nets.Feedback, nets.image),
    "loop": (Loop, dense_input),
}


def traced(make, x, rule):
    """Each entry point once, as far as it is traced: a function of nothing."""

    def lowered():
        net, step = make(), safjax.train_step(nets.loss, rule, optax.sgd(0.1), T)
        step.lower(net, step.init(net), x, nets.labels())

    yield lambda: jax.eval_shape(lambda: safjax.value_and_grad(nets.loss, rule, T)(make(), x, nets.labels()))
    yield lowered
    if rule == RULES["bptt"]:
        yield lambda: jax.eval_shape(lambda: safjax.predict(make(), x, T))
        yield lambda: jax.eval_shape(lambda: safjax.simulate(make(), x, T).spikes)
        yield lambda: jax.eval_shape(lambda: streamed(safjax.stream(make()), x))


def streamed(stream, x):
    return stream(stream.start(x), x)


def fitting(name):
    if RULES[name].propagation.per_weight:
        return ["dense"] * (name in DEEP)
    """Every net under every propagation would say no more: what is found out differs by what travels."""
    if RULES[name].propagation.whole_sequence:
        return ["dropout"]
    return NETS if name in ("bptt", "ottt_a") else ["dropout"]


QUICK = [("bptt", "dense"), ("ottt_a", "dense"), ("saf_f", "dropout"), ("exodus", "dropout")]
"""What is tried every time: the check for leaks takes many times as long as the tracing that it watches."""


def cases():
    for name in RULES:
        for kind in fitting(name):
            yield pytest.param(name, kind, marks=() if (name, kind) in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(("name", "kind"), list(cases()))
def test_no_tracer_outlives_its_trace(name, kind, x64):
    make, inputs = NETS[kind]
    # What an earlier test has traced would not be traced again.
    jax.clear_caches()
    for trace in traced(make, inputs(), RULES[name]):
        check_leaks(trace)


def check_leaks(trace):
    """The check looks for garbage after each trace, and once: not among all that other tests have left."""
    gc.collect()
    gc.freeze()
    try:
        with jax.checking_leaks():
            trace()
    finally:
        gc.unfreeze()


KEPT: list = []


def test_a_tracer_that_outlives_its_trace_is_found():
    """Also one that is held by what was there before."""
    with pytest.raises(Exception, match="Leaked"):
        check_leaks(lambda: jax.eval_shape(lambda x: KEPT.append(x + 1), jnp.ones(3)))
    KEPT.clear()
