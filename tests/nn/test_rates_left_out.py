"""Training without the firing rates, which cost kernels on accelerators."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import safjax
from safjax import rules
from tests import nets


def test_without_rates_nothing_else_changes():
    """And whoever asks for them is told how to have them."""
    for make in (rules.bptt, rules.saf_f, rules.saf_e, rules.exodus):
        (value, aux), grads = safjax.value_and_grad(nets.loss, make(), 3)(nets.Dense(), jnp.ones((3, 7)), nets.labels())
        quiet = safjax.value_and_grad(nets.loss, make(), 3, rates=False)
        (same, left_out), others = quiet(nets.Dense(), jnp.ones((3, 7)), nets.labels())
        assert list(aux.rates) and float(value) == pytest.approx(float(same), rel=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), grads, others)
        with pytest.raises(ValueError, match="rates=False"):
            left_out.rates["lif1"]


def test_a_training_step_without_rates_has_no_reduction_of_spikes():
    def reductions(rates):
        net = nets.Dense()
        step = safjax.train_step(nets.loss, rules.saf_f(), optax.sgd(0.1), 3, rates=rates)
        text = step.lower(net, step.init(net), jnp.ones((3, 7)), nets.labels()).as_text()
        return text.count("stablehlo.reduce(")

    # Of two layers, in the loop and at the last step.
    assert reductions(True) - reductions(False) == 4
