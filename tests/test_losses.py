"""Losses of the whole output sequence, and targets that change with time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import safjax
from safjax import losses, rules
from safjax.nn import LIF, Dropout, LeakyReadout, Synapse
from tests import nets

pytestmark = pytest.mark.usefixtures("x64")

ALL_STEPS = {"bptt": rules.bptt(), "layerwise": rules.bptt(layerwise=True), "exodus": rules.exodus()}
STEPWISE = [name for name, make in rules.RULES.items() if not make().schedule.sees_all_steps]


class Spikes(nnx.Module):
    """Two layers whose output is the spikes of the last."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.lif1 = Synapse(nets._dense(7, 9, rngs)), LIF(0.8)
        self.second, self.lif2 = Synapse(nets._dense(9, nets.CLASSES, rngs)), LIF(0.8)

    def __call__(self, x):
        return self.lif2(self.second(self.lif1(self.first(x))))


def sequence(steps=12, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 1.2, (steps, nets.BATCH, 7)))


def spike_train():
    return jnp.asarray(np.random.default_rng(5).random((12, nets.BATCH, nets.CLASSES)) < 0.3, jnp.float64)


def written_out(outputs, kind):
    """The losses as NumPy loops, from their definitions."""
    outputs = np.asarray(outputs)
    if kind == "max":
        return float(
            nets.loss(jnp.asarray([[max(outputs[:, b, c]) for c in range(4)] for b in range(3)]), nets.labels())
        )
    if kind == "sum":
        return float(nets.loss(jnp.asarray(sum(outputs)), nets.labels()))
    if kind == "count":
        return sum(0.5 * np.sum((sum(outputs)[b] - 3.0) ** 2) for b in range(3)) / 3
    total, ours, theirs = 0.0, 0.0, 0.0
    for output, target in zip(outputs, np.asarray(spike_train()), strict=True):
        ours, theirs = 0.7 * ours + output, 0.7 * theirs + target
        total += 0.5 * np.sum((ours - theirs) ** 2)
    return total / 3


CASES = {
    "max": (losses.max_over_time(nets.loss), nets.labels, nets.Dense),
    "sum": (losses.sum_over_time(nets.loss), nets.labels, nets.Dense),
    "count": (losses.spike_count(), lambda: jnp.full((3, 4), 3.0), Spikes),
    "van rossum": (losses.van_rossum(0.7), lambda: losses.Timed(spike_train()), Spikes),
}


@pytest.mark.parametrize("kind", CASES)
def test_losses_of_the_whole_sequence(kind):
    """Each has the value of its definition; all rules that see the whole sequence agree on its gradient."""
    loss, targets, net = CASES[kind]
    results = {
        name: safjax.value_and_grad(loss, rule, outputs="all")(net(), sequence(), targets())
        for name, rule in ALL_STEPS.items()
    }
    (value, aux), expected = results["bptt"]
    nets.assert_fires(aux.rates)
    np.testing.assert_allclose(value, written_out(aux.outputs, kind), rtol=1e-12)
    for name in ("layerwise", "exodus"):
        (ours, _), grads = results[name]
        np.testing.assert_allclose(ours, value, rtol=1e-12)
        nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_training_on_a_spike_train():
    """EXODUS brings the output spikes nearer to a target train in van Rossum's distance."""
    net = Spikes()
    step = safjax.train_step(losses.van_rossum(0.7), rules.exodus(), optax.adam(0.02), outputs="all")
    opt_state, values = step.init(net), []
    for _ in range(60):
        net, opt_state, (value, _) = step(net, opt_state, sequence(), losses.Timed(spike_train()))
        values.append(float(value))
    assert min(values[-10:]) < 0.6 * values[0]


@pytest.mark.parametrize("name", STEPWISE)
def test_step_by_step_rules_refuse_a_loss_of_the_whole_sequence(name):
    with pytest.raises(ValueError, match=rf"'{name}' takes its loss step by step.*safjax.losses.Timed.*exodus\(\)"):
        safjax.value_and_grad(losses.max_over_time(nets.loss), rules.RULES[name](), outputs="all")


def test_a_timed_target_must_have_the_length_of_the_sequence():
    with pytest.raises(ValueError, match=r"shape \(5, 3\), but the sequence has T = 12"):
        safjax.value_and_grad(nets.loss, rules.bptt(), outputs="all")(
            nets.Dense(), sequence(), losses.Timed(jnp.zeros((5, 3), int))
        )
    with pytest.raises(ValueError, match=r"shape \(\), but the sequence has T = 12"):
        safjax.value_and_grad(nets.loss, rules.bptt(), outputs="all")(
            nets.Dense(), sequence(), losses.Timed(jnp.zeros((), int))
        )


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan")])
def test_the_decay_of_a_filter_is_a_fraction(decay):
    with pytest.raises(ValueError, match=rf"van_rossum.decay={decay}"):
        losses.van_rossum(decay)


@pytest.mark.parametrize("name", ["exodus", "sltt", "saf_e", "ide"])
def test_a_constant_timed_target_is_the_target(name):
    timed = losses.Timed(jnp.broadcast_to(nets.labels(), (12, nets.BATCH)))
    rule = rules.RULES[name]()
    (value, aux), grads = safjax.value_and_grad(nets.loss, rule, outputs="all")(nets.Dense(), sequence(), timed)
    nets.assert_fires(aux.rates)
    (expected_value, _), expected = safjax.value_and_grad(nets.loss, rule, outputs="all")(
        nets.Dense(), sequence(), nets.labels()
    )
    np.testing.assert_allclose(value, expected_value, rtol=1e-13)
    nets.assert_trees_close(grads, expected, rtol=1e-12)


def test_each_step_has_its_own_target():
    """The gradient of an online rule is the mean of those of its steps: the labels of one step matter to it alone."""
    labels = jnp.asarray(np.random.default_rng(3).integers(0, nets.CLASSES, (12, nets.BATCH)))
    compute = safjax.value_and_grad(lambda o, y, w: w * nets.loss(o, y), rules.ottt_a(), outputs="all")
    (_, aux), grads = compute(nets.Dense(), sequence(), losses.Timed(labels), losses.Timed(jnp.ones(12)))
    nets.assert_fires(aux.rates)
    total = jax.tree.map(jnp.zeros_like, grads)
    for t in range(12):
        _, one = compute(nets.Dense(), sequence(), labels[t], losses.Timed(jnp.zeros(12).at[t].set(1.0)))
        total = jax.tree.map(jnp.add, total, one)
    nets.assert_trees_close(total, grads, rtol=1e-11)
    pair = safjax.value_and_grad(lambda o, both: both["w"] * nets.loss(o, both["y"]), rules.ottt_a(), outputs="all")
    _, nested = pair(nets.Dense(), sequence(), {"y": losses.Timed(labels), "w": 1.0})
    nets.assert_trees_close(nested, grads, rtol=1e-11)
    compute = safjax.value_and_grad(nets.loss, rules.saf_f(), outputs="all")
    *_, last = compute(nets.Dense(), sequence(), losses.Timed(labels))
    *_, expected = compute(nets.Dense(), sequence(), labels[-1])
    nets.assert_trees_close(last, expected, rtol=1e-12)


def switching(rule, updates=True, steps=240):
    """One long sequence of a constant input whose label switches in the middle: the share of correct answers in the
    last quarter before the switch and in the last quarter of all."""
    net = nets.Dense(decay=0.5)
    x = jnp.broadcast_to(sequence(1)[0], (steps, nets.BATCH, 7))
    before, after = nets.labels(), (nets.labels() + 1) % nets.CLASSES
    labels = jnp.where(jnp.arange(steps)[:, None] < steps // 2, before, after)
    step = safjax.train_step(nets.loss, rule, optax.adam(0.02 if updates else 0.0), outputs="all")
    _, _, (_, aux) = step(net, step.init(net), x, losses.Timed(labels))
    correct = (aux.outputs.argmax(-1) == labels).mean(1)
    return correct[steps * 3 // 8 : steps // 2].mean(), correct[steps * 7 // 8 :].mean()


@pytest.mark.parametrize("name", ["saf_e", "ottt_o"])
def test_rules_that_update_at_every_step_follow_a_label_that_switches(name):
    """Within one sequence they learn the first label, and the second after the switch; without updates neither."""
    first, second = switching(rules.RULES[name]())
    assert first > 0.9 and second > 0.9
    first, second = switching(rules.RULES[name](), updates=False)
    assert min(first, second) < 0.7


def test_dropout_and_sequence_losses_go_together():
    net = nnx.Sequential(Synapse(nets._dense(7, 9, nnx.Rngs(0))), LIF(), Dropout(0.3, rngs=nnx.Rngs(1)), LeakyReadout())
    loss = losses.sum_over_time(lambda o: jnp.mean(o**2))
    for rule in ALL_STEPS.values():
        (value, _), _ = safjax.value_and_grad(loss, rule, outputs="all")(net, sequence())
        assert value > 0
