"""Dropout with one mask a sequence."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import Message
from safjax.nn.calls import layer_call
from safjax.nn.module import SpikingModule
from safjax.nn.numbers import checked_rngs
from safjax.state import keys_of_each


class SequenceKey(nnx.Variable[Any]):
    """The random key of the present sequence."""


def drawn(stream: nnx.RngStream) -> jax.Array:
    """The stream's next key; of one that `nnx.vmap` stacked for a stack of layers, the next of each."""
    keys = stream.key[...]
    if not keys.ndim:
        return stream()
    fold = jax.random.fold_in
    for _ in range(keys.ndim):
        fold = jax.vmap(fold)
    counts = stream.count[...]
    stream.count.set_value(counts + 1)
    return fold(keys, counts)


class Dropout(SpikingModule):
    """Silences each neuron with probability p for a whole sequence and scales the others by 1/(1 − p).

    The mask is drawn once for each sequence and each sample, so spikes and their traces or sums lose the same neurons.
    `net.eval()` turns it off, `net.train()` on; `safjax.predict` runs without it.

    Args:
      rate: p ∈ [0, 1).
      rngs: its stream "dropout" gives the keys.
    """

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(f"Dropout(rate={rate!r}): the fraction of silenced neurons must lie in [0, 1).")
        self.rate = rate
        self.deterministic = False
        self.rngs = checked_rngs(self, rngs)["dropout"].fork()
        self.key = SequenceKey(self.rngs())

    def start_sequence(self) -> None:
        """Draws the key of the next sequence."""
        self.key.set_value(drawn(self.rngs))

    @layer_call
    def __call__(self, x: Any, /) -> Any:
        self.bound()
        if self.deterministic or self.rate == 0:
            return x
        x = self.message(x)
        shape = x.step_shape if isinstance(x, Message) else x.shape
        keys = keys_of_each(self.key.get_value(), shape[0], 0)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape[1:]))(keys)

        def apply(a: jax.Array) -> jax.Array:
            return jnp.where(keep, jnp.asarray(1 / (1 - self.rate), a.dtype), 0) * a

        return x.map_linear(apply) if isinstance(x, Message) else apply(x)
