"""Where errors end: local losses, and errors that are broadcast from the output."""

from typing import Any

import jax

from safjax.messages import is_message


def detach(x: Any) -> Any:
    """What a layer sends, with whatever the rule makes of it, traces, rates or means; but no error comes back.

    What stands behind learns as before. What stands in front learns nothing of what stands behind, only of losses of
    its own: between blocks, each with a readout, it makes the losses local (TESS, DECOLLE).

        block1 = self.lif1(self.first(x))
        block2 = self.lif2(self.second(detach(block1)))
        return self.readout1(self.local1(block1)), self.readout2(self.local2(block2))    # the loss adds both up

    And `s - detach(s)` is zero with the gradient of s. Through a fixed matrix B it brings the error of the output o to
    the layer, dL/ds = Bᵀ dL/do, in the place of the one that came through the layers between (direct feedback
    alignment, random e-prop):

        current = self.last(detach(s2)) + self.b1(s1 - detach(s1)) + self.b2(s2 - detach(s2))
        return self.readout(current)

    with `self.b1 = Synapse(fixed(nnx.Linear(64, 10, use_bias=False, rngs=rngs)))`: without biases, which would be added
    to the output. Every rule trains such nets. Under `bptt()`, `detach(self.delay.recall())` leaves recurrence out of
    the gradient. An error that nobody sends is not computed: each cut saves the product of an error with the weights
    behind it and, but under `bptt()` step by step, the memory in which layers wait for each other's errors.

    It is also a layer: nnx.Sequential(block1, detach, block2).

    Args:
      x: of one step, what a spiking layer returned, or a plain array.

    Raises:
      TypeError: x is neither.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse, detach
      >>> first, second = (Synapse(nnx.Linear(3, 3, rngs=nnx.Rngs(i))) for i in range(2))
      >>> net = nnx.Sequential(first, LIF(), detach, second, LeakyReadout())
      >>> loss_and_grad = safjax.value_and_grad(lambda output: jnp.sum(output**2), safjax.rules.ottt_a(), steps=4)
      >>> _, grads = loss_and_grad(net, jnp.ones((2, 3)))
      >>> [bool(jnp.any(grads["layers"][place]["layer"]["kernel"])) for place in (0, 3)]
      [False, True]
    """
    if is_message(x):
        return x.detached()
    if not hasattr(x, "shape"):
        raise TypeError(
            f"safjax.nn.detach was given a {type(x).__name__}, but expected is what a layer returns, or an array "
            "[B, ...]. Of several write tuple(map(detach, xs))."
        )
    return jax.lax.stop_gradient(x)
