"""The examples of streams without end: they learn, in memory that does not grow; chunks make no difference."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

import safjax
from experiments import control, stream
from tests import nets


# By theorem 1 the other has the same updates.
@pytest.mark.parametrize("name", ["ottt_o", pytest.param("saf_e", marks=pytest.mark.slow)])
def test_a_net_that_never_rests_learns_and_learns_anew(name):
    """97 % before the patterns change their names, half as many right after, 95 % and more again at the end."""
    options = stream.Options(method=name, steps=16_000, every=500)
    reports = list(stream.learn(options))
    half, few = len(reports) // 2, 4
    before, after, end = (sum(r.accuracy for r in part) / len(part) for part in parts(reports, half, few))
    assert before > 0.94 and end > 0.94, (before, end)
    assert after < 0.6, "what was learned is wrong once the names have changed"
    assert reports[0].accuracy < 0.5, "nothing is known at the start"
    nets.assert_fires(reports[-1].rates)


def parts(reports, half, few):
    return reports[half - few : half], reports[half : half + 1], reports[-few:]


def test_steps_in_chunks_are_steps_one_by_one():
    one, eight = (stream.Options(method="ottt_o", steps=2000, every=1000, chunk=chunk) for chunk in (1, 8))
    for a, b in zip(stream.learn(one), stream.learn(eight), strict=True):
        assert a.accuracy == pytest.approx(b.accuracy, abs=0.02)


@pytest.mark.parametrize("name", ["ottt_o", "saf_e", "sltt"])
def test_a_compiled_loop_of_training_steps_needs_the_same_memory_for_any_length(name):
    """Its state is as large after 100,000 steps as at the start, and so is what it computes with."""
    net = stream.net_of(stream.Options())
    step = safjax.train_step(stream.loss, safjax.rules.RULES[name](), optax.adam(1e-3), mean_over=1)
    start = net, step.init(net), step.start(net, jnp.zeros((1, 16, stream.INPUTS)))

    def run(learner, x):
        def body(learner, x):
            net, opt_state, (_, aux) = step(*learner[:2], x[None], jnp.zeros(16, int), state=learner[2])
            return (net, opt_state, aux.state), ()

        return jax.lax.scan(body, learner, x)[0]

    def memory(steps):
        x = jax.ShapeDtypeStruct((steps, 16, stream.INPUTS), jnp.float32)
        analysis = jax.jit(run).lower(start, x).compile().memory_analysis()
        return analysis.temp_size_in_bytes, analysis.output_size_in_bytes

    parameters = sum(a.nbytes for a in jax.tree.leaves(nnx.state(net, nnx.Param)))
    few, many = memory(100), memory(100_000)
    assert few == many and few[0] < 20 * parameters, (few, many, parameters)


@pytest.mark.parametrize("name", ["ottt_o", "saf_e"])
def test_a_policy_learns_while_its_episodes_end_at_different_times(name):
    reports = list(control.learn(control.Options(method=name, steps=4000, every=100)))
    first, last = reports[0].length, mean_length(reports[-10:])
    assert first < 50 and last > 150 and last > 5 * first, (first, last)
    assert sum(report.episodes for report in reports[-10:]) > 32, "members begin anew, each at a time of its own"


def mean_length(reports):
    return sum(r.length * r.episodes for r in reports) / sum(r.episodes for r in reports)
