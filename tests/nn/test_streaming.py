"""Inference one step at a time is inference of the whole sequence, cut into steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import ALIF, LIF, PSN, CurrentLIF, Dropout, InstantReadout, LeakyReadout, SlidingPSN, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")


def current_based():
    return CurrentLIF(0.4, 0.5)


def every_neuron(rngs=nnx.Rngs(0)):  # noqa: B008 (never drawn from twice: one net a test)
    """Neurons with several kinds of state, dropout between them, and a readout with its own decay."""
    neurons = LIF(0.7), CurrentLIF(0.4, 0.5, 1.5), ALIF(0.6), SlidingPSN(3, param_dtype=nets.DTYPE)
    layers = [part for neuron in neurons for part in (Synapse(nets._dense(7, 7, rngs)), neuron)]
    return nnx.Sequential(*layers, Dropout(0.5, rngs=rngs), LeakyReadout(0.9))


def vectors(steps=8):
    return jnp.asarray(np.random.default_rng(0).normal(0.6, 1.2, (steps, nets.BATCH, 7)))


NETS = {
    "feedback and recurrence": (lambda: nets.Feedback(InstantReadout, current_based), nets.video),
    "every neuron": (every_neuron, vectors),
}


@pytest.mark.parametrize("make, inputs", NETS.values(), ids=NETS)
def test_steps_are_those_of_the_whole_sequence(make, inputs):
    net, x = make(), inputs()
    run = safjax.simulate(net, x)
    nets.assert_fires({path: spikes.mean() for path, spikes in run.spikes.items()})
    stream = safjax.stream(net)
    state, outputs = stream.start(x[0]), []
    for x_t in x:
        state, output = stream(state, x_t)
        outputs.append(output)
    np.testing.assert_allclose(jnp.stack(outputs), run.outputs, rtol=1e-13, atol=1e-14)


def test_it_may_stand_inside_a_scan_and_an_older_state_may_be_taken_again():
    net, x = every_neuron(), vectors()
    stream, expected = safjax.stream(net), safjax.predict(net, x)
    half = len(x) // 2
    state, outputs = jax.lax.scan(stream, stream.start(x[0]), x[:half])
    np.testing.assert_allclose(outputs, expected[:half], rtol=1e-13, atol=1e-14)
    for _ in range(2):
        np.testing.assert_allclose(jax.lax.scan(stream, state, x[half:])[1], expected[half:], rtol=1e-13, atol=1e-14)


def test_it_goes_on_with_the_parameters_that_the_net_had():
    """A training step uses up the arrays of a net of its own making."""
    x, step = vectors(), safjax.train_step(nets.loss, rules.sltt(), optax.sgd(0.1))
    net = nets.Dense()
    net, opt_state, _ = step(net, step.init(net), x, nets.labels())
    stream = safjax.stream(net)
    state = stream.start(x[0])
    _, before = stream(state, x[0])
    trained, *_ = step(net, opt_state, x, nets.labels())
    np.testing.assert_array_equal(stream(state, x[0])[1], before)
    assert float(jnp.abs(safjax.stream(trained)(state, x[0])[1] - before).max()) > 1e-6


def test_a_state_of_another_batch_or_net_is_refused():
    """Silently, an example's state would be shared by all the others."""
    x = vectors()[0]
    stream = safjax.stream(nets.Dense())
    with pytest.raises(ValueError, match=r"state does not fit.*\(3, 7\).*safjax.start"):
        stream(stream.start(x[:1]), x)
    with pytest.raises(ValueError, match="state does not fit"):
        stream(safjax.stream(every_neuron()).start(x), x)


def test_what_cannot_go_step_by_step_is_refused():
    net = nnx.Sequential(PSN(steps=4, rngs=nnx.Rngs(0)), LeakyReadout(0.5))
    with pytest.raises(ValueError, match=r"PSN at 'layers.0' computes all steps.*safjax.predict.*SlidingPSN"):
        safjax.stream(net)
    with pytest.raises(TypeError, match=r"flax.nnx.Module.*function"):
        safjax.stream(lambda x: x)


def test_what_depends_on_the_net_alone_is_computed_once():
    """Standardised kernels, of which a step has no more than the convolution; in a compiled loop too."""
    net, x = nets.Conv(), nets.video()
    stream, expected = safjax.stream(net), safjax.simulate(net, x)
    nets.assert_fires({path: spikes.mean() for path, spikes in expected.spikes.items()})
    state = stream.start(x[0])
    assert "rsqrt" in str(jax.make_jaxpr(lambda x: safjax.predict(net, x))(x))
    assert "rsqrt" not in str(jax.make_jaxpr(stream)(state, x[0]))
    outputs = jax.lax.scan(stream, state, x)[1]
    np.testing.assert_allclose(outputs, expected.outputs, rtol=1e-12)


def test_batches_of_several_sizes_and_dtypes_take_turns():
    net, x = nets.Conv(), nets.video()
    stream, expected = safjax.stream(net), safjax.simulate(net, x).outputs
    states = {size: stream.start(x[0, :size]) for size in (1, 3)}
    for x_t, output in zip(np.asarray(x), expected, strict=True):
        for size in states:
            states[size], found = stream(states[size], x_t[:size])
            np.testing.assert_allclose(found, output[:size], rtol=1e-12)


def test_it_may_be_made_inside_a_compiled_function():
    net, x = nets.Conv(), nets.video()

    @jax.jit
    def run(params, x):
        own = nnx.clone(net)
        nnx.update(own, params)
        stream = safjax.stream(own)
        return jax.lax.scan(stream, stream.start(x[0]), x)[1]

    np.testing.assert_allclose(run(nnx.state(net, nnx.Param), x), safjax.simulate(net, x).outputs, rtol=1e-12)
