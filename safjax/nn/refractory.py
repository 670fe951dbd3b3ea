"""Neurons with a refractory period."""

from typing import Any

from safjax.neurons import RefractoryCell
from safjax.nn.neurons import Neuron
from safjax.nn.numbers import checked_whole
from safjax.nn.wrappers import unwrapped


class Refractory(Neuron):
    """Neurons that after a spike may not fire for n steps, whatever neurons they are otherwise.

    In these steps s[t] = 0 and

        m[t] = m[t−1]   the membrane stays as the spike left it, and its current is lost: the default, as in norse
        m[t] = u[t]     `integrate=True`: the membrane goes on integrating, and spikes alone are suppressed, as in
                        Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking neurons",
                        2020

    Synaptic filters and adaptation go on in both. How many steps remain is a constant in gradients. Rules that
    accumulate, and closed forms (EXODUS, SLAYER), refuse it.

    Args:
      neuron: LIF, IF, PLIF, CurrentLIF or ALIF; or of one's own, whose cell has a method
        silent(state, current, held) ↦ state after a step in which it may not fire.
      steps: n ≥ 1.
      integrate: whether the membrane integrates its current in these steps.

    Raises:
      TypeError: neuron is no such neuron.
      ValueError: steps is no whole number ≥ 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Refractory, ResetTo
      >>> net = nnx.Sequential(Refractory(LIF(reset=ResetTo(0.0)), steps=2), LeakyReadout())
      >>> run = safjax.simulate(net, jnp.array([[1.2]]), steps=7)
      >>> run.spikes["layers.0"].ravel().astype(int).tolist()
      [1, 0, 0, 1, 0, 0, 1]
    """

    def __init__(self, neuron: Neuron, steps: int, *, integrate: bool = False):
        if not isinstance(neuron, Neuron) or not neuron.stepwise or not hasattr(neuron.cell(), "silent"):
            given = f"the class {neuron.__name__}" if isinstance(neuron, type) else f"a {type(neuron).__name__}"
            raise TypeError(
                f"Refractory(neuron=...): expected neurons that go step by step and have a membrane, for instance "
                f"Refractory(LIF(), steps=3), but was given {given}. The cell of neurons of one's own tells by a "
                "method silent(state, current, held) what a step is in which they may not fire."
            )
        self.neuron = neuron
        self.steps = checked_whole(self, "steps", steps, "for which these neurons may not fire after a spike")
        self.integrate = integrate

    def cell(self) -> Any:
        """`RefractoryCell` of the neurons' present constants."""
        # In tables NNX puts wrappers around methods, which take and return arrays only.
        cell = unwrapped(type(self.neuron).cell)(self.neuron)
        return RefractoryCell(cell, self.steps, not self.integrate)
