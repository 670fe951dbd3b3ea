"""Layers that see all time steps of what passes through them: attention over time, convolutions over time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import AveragedSequence, Message, Sequence, Silence
from safjax.nn.calls import layer_call
from safjax.nn.layout import Layout, laid_out
from safjax.nn.module import SpikingModule
from safjax.nn.outside import refused_outside
from safjax.nn.plain import plain_attributes, refuse_changed
from safjax.nn.states import join, modules


class AcrossTime(SpikingModule):
    """Makes a layer or function of whole sequences a part of a net: y = f(x), x[T, B, ...] ↦ y[T, B, ...].

        AcrossTime(TemporalAttention(steps=10, rngs=rngs))
        AcrossTime(lambda x: x - x.mean(0))

    f may mix time steps as it likes, later ones with earlier ones too, such as the attention of Yao et al.,
    "Temporal-wise attention spiking neural networks for event streams classification", ICCV 2021, or the convolution of
    Zhu et al., "TCJA-SNN: temporal-channel joint attention for spiking neural networks", 2022. It is given the
    spikes or currents of all steps; of an image that is presented at every step, T copies.

    For rules that go layer by layer: bptt(layerwise=True), exodus() and slayer(), which see the layer as JAX
    differentiates it. `safjax.predict` and `safjax.simulate` run a net that has one layer by layer, too.

    Args:
      layer: f, an `nnx.Module` or a function. It keeps the first two axes.

    Raises:
      TypeError: layer is neither.
      ValueError: f changes T or B.
      ValueError (when a rule meets the net): the rule goes step by step; the sequence goes on from call to call, or
        members have lengths of their own, whose steps f would mix with others.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, AcrossTime, InstantReadout
      >>> net = nnx.Sequential(LIF(), AcrossTime(lambda x: x - x.mean(0)), InstantReadout())
      >>> outputs = safjax.predict(net, jnp.array([[0.6]]), steps=9)
      >>> abs(float(outputs.sum())) < 1e-6
      True
    """

    stepwise = False

    def __init__(self, layer: nnx.Module | Callable[[jax.Array], jax.Array]):
        if not callable(layer) or isinstance(layer, type):
            given = f"the class {layer.__name__}" if isinstance(layer, type) else f"one of type {type(layer).__name__}"
            raise TypeError(
                "AcrossTime(...): expected a layer or a function of one array x[T, B, ...], for instance "
                f"AcrossTime(lambda x: x - x.mean(0)), but was given {given}."
            )
        self.layer = layer if isinstance(layer, nnx.Module) else nnx.Sequential(layer)

    @layer_call
    def __call__(self, x: Any, /) -> Any:
        message, binding = self.message(x), self.bound()
        if isinstance(message, Silence):
            return message
        for reason in self._reasons(message):
            binding.refuse(reason)
        if binding.propagation.whole_sequence and not isinstance(message, AveragedSequence):
            return Sequence(self._called(message.computed().unrolled()), binding.course.steps, False)
        # After a refusal: something of the right shape.
        return message.map_linear(self._one_step) if isinstance(message, Message) else self._one_step(message)

    def _called(self, x: jax.Array) -> jax.Array:
        """y[T, B, ...] of x[T, B, ...]."""
        binding, layout = self.bound(), Layout(x.shape[0], x.shape[0])
        with laid_out(layout):
            y = self.layer(x) if binding.discovering is None else self._looked_at(x)
        if jnp.shape(y)[:2] != x.shape[:2]:
            raise ValueError(
                f"The layer in AcrossTime at '{binding.path}' made an array of shape {list(jnp.shape(y))} of one of "
                f"shape {list(x.shape)}, but expected is [{x.shape[0]}, {x.shape[1]}, ...]: it keeps the first two "
                "axes, time and batch."
            )
        return y

    def _one_step(self, x: jax.Array) -> jax.Array:
        return self._called(jnp.broadcast_to(x, (self.bound().course.steps, *x.shape)))[0]

    def _looked_at(self, x: jax.Array) -> jax.Array:
        """f(x), if its call neither reads nor changes what it must not."""
        binding = self.bound()
        for path, module in modules(self.layer):
            if isinstance(module, SpikingModule):
                binding.refusals.stop(
                    binding.path,
                    f"The AcrossTime at '{binding.path}' holds a {type(module).__name__}, at "
                    f"'{join(('layer', *path))}'. Its layer is a function of arrays; put neurons, synapses, readouts "
                    "and dropout beside it, not inside.",
                )
        before = plain_attributes(self.layer)
        with refused_outside(self.layer, binding.path, binding.refusals, "AcrossTime"):
            y = self.layer(x)
        refuse_changed(before, self.layer, binding.refusals, f"the AcrossTime at '{binding.path}'")
        return y

    def _reasons(self, message: Any) -> list[str]:
        """Why it cannot be computed so."""
        binding = self.bound()
        here = f"The AcrossTime at '{binding.path}'"
        if not binding.propagation.whole_sequence:
            return [
                f"{here} needs all time steps of its input at once, but the rule '{binding.rule}' goes step by step. "
                "It is trained by rules that go layer by layer."
            ]
        if binding.propagation.one_map is not None:
            return [
                f"{here} tells time steps apart, but the rule '{binding.rule}' {binding.propagation.one_map}. It is "
                "trained by exodus() or bptt(layerwise=True)."
            ]
        found = []
        if binding.course.part_of is not None:
            found.append(
                f"{here} needs all time steps of a sequence at once, but the rule '{binding.rule}' was told to go in "
                "segments. Leave segments out."
            )
        elif binding.course.open:
            found.append(
                f"{here} needs all time steps of a sequence at once, so it cannot go on from the state of an earlier "
                "call. Give the net whole sequences, without state."
            )
        if binding.course.padded:
            found.append(
                f"{here} may mix all time steps of a sequence, so that those beyond a member's length would count. "
                "Give the net sequences of one length, without lengths."
            )
        return found
