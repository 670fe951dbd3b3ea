"""A delay for each weight: plain autodiff through explicit sums, under every rule that goes back in time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, AxonalDelay, DelayedLinear, InstantReadout, LeakyReadout, Synapse
from safjax.surrogate import Sigmoid
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

STEPS, DECAY, WIDTH = 7, 0.6, 0.9


def delayed(inputs, outputs, longest, width, seed):
    normal = nnx.initializers.normal
    layer = DelayedLinear(
        inputs,
        outputs,
        longest,
        width=width,
        kernel_init=normal(1.5 / inputs**0.5),
        param_dtype=nets.DTYPE,
        rngs=nnx.Rngs(seed),
    )
    layer.bias[...] = jnp.linspace(-0.3, 0.4, outputs)
    return layer


def build():
    return nnx.Sequential(
        delayed(6, 12, 3, WIDTH, 0), LIF(DECAY), delayed(12, nets.CLASSES, 4, None, 1), LeakyReadout(DECAY)
    )


def inputs():
    return jnp.asarray(np.random.default_rng(0).normal(0.3, 1.2, (STEPS, nets.BATCH, 6)))


def layer_of(params, x, spread):
    """y[t] = Σ_k Σ_i w_ij[k] W_ij x_i[t − k] + b_j, in loops."""
    past = [x[t - k] @ (params["kernel"] * spread[k]) for t in range(len(x)) for k in range(len(spread)) if k <= t]
    rows, at = [], 0
    for t in range(len(x)):
        count = min(t + 1, len(spread))
        rows.append(sum(past[at : at + count]) + params["bias"])
        at += count
    return rows


def reference(params, x):
    first, last = params["layers"][0], params["layers"][2]
    bell = jnp.exp(-((jnp.arange(4.0)[:, None, None] - first["delays"]) ** 2) / (2 * WIDTH**2))
    hat = jnp.maximum(0, 1 - jnp.abs(jnp.arange(5.0)[:, None, None] - last["delays"]))
    membrane, total, gain, spikes, outputs = 0.0, 0.0, 0.0, [], []
    for current in layer_of(first, x, bell / bell.sum(0)):
        u = DECAY * membrane + current
        spikes.append(Sigmoid()(u - 1))
        membrane = u - spikes[-1]
    for current in layer_of(last, jnp.stack(spikes), hat):
        total, gain = DECAY * total + current, DECAY * gain + 1
        outputs.append(total / gain)
    return jnp.mean(jnp.stack([nets.loss(o, nets.labels()) for o in outputs]))


def test_the_rules_that_go_back_in_time_agree_with_plain_autodiff():
    net, x = build(), inputs()
    params = nnx.as_pure(nnx.state(net, nnx.Param))
    value, expected = jax.jit(jax.value_and_grad(reference))(params, x)
    for rule in (rules.bptt(), rules.bptt(layerwise=True), rules.exodus()):
        (ours, aux), grads = safjax.value_and_grad(nets.loss, rule)(net, x, nets.labels())
        nets.assert_fires(aux.rates)
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(grads, expected, rtol=1e-11)


def test_chunks_are_the_whole_sequence_and_members_begin_anew():
    net, x = build(), inputs()
    expected, run = safjax.predict(net, x), safjax.simulate(net, x[:2], state=safjax.start(net, x))
    assert run.state.variables["layers.0.state"].shape == (3, nets.BATCH, 6)
    np.testing.assert_allclose(safjax.predict(net, x[2:], state=run.state), expected[2:], rtol=1e-12)
    anew = safjax.predict(net, x[2:], state=safjax.reset(run.state, jnp.array([True, False, False])))
    np.testing.assert_allclose(anew[:, 0], safjax.predict(net, x[2:])[:, 0], rtol=1e-12)
    np.testing.assert_allclose(anew[:, 1:], expected[2:, 1:], rtol=1e-12)


@pytest.mark.parametrize("width", [None, 0.8])
def test_one_delay_for_all_weights_of_an_input_is_an_axonal_delay(width):
    """In training and in evaluation."""
    layer = delayed(6, 5, 3, width, 2)
    each = jnp.linspace(0.1, 2.9, 6)
    layer.delays[...] = jnp.broadcast_to(each[:, None], (6, 5))
    dense = nnx.Linear(6, 5, param_dtype=nets.DTYPE, rngs=nnx.Rngs(0))
    dense.kernel[...], dense.bias[...] = layer.kernel[...], layer.bias[...]
    ours = nnx.Sequential(layer, InstantReadout())
    other = nnx.Sequential(AxonalDelay(nnx.Param(each), 3, width=width), Synapse(dense), InstantReadout())
    np.testing.assert_allclose(safjax.predict(ours, inputs()), safjax.predict(other, inputs()), rtol=1e-12, atol=1e-14)
    (mine, grads), (theirs, expected) = (
        safjax.value_and_grad(lambda o: jnp.mean(o**2), rules.exodus())(net, inputs()) for net in (ours, other)
    )
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(grads["layers"][0]["delays"].sum(1), expected["layers"][0]["delays"], rtol=1e-11)


def test_delays_at_the_start():
    """All over [0, K], and not learned if so asked."""
    layer = DelayedLinear(40, 30, 12, learn_delays=False, rngs=nnx.Rngs(0))
    assert not isinstance(layer.delays, nnx.Param) and layer.bias.shape == (30,)
    assert 0 <= layer.delays[...].min() < 0.2 and 11.8 < layer.delays[...].max() <= 12


def test_rules_of_single_steps_refuse_them():
    with pytest.raises(ValueError, match="before the DelayedLinear at 'layers.0' would learn nothing"):
        safjax.value_and_grad(nets.loss, rules.saf_f())(build(), inputs(), nets.labels())
    report = safjax.check(build(), inputs())
    assert report.trained_by == ("bptt", "exodus", "slayer", "bptt(layerwise=True)")
    for name in ("sltt", "ottt_a", "saf_f", "spike_representation"):
        assert [path for path, _ in report[name].reasons] == ["layers.0", "layers.2"]


def test_another_number_of_features():
    with pytest.raises(
        ValueError, match=r"DelayedLinear at 'layers.0' was given .*\[3, 5\], but expected is \[B, ..., 6"
    ):
        safjax.predict(build(), inputs()[..., :5])
    with pytest.raises(ValueError, match="max_delay=0.*expected a whole number ≥ 1"):
        DelayedLinear(3, 4, 0, rngs=nnx.Rngs(0))
