"""BP-STA: the authors' numbers, and the same gradient by a plain loop, by closed form and by autodiff.

`golden/bp_sta.npz` holds inputs and results of the authors' PyTorch code (the node that their training scripts name,
with thresholds of 0.5), three linear maps 12-10-9-5 of float64 weights, T = 6, cross-entropy of the mean output; once
without leak, as published, and once with decays of 0.8 and 0.6.
"""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, CurrentLIF, InstantReadout, ResetTo, Synapse
from safjax.surrogate import Reciprocal
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

THRESHOLD, THROUGH = 0.5, 0.2


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parent / "golden" / "bp_sta.npz") as file:
        return {key: file[key] for key in file.files}


class Net(nnx.Module):
    """The golden's net; the value of the reset is learned if it is a parameter."""

    def __init__(self, golden, decays, through=THROUGH, value=0.0):
        sizes = (12, 10, 9, 5)
        linears = [nnx.Linear(n, m, param_dtype=jnp.float64, rngs=nnx.Rngs(0)) for n, m in itertools.pairwise(sizes)]
        for i, linear in enumerate(linears):
            linear.kernel[...], linear.bias[...] = golden[f"param/{i}.weight"].T, golden[f"param/{i}.bias"]
        self.synapses, self.readout = nnx.List([Synapse(linear) for linear in linears]), InstantReadout()
        reset = ResetTo(value, through=through)
        self.neurons = nnx.List([LIF(float(λ), THRESHOLD, Reciprocal(THRESHOLD), reset=reset) for λ in decays])

    def __call__(self, x):
        for synapse, neuron in zip(self.synapses, self.neurons, strict=False):
            x = neuron(synapse(x))
        return self.readout(self.synapses[2](x))


def weights(grads):
    grads = nnx.as_pure(grads)["synapses"]
    return [grads[i]["layer"][name] for i in range(3) for name in ("kernel", "bias")]


def computed(golden, rule, net, **options):
    mean = safjax.losses.SequenceLoss(lambda outputs, labels: nets_loss(outputs.mean(0), labels))
    x, labels = jnp.asarray(golden["x"]), jnp.asarray(golden["labels"])
    (value, aux), grads = nets.value_and_grad(mean, rule, **options)(net, x, labels)
    nets.assert_fires(aux.rates)
    return value, aux, grads


def nets_loss(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))


def of_authors(golden, name):
    return [golden[f"{name}/grad/{i}.{kind}"].T for i in range(3) for kind in ("weight", "bias")]


@pytest.mark.parametrize("name", ["published", "leaky"])
@pytest.mark.parametrize(
    "rule", [rules.bptt(), rules.bptt(layerwise=True), rules.exodus(), rules.exodus(parallel=True)], ids=str
)
def test_the_authors_numbers(golden, name, rule):
    net = Net(golden, golden[f"{name}/decays"])
    value, aux, grads = computed(golden, rule, net, record=("spikes",))
    for i in range(2):
        np.testing.assert_array_equal(aux.records["spikes"][f"neurons.{i}"], golden[f"{name}/spikes/{i}"])
    # Their spikes have the height u / (u + 1e-12).
    np.testing.assert_allclose(value, golden[f"{name}/loss"], rtol=1e-10)
    nets.assert_trees_close(weights(grads), of_authors(golden, name), rtol=1e-9)


def by_loop(golden, net, through, detach=False):
    """Autodiff of the equations: m = (1 − S) u + S v, and κ σ more."""
    graph, params = nnx.split(net)

    def objective(params):
        net = nnx.merge(graph, params)
        membranes, outputs = [0.0, 0.0], []
        for spikes in jnp.asarray(golden["x"]):
            for i, neuron in enumerate(net.neurons):
                u = neuron.decay * membranes[i] + net.synapses[i].layer(spikes)
                fired = jax.lax.stop_gradient((u >= THRESHOLD).astype(u.dtype))
                spikes = fired * u / jax.lax.stop_gradient(u)
                value = neuron.reset.value
                value = value[...] if isinstance(value, nnx.Variable) else value
                membranes[i] = (1 - fired) * u + fired * value
                membranes[i] += 0.0 if detach else through * (spikes - jax.lax.stop_gradient(spikes))
            outputs.append(net.synapses[2].layer(spikes))
        return nets_loss(jnp.stack(outputs).mean(0), jnp.asarray(golden["labels"]))

    return jax.value_and_grad(objective)(params)


@pytest.mark.parametrize(
    "rule, detach",
    [
        (rules.bptt(), False),
        (rules.exodus(), False),
        (rules.exodus(parallel=True), False),
        (rules.bptt(detach_reset=True), True),
        (rules.slayer(), True),
        (rules.slayer(parallel=True), True),
    ],
    ids=str,
)
def test_another_factor_and_a_learned_value(golden, rule, detach):
    def net():
        return Net(golden, (0.8, 0.6), through=-0.35, value=nnx.Param(jnp.asarray(-0.1)))

    value, _, grads = computed(golden, rule, net())
    expected, expected_grads = by_loop(golden, net(), -0.35, detach)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    nets.assert_trees_close(nnx.as_pure(grads), nnx.as_pure(expected_grads), rtol=1e-11)


def test_the_factor_matters_to_the_gradient_and_to_nothing_else(golden):
    (one, _, changed), (other, _, usual) = (
        computed(golden, rules.bptt(), Net(golden, (0.8, 0.6), through)) for through in (THROUGH, None)
    )
    assert one == other
    assert nets.distance(weights(changed)[0], weights(usual)[0]) > 0.01


@pytest.mark.parametrize("through", [True, "0.2", float("nan"), jnp.zeros(())])
def test_what_is_no_number_is_refused(through):
    with pytest.raises(ValueError, match=r"ResetTo\(through=.*a finite Python number κ"):
        ResetTo(0.0, through=through)


def test_spike_times_have_no_reset_to_go_through():
    net = nnx.Sequential(
        Synapse(nnx.Linear(3, 3, rngs=nnx.Rngs(0))),
        CurrentLIF(0.9, 0.9, reset=ResetTo(0.0, through=0.2)),
        InstantReadout(),
    )
    with pytest.raises(ValueError, match="at 'layers.1'.*eventprop.*ResetTo without 'through'"):
        jax.eval_shape(safjax.value_and_grad(jnp.mean, rules.eventprop()), net, jnp.ones((6, 2, 3)))
