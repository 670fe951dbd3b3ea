"""Neurons whose threshold follows the distribution of potentials: the equations, and what depends on the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import safjax
from safjax import rules
from safjax.nn import LIF, DynamicThresholdLIF, InstantReadout, LeakyReadout, ResetTo, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")
DECAY, THRESHOLD = 0.7, 0.9


class Net(nnx.Module):
    """Two layers, soft reset and reset to a value."""

    def __init__(self, over):
        rngs = nnx.Rngs(0)
        self.first, self.one = Synapse(nets._dense(7, 12, rngs)), DynamicThresholdLIF(DECAY, THRESHOLD, over=over)
        two = DynamicThresholdLIF(0.5, 0.25, over=over, reset=ResetTo(0.1), decay_input=True)
        self.second, self.two = Synapse(nets._dense(12, 9, rngs)), two
        self.last, self.readout = Synapse(nets._dense(9, nets.CLASSES, rngs)), LeakyReadout(0.5)

    def __call__(self, x):
        return self.readout(self.last(self.two(self.second(self.one(self.first(x))))))


def inputs(steps=6, batch=nets.BATCH):
    return jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (steps, batch, 7)))


def reference(currents, over):
    """Spikes and thresholds of one layer with soft reset, written out."""
    membrane, level, spikes, thresholds = np.zeros(currents.shape[1:]), None, [], []
    for current in currents:
        potential = DECAY * membrane + current
        of = [potential] * len(potential) if over == "batch" else list(potential)
        mean, deviation = (np.array([f(p) for p in of])[:, None] for f in (np.mean, lambda p: np.std(p, ddof=1)))
        if level is None and deviation.min() > 0:
            level = (THRESHOLD - mean) / deviation
        threshold = np.full_like(mean, THRESHOLD) if level is None else mean + level * deviation
        spikes.append((potential >= threshold).astype(float))
        membrane = potential - threshold * spikes[-1]
        thresholds.append(threshold[:, 0])
    return np.stack(spikes), np.stack(thresholds)


@pytest.mark.parametrize("silent", [0, 2])
@pytest.mark.parametrize("over", ["batch", "sample"])
def test_the_equations(over, silent):
    """As long as nothing comes in, all potentials are alike, and the threshold stays where it is."""
    currents = jnp.concatenate([jnp.zeros((silent, nets.BATCH, 7)), inputs()])
    net = nnx.Sequential(DynamicThresholdLIF(DECAY, THRESHOLD, over=over), InstantReadout())
    run = safjax.simulate(net, currents, record=("spikes", "threshold"))
    spikes, thresholds = reference(np.asarray(currents), over)
    assert 0.05 < spikes[silent:].mean() < 0.6
    np.testing.assert_array_equal(run.spikes["layers.0"], spikes)
    np.testing.assert_allclose(run.records["threshold"]["layers.0"], thresholds, rtol=1e-12)
    assert np.ptp(thresholds[silent:], 0).min() > 0.1
    np.testing.assert_allclose(thresholds[: silent + 1], THRESHOLD, rtol=1e-12)


@pytest.mark.parametrize("over", ["batch", "sample"])
def test_thresholds_are_constants_of_the_gradient(over):
    """That of plain LIF neurons whose thresholds are given, and the same layer by layer."""
    net, x = Net(over), inputs()
    compute = safjax.value_and_grad(nets.loss, rules.bptt(), outputs="all", record=("threshold",))
    (value, aux), grads = compute(net, x, nets.labels())
    nets.assert_fires(aux.rates)
    thresholds, weights = aux.records["threshold"], nnx.state(net, nnx.Param)
    graphdef, _ = nnx.split(net)
    lifs = {"one": (LIF(DECAY), False, None), "two": (LIF(0.5), True, 0.1)}

    def fired(name, currents):
        lif, decayed, floor = lifs[name]
        membrane, spikes = 0.0, []
        for current, threshold in zip(currents, thresholds[name], strict=True):
            potential = lif.decay * membrane + (1 - lif.decay if decayed else 1) * current
            s = lif.surrogate(potential - threshold[:, None])
            membrane = potential - threshold[:, None] * s if floor is None else (1 - s) * potential + s * floor
            spikes.append(s)
        return spikes

    def unrolled(weights):
        net = nnx.merge(graphdef, weights)
        spikes = fired("two", map(net.second.layer, fired("one", map(net.first.layer, x))))
        mean, gain, losses = 0.0, 0.0, []
        for s in spikes:
            mean, gain = 0.5 * mean + net.last.layer(s), 0.5 * gain + 1
            losses.append(nets.loss(mean / gain, nets.labels()))
        return sum(losses) / len(losses)

    expected_value, expected = jax.jit(jax.value_and_grad(unrolled))(weights)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    nets.assert_trees_close(grads, expected, 1e-11)
    (_, _), layerwise = safjax.value_and_grad(nets.loss, rules.bptt(layerwise=True))(net, x, nets.labels())
    nets.assert_trees_close(layerwise, grads, 1e-11)


def test_over_a_sample_no_member_sees_another():
    """Alone, with lengths, and put back to rest by itself; over a batch the others matter."""
    net, mixed, x = Net("sample"), Net("batch"), inputs()
    outputs, of_batch = safjax.predict(net, x), safjax.predict(mixed, x)
    np.testing.assert_allclose(safjax.predict(net, x[:, :1]), outputs[:, :1], rtol=1e-12)
    assert np.abs(safjax.predict(mixed, x[:, :1]) - of_batch[:, :1]).max() > 0.1
    stream = safjax.stream(net)
    state, _ = stream(stream.start(x[0]), x[0])
    state = safjax.reset(state, jnp.array([True, False, False]))
    state, output = stream(state, x[1])
    np.testing.assert_allclose(output[1:], outputs[1, 1:], rtol=1e-12)
    np.testing.assert_allclose(output[:1], safjax.predict(net, x[1:2, :1])[0], rtol=1e-12)
    gradient = safjax.value_and_grad(nets.loss, rules.sltt())
    lengths = jnp.array([2, 6, 4])
    value, grads = gradient(net, x, nets.labels(), lengths=lengths)
    garbage = jnp.where(jnp.arange(6)[:, None, None] < lengths[:, None], x, 99.0)
    other_value, others = gradient(net, garbage, nets.labels(), lengths=lengths)
    assert value[0] == other_value[0]
    nets.assert_trees_close(grads, others, 0.0)


@pytest.mark.parametrize("name", ["sltt", "bptt, layerwise"])
def test_over_a_batch_members_begin_and_end_together(name):
    rule = rules.sltt() if name == "sltt" else rules.bptt(layerwise=True)
    with pytest.raises(ValueError, match=r"DynamicThresholdLIF\(over='batch'\) at 'one' .*padding.*over='sample'"):
        gradient = safjax.value_and_grad(nets.loss, rule)
        gradient(Net("batch"), inputs(), nets.labels(), lengths=jnp.array([2, 6, 4]))
    state = safjax.start(Net("batch"), inputs()[:1], rule)
    with pytest.raises(ValueError, match=r"state at 'one.state' has the shape \[\]"):
        safjax.reset(state, jnp.array([True, False, False]))


def test_rules_that_cannot_train_it():
    says = {
        rules.saf_f(): "at 'one': the rule 'saf_f' .* the whole memory of LIF and IF neurons only",
        rules.exodus(): "at 'one': the rule 'exodus' has its gradient in closed form for LIF",
        rules.rate_backprop(): "at 'one': the rule 'rate_backprop' is defined for LIF and IF",
    }
    for rule, message in says.items():
        with pytest.raises(ValueError, match=f"{message}|one decay"):
            safjax.value_and_grad(nets.loss, rule)(Net("batch"), inputs(), nets.labels())


def test_bad_arguments():
    with pytest.raises(ValueError, match="over='layer'.*'batch'.*as published.*'sample'"):
        DynamicThresholdLIF(over="layer")
    with pytest.raises(ValueError, match=r"threshold=Param.*constant of the gradient.*one Python number"):
        DynamicThresholdLIF(threshold=nnx.Param(jnp.ones(())), over="batch")
    net = nnx.Sequential(DynamicThresholdLIF(over="sample"), LeakyReadout(0.5))
    with pytest.raises(ValueError, match=r"at 'layers.0' was given currents of shape \[3, 1\], a single one"):
        safjax.predict(net, jnp.ones((3, 1)), steps=2)
    assert safjax.predict(
        nnx.Sequential(DynamicThresholdLIF(over="batch"), LeakyReadout(0.5)), jnp.ones((3, 1)), 2
    ).size
