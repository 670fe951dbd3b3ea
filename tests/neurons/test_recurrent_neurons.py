"""The recurrent neurons of other libraries, by their own equations, beside `Recurrent`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import IF, LIF, CurrentLIF, InstantReadout, Recurrent, Synapse
from safjax.surrogate import Sigmoid
from tests import nets
from tests.neurons.other_libraries import ALPHA, BETA, THETA
from tests.tables import some_slow

pytestmark = pytest.mark.usefixtures("x64")


def lif_recurrent(xs, first, back):
    """sinabs' `LIFRecurrent(tau, rec_connect, norm_input=False, spike_fn=SingleSpike)`."""
    v, spikes, came_back = 0.0, [], 0.0
    for x in xs:
        v = BETA * v + (x @ first + came_back)
        spikes.append(Sigmoid()(v - THETA))
        v = v - spikes[-1] * THETA
        came_back = spikes[-1] @ back
    return spikes


def of_spyx(beta=1.0, alpha=0.0):
    """Spyx's `RIF()`, `RLIF(beta)` and, with α, `RCuBaLIF(alpha, beta)`."""

    def run(xs, first, back):
        v, current, spikes = jnp.zeros((len(xs[0]), len(back))), 0.0, []
        for x in xs:
            spikes.append(Sigmoid()(v - THETA))
            current = alpha * current + x @ first + spikes[-1] @ back
            lost = spikes[-1] * THETA
            v = beta * (v - lost) + current if alpha else beta * v + current - lost
        return spikes

    return run


def of_snntorch(alpha=0.0):
    """snnTorch's `RLeaky(beta)` and, with α, `RSynaptic(alpha, beta)`."""

    def run(xs, first, back):
        syn, mem, spikes = 0.0, jnp.zeros((len(xs[0]), len(back))), [jnp.zeros((len(xs[0]), len(back)))]
        for x in xs:
            reset = jax.lax.stop_gradient(Sigmoid()(mem - THETA))
            syn = alpha * syn + x @ first + spikes[-1] @ back
            mem = BETA * mem + syn - reset * THETA
            spikes.append(Sigmoid()(mem - THETA))
        return spikes[1:]

    return run


RECURRENT = {
    "sinabs LIFRecurrent": (LIF(BETA, THETA), 0, lif_recurrent),
    "Spyx RLIF": (LIF(BETA, THETA, reset=1 / BETA), 1, of_spyx(BETA)),
    "Spyx RIF": (IF(THETA), 1, of_spyx()),
    "Spyx RCuBaLIF": (CurrentLIF(ALPHA, BETA, THETA), 1, of_spyx(BETA, ALPHA)),
    "snnTorch RLeaky": (LIF(BETA, THETA, reset=1 / BETA), 0, of_snntorch()),
    "snnTorch RSynaptic": (CurrentLIF(ALPHA, BETA, THETA, reset=1 / BETA), 0, of_snntorch(ALPHA)),
}


@pytest.mark.parametrize(
    "name", some_slow([(name,) for name in RECURRENT], lambda name: name in ("Spyx RLIF", "snnTorch RSynaptic"))
)
def test_recurrent_neurons(name):
    neuron, late, theirs = RECURRENT[name]
    rng, rngs = np.random.default_rng(0), nnx.Rngs(0)
    x, weights = jnp.asarray(rng.normal(0.3, 1.0, (12, 3, 7))), rng.normal(size=(12 - late, 3, 9))
    synapses = [
        Synapse(nnx.Linear(n, 9, use_bias=False, param_dtype=jnp.float64, rngs=rngs)) for n in (7, 9)
    ]  # fmt: skip
    net = nnx.Sequential(synapses[0], Recurrent(nnx.clone(neuron), synapses[1]), InstantReadout())
    kernels = [synapse.layer.kernel[...] for synapse in synapses]
    loss = safjax.losses.SequenceLoss(lambda outputs: jnp.vdot(weights, outputs[: 12 - late]))
    rule = rules.bptt(detach_reset=name.startswith("snnTorch"))
    (value, aux), grads = safjax.value_and_grad(loss, rule, outputs="all")(net, x)
    nets.assert_fires(aux.rates)

    def objective(kernels):
        spikes = jnp.stack(theirs(x, *kernels))
        return jnp.vdot(weights, spikes[late:]), spikes

    (expected, spikes), expected_grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(kernels)
    np.testing.assert_array_equal(aux.outputs[: 12 - late], spikes[late:])
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    layers = nnx.as_pure(grads)["layers"]
    ours = layers[0]["layer"]["kernel"], layers[1]["synapse"]["layer"]["kernel"]
    nets.assert_trees_close(list(ours), expected_grads, rtol=1e-10)
