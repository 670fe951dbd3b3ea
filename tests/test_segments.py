"""Back-propagation through segments that are computed twice: the gradient of all steps at once, in less memory."""

import jax.numpy as jnp
import optax
import pytest

import safjax
from safjax import rules
from tests import nets

CASES = {
    "a still image": (nets.image, nets.STEPS),
    "a sequence": (nets.video, None),
}


def gradients(rule, x, steps, **options):
    compute = safjax.value_and_grad(nets.loss, rule, steps, outputs="all", record=("spikes",))
    (value, aux), grads = compute(nets.Conv(), x, nets.labels(), **options)
    return (value, aux.outputs, aux.rates, aux.records), grads


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_all_steps(case):
    """Segments that divide the five steps, that do not, one, and more than there are steps."""
    make, steps = CASES[case]
    expected = gradients(rules.bptt(), make(), steps)
    nets.assert_fires(expected[0][2])
    for segments in (1, 2, 4, 7):
        found = gradients(rules.bptt(segments=segments), make(), steps)
        nets.assert_trees_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_of_members_of_several_lengths():
    lengths = jnp.array([5, 2, 4])
    expected = gradients(rules.bptt(), nets.video(), None, lengths=lengths)
    found = gradients(rules.bptt(segments=2), nets.video(), None, lengths=lengths)
    nets.assert_trees_close(found, expected, rtol=1e-12, atol=1e-14)


def temporary(rule, steps):
    net = nets.Dense(sizes=(7, 64, 64))
    step = safjax.train_step(nets.loss, rule, optax.sgd(0.1), steps)
    x, y = jnp.ones((32, 7)), jnp.zeros(32, jnp.int32)
    return step.lower(net, step.init(net), x, y).compile().memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_root_of_time():
    few, many = temporary(rules.bptt(segments=8), 64), temporary(rules.bptt(segments=16), 256)
    assert many < 2.4 * few
    assert temporary(rules.bptt(), 256) > 4 * many


@pytest.mark.parametrize("segments", [0, -1, 2.0, True, "auto"])
def test_what_is_no_number_of_segments_is_refused(segments):
    with pytest.raises(ValueError, match="expected a whole number ≥ 1, into how many parts"):
        rules.bptt(segments=segments)
