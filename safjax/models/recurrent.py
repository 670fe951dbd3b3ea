"""Recurrent spiking nets for spike trains."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn import CurrentLIF, InstantReadout, LeakyReadout, Neuron, Recurrent, ResetTo, Synapse

SYNAPTIC_DECAY, DECAY = math.exp(-1), math.exp(-1 / 2)
"""exp(−Δ/τ) of 10 ms and 20 ms, for steps of 10 ms."""


def current_based(neurons: int) -> Neuron:
    """Neurons with a synaptic filter and a membrane, of 10 ms and 20 ms at steps of 10 ms, that are reset to zero."""
    del neurons
    return CurrentLIF(SYNAPTIC_DECAY, DECAY, reset=ResetTo(0.0))


class SpikingRNN(nnx.Module):
    """Layers of neurons that also receive their own spikes of the step before, and a dense readout.

        s_l[t] = neuron(W_l s_{l−1}[t] + V_l s_l[t−1])

    With sizes (700, 128, 20) and no biases it has the form of the recurrent net of Cramer, Stradmann, Schemmel &
    Zenke, "The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks", 2020, and
    700·128 + 128·128 + 128·20 = 108,544 weights; constants of neurons and first weights are our own. SHD is often
    binned to 140 inputs.

    Args:
      sizes: inputs, neurons of each hidden layer, classes; at least (inputs, hidden, classes).
      neuron: n ↦ n neurons, for instance `lambda n: ALIF(nnx.Param(jnp.full(n, 0.9)))`, each of which learns its own
        decay. It is called once for each hidden layer; the rules that train the net are those that train the neurons
        with recurrence.
      scale, recurrent_scale: weights are drawn from N(0, scale² / n) for n inputs.
      use_bias: whether W and the readout have biases, which start at 0.
      readout: of the final current; default `LeakyReadout` of 20 ms.
      param_dtype: dtype of the weights.
      rngs: its stream "params" initialises the weights.

    Raises:
      ValueError: fewer than three sizes, or a size that is none.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = safjax.models.SpikingRNN((140, 64, 20), rngs=nnx.Rngs(0))
      >>> safjax.predict(net, jnp.ones((50, 2, 140))).shape
      (50, 2, 20)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        neuron: Callable[[int], Neuron] = current_based,
        scale: float = 2.0,
        recurrent_scale: float = 0.5,
        use_bias: bool = False,
        readout: LeakyReadout | InstantReadout | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if len(sizes) < 3 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
            raise ValueError(
                f"SpikingRNN(sizes={tuple(sizes)!r}): expected the numbers of inputs, of neurons in each hidden layer "
                "and of classes, for instance (140, 128, 20)."
            )

        def dense(inputs: int, outputs: int, scale: float, use_bias: bool) -> Synapse:
            init = nnx.initializers.normal(scale / math.sqrt(inputs))
            options: dict[str, Any] = {"use_bias": use_bias, "param_dtype": param_dtype}
            return Synapse(nnx.Linear(inputs, outputs, kernel_init=init, rngs=rngs, **options))

        layers: list[Synapse | Recurrent] = []
        for inputs, neurons in itertools.pairwise(sizes[:-1]):
            own = dense(neurons, neurons, recurrent_scale, False)
            layers += [dense(inputs, neurons, scale, use_bias), Recurrent(neuron(neurons), own)]
        self.features = nnx.Sequential(*layers)
        self.classifier = dense(sizes[-2], sizes[-1], 1.0, use_bias)
        self.readout = LeakyReadout(DECAY) if readout is None else readout

    def __call__(self, x: Any) -> jax.Array:
        """One step: x[B, inputs] ↦ logits[B, classes]."""
        return self.readout(self.classifier(self.features(x)))
