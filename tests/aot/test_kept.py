"""What steps keep for their backward passes, as XLA compiles them for an H100; skipped without its compiler."""

import jax.numpy as jnp
from flax import nnx

import safjax
from safjax import rules
from safjax.aot import cost_of
from tests.aot import steps

T = 6
MAP = steps.BATCH * steps.SIDE**2 * steps.CHANNELS[0] * 4
"""Bytes of a layer's map, of which `deep` has DEEP of one size."""
DEEP = 6


def deep():
    """Convolutions whose maps are far larger than their kernels."""
    return safjax.models.SpikingVGG(10, cfg=(steps.CHANNELS[0],) * DEEP, rngs=nnx.Rngs(0))


def temporary(rule):
    [program] = steps.compiled("h100", {"step": steps.call(deep, rule, T)}).values()
    return cost_of(program).memory.temporary


def test_saf_keeps_no_rates():
    """Of each layer the sum of its spikes, which goes on to the next step, and u − θ; rates are made again of the sums.

    Kept, the rates of all layers but the last, which the weights' gradients read, would be five maps more.
    """
    assert 2 * DEEP * MAP < temporary(rules.saf_e()) < (2 * DEEP + 3) * MAP


def test_slopes_in_bfloat16_take_half():
    saved = temporary(rules.bptt()) - temporary(rules.bptt(slopes=jnp.bfloat16))
    assert 0.9 < saved / (T * DEEP * MAP / 2) < 1.1


def test_losses_and_rates_are_added_up_together():
    """In a step of the time loop: the net's own kernels, and a few that do not become more with its layers."""

    def each(rates):
        calls = {f"{n}": steps.call(steps.dense, rules.saf_f(), n, rates=rates) for n in (T, 2 * T)}
        few, many = (cost_of(program).kernels for program in steps.compiled("h100", calls).values())
        return (many - few) / T

    # A layer's rate is a reduction; adding them up is one kernel for all, and a copy.
    assert each(True) - each(False) <= 2 + 2
