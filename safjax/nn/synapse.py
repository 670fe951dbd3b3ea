"""The synapse: everything that stands between two neurons."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from safjax.affine import nonaffine_operation
from safjax.hoist import hoist
from safjax.messages import Kept, Sequence, Silence
from safjax.mixing import mixing_operation
from safjax.nn.calls import layer_call
from safjax.nn.dtypes import keep_biases_wide
from safjax.nn.layout import Layout, laid_out, layout_of
from safjax.nn.module import Binding, SpikingModule
from safjax.nn.outside import refused_outside
from safjax.nn.plain import plain_attributes, refuse_changed
from safjax.nn.states import join, split
from safjax.nn.statistics import is_unnamed


class Synapse(SpikingModule):
    """Makes an ordinary layer or function act on messages, as the rule that trains the net prescribes.

        Synapse(nnx.Linear(64, 10, rngs=rngs))
        Synapse(nnx.Sequential(pool, nnx.Conv(64, 128, (3, 3), rngs=rngs)))
        Synapse(lambda x: 2.74 * x)

    Under rules that exchange spikes (BPTT, EXODUS, SLAYER, SLTT) it is the layer itself; layer by layer it sees a batch
    of all steps, so a layer that takes statistics of its batch has to know them, as `BatchNorm` does, and a function
    that mixes the members of its batch in another way (a softmax over axis 0, a roll) is refused there. Under rules
    that accumulate (OTTT, SAF, SR) the layer must be affine in its input and the same at every step: convolutions,
    dense layers, average pooling, reshapes, sums.

    Args:
      layer: an `nnx.Module` or a function, from [B, ...] to [B, ...].

    Raises (when a rule meets the net):
      ValueError: the rule accumulates and the layer is not affine, or it changes its own state from step to step; the
        layer mixes the members of its batch, where time steps lie in it, or members have lengths of their own.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> pooled = nnx.Sequential(lambda x: safjax.ops.avg_pool(x, (2, 2)), nnx.Conv(1, 3, (3, 3), rngs=nnx.Rngs(0)))
      >>> net = nnx.Sequential(Synapse(pooled), LIF(), Synapse(lambda x: x.reshape(len(x), -1)), LeakyReadout())
      >>> safjax.predict(net, jnp.ones((5, 8, 8, 1)), steps=4).shape
      (4, 5, 48)
    """

    def __init__(self, layer: nnx.Module | Callable[[jax.Array], jax.Array]):
        if not callable(layer) or isinstance(layer, type):
            given = f"the class {layer.__name__}" if isinstance(layer, type) else f"one of type {type(layer).__name__}"
            raise TypeError(
                f"Synapse(...): expected a layer or a function of one array, for instance Synapse(nnx.Linear(64, 10, "
                f"rngs=rngs)), but was given {given}."
            )
        self.layer = layer if isinstance(layer, nnx.Module) else nnx.Sequential(layer)

    @layer_call(prepare=lambda synapse, _: keep_biases_wide(synapse))
    def __call__(self, x: Any) -> Any:
        message = self.message(x)
        binding = self.bound()
        if binding.discovering is not None:
            self._refuse_neurons()
        if isinstance(message, Silence):
            return message
        graphdef, params, rest = split(self.layer, nnx.Param)
        changeable = not binding.propagation.accumulates and bool(jax.tree.leaves(rest))
        if changeable:
            message = self._spread(message)
        layout = layout_of(message)

        def called(layer, x):
            with laid_out(layout):
                return _looked_at(layer, x, binding) if binding.discovering is not None else layer(x)

        def function(params, rest, x):
            return called(nnx.merge(graphdef, params, rest, copy=True), x)

        if binding.discovering is not None and not binding.discovering.naming:
            self._refuse_mixing(called, graphdef, params, rest, message)
        if not binding.propagation.accumulates:
            if changeable:
                # It may change its own state, batch statistics for instance, which must come out of the call.
                return binding.propagation.synapse(lambda _, x: called(self.layer, x), (), message)
            return binding.propagation.synapse(lambda params, x: function(params, rest, x), params, message)
        if binding.discovering is not None and not binding.discovering.naming:
            # Once is enough.
            self._refuse_changes(graphdef, params, rest, message.value)
            self._refuse_nonaffine(
                lambda weights, x: function(weights[0], weights[1], x), (params, rest), message.value
            )
        # What depends on the parameters alone, such as a standardised kernel, is computed outside the part that each
        # step differentiates, and so leaves the time loop.
        prelude, body = hoist(function, params, rest, message.value)
        return binding.propagation.synapse(lambda w, x: body(*w, x), prelude(params, rest), message)

    def _spread(self, message: Any) -> Any:
        """What comes of a quicker form of it, and over all steps where random numbers are drawn at each of them."""
        message = message.computed() if isinstance(message, Kept) else message
        if isinstance(message, Sequence) and nnx.state(self.layer, nnx.RngState):
            return Sequence(message.unrolled(), message.steps, False)
        return message

    def _refuse_neurons(self) -> None:
        for path, module in nnx.iter_modules(self.layer):
            if isinstance(module, SpikingModule):
                where = self.bound().path
                self.bound().refusals.stop(
                    where,
                    f"The Synapse at '{where}' holds a {type(module).__name__}, at '{join(('layer', *path))}'. A "
                    "synapse is what stands between neurons; put neurons, readouts and dropout beside it, not inside.",
                )

    def _refuse_mixing(self, called: Callable, graphdef: Any, params: Any, rest: Any, message: Any) -> None:
        """Where the batch holds more than the members of one step, all of which go on, a function must not mix it."""
        binding = self.bound()
        if binding.discovering is None or (layout_of(message).held == 1 and not binding.course.padded):
            return
        x = jax.tree.leaves(message)[0]
        lead = 2 if isinstance(message, Kept) or (isinstance(message, Sequence) and not message.still) else 1
        folded = jax.ShapeDtypeStruct((math.prod(x.shape[:lead]), *x.shape[lead:]), x.dtype)

        def function(params, rest, x):
            layer = nnx.merge(graphdef, params, rest, copy=True)
            return called(layer, x), split(layer, is_unnamed)[1]

        with binding.discovering.aside():
            closed = jax.make_jaxpr(function)(params, rest, folded)
        *inputs, _ = closed.jaxpr.invars
        if any(all(after is not before for before in inputs) for after in closed.jaxpr.outvars[1:]):
            # These are refused by their own name.
            return
        operation = mixing_operation(closed, [False] * len(inputs) + [True])
        if operation is not None:
            binding.refuse(_mixing_told(binding, operation))

    def _refuse_nonaffine(self, function, weights, x) -> None:
        operation = nonaffine_operation(function, weights, x)
        if operation is not None:
            self.bound().refuse(
                f"The rule '{self.bound().rule}' sends sums over time through the Synapse at '{self.bound().path}', "
                f"so it must be affine in its input, but it contains {operation}. Use an affine layer (average pooling "
                "instead of max pooling, a neuron instead of ReLU)."
            )

    def _refuse_changes(self, graphdef, params, rest, x) -> None:
        def called(params, rest, x):
            layer = nnx.merge(graphdef, params, rest, copy=True)
            with laid_out(Layout(1, 1)):
                layer(x)
            return split(layer, nnx.Param)[2]

        closed, shapes = jax.make_jaxpr(called, return_shape=True)(params, rest, x)
        first = len(jax.tree.leaves(params))
        before = dict(zip(_paths(rest), closed.jaxpr.invars[first:], strict=False))
        after = dict(zip(_paths(shapes), closed.jaxpr.outvars, strict=True))
        changes = [f"layer.{path}" for path in {**before, **after} if before.get(path) is not after.get(path)]
        if changes:
            self.bound().refuse(
                f"The Synapse at '{self.bound().path}' changes its own state when called, '{changes[0]}', but "
                f"the rule '{self.bound().rule}' needs the same map at every step. {_remedy(changes[0])}."
            )


def _mixing_told(binding: Binding, operation: str) -> str:
    told = f"The function in the Synapse at '{binding.path}' mixes the members of its batch, by {operation}. "
    if binding.course.padded:
        return (
            f"{told}With lengths some members have ended where others go on, so that what stands beyond a member's end "
            "would reach the others. Keep the members apart, or give the net sequences of one length, without lengths."
        )
    return (
        f"{told}Under the rule '{binding.rule}' all time steps lie in that batch, one after the other, so that steps "
        "would be mixed as well. For statistics of a batch write safjax.nn.BatchNorm(features, over='step'), which "
        "knows of time; everything else of the kind is trained by bptt() and sltt(), step by step."
    )


def _paths(rest: Any) -> list[str]:
    """The paths of the variables of a layer, in the order of its leaves."""
    return [join(getattr(part, "key", part) for part in path) for path, _ in jax.tree.leaves_with_path(rest)]


def _remedy(changed: str) -> str:
    """What to write in place of a layer that changes the variable at this path."""
    holder, linen, _ = changed.partition(".to_nnx__rngs")
    if linen:
        return (
            "A Linen module in nnx.bridge.ToNNX draws a random key at each call, needed or not. After lazy_init write "
            f"{holder}.to_nnx__rngs = None if it draws no random numbers (for dropout put safjax.nn.Dropout beside the "
            "synapse)"
        )
    return (
        "Use safjax.nn.Dropout beside the synapse for a fresh dropout mask, weight standardisation (safjax.nn.WSConv) "
        "instead of batch normalisation, or its running statistics as they are (net.eval())"
    )


def _looked_at(layer: nnx.Module, x: jax.Array, binding: Binding) -> jax.Array:
    """The result of the layer of the Synapse so bound, if its call neither reads nor changes what it must not."""
    # Not a method: what differentiates a function may outlive the trace whose variables a module holds.
    before = plain_attributes(layer)
    with refused_outside(layer, binding.path, binding.refusals):
        result = layer(x)
    refuse_changed(before, layer, binding.refusals, f"the Synapse at '{binding.path}'")
    return result
