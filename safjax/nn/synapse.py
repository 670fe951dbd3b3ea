"""The synapse: everything that stands between neurons."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from safjax.affine import nonaffine_operation
from safjax.messages import AveragedSequence, Kept, Sequence, Silence
from safjax.nn.batch_norm import BatchNorm
from safjax.nn.calls import layer_call
from safjax.nn.dtypes import keep_biases_wide
from safjax.nn.layout import Layout, laid_out, layout_of
from safjax.nn.mixed_members import refuse_mixing
from safjax.nn.module import Binding, SpikingModule
from safjax.nn.outside import refused_outside
from safjax.nn.plain import plain_attributes, refuse_changed
from safjax.nn.shared_weights import refuse_batched_weights, refuse_shared_weights
from safjax.nn.states import join, modules, split
from safjax.nn.step_index import tells_steps
from safjax.nn.synapse_inputs import refuse_batches, refuse_number, refuse_result
from safjax.nn.traced_layers import traced_layer


class Synapse(SpikingModule):
    """Makes an ordinary layer or function act on messages, as the rule that trains the net prescribes.

        Synapse(nnx.Linear(64, 10, rngs=rngs))
        Synapse(nnx.Sequential(pool, nnx.Conv(64, 128, (3, 3), rngs=rngs)))
        Synapse(lambda x: 2.74 * x)

    It joins several streams if its layer takes as many arrays: what neurons and synapses return, and plain arrays such
    as the net's input, all of one time step.

        self.both = Synapse(lambda a, b: a * b)           # in __init__; in __call__: self.both(spikes, others)
        self.attention = Synapse(lambda q, k, v: scale * (q @ k.mT) @ v)

    Under rules that exchange spikes (BPTT, EXODUS, SLAYER, SLTT) it is the layer itself; layer by layer it sees a batch
    of all steps, so a layer that takes statistics of its batch has to know them, as `BatchNorm` does, and a function
    that mixes the members of its batch in another way (a softmax over axis 0, a roll) is refused there. Under rules
    that accumulate (OTTT, SAF, SR) the layer must be the same at every step and affine in its input, of several inputs
    in all of them together: convolutions, dense layers, average pooling, reshapes, sums and concatenations, but no
    product of two inputs.

    Args:
      layer: an `nnx.Module` or a function, from one or several arrays [B, ...] to one [B, ...].

    Raises (when a rule meets the net):
      TypeError: another number of inputs than the layer takes, an input that is no array, a result that is none.
      ValueError: the rule accumulates and the layer is not affine, or it changes its own state from step to step; of
        several inputs, batches of different sizes; the layer mixes the members of its batch, where time steps lie in
        it, or members have lengths of their own.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> pooled = nnx.Sequential(lambda x: safjax.ops.avg_pool(x, (2, 2)), nnx.Conv(1, 3, (3, 3), rngs=nnx.Rngs(0)))
      >>> net = nnx.Sequential(Synapse(pooled), LIF(), Synapse(lambda x: x.reshape(x.shape[0], -1)), LeakyReadout())
      >>> safjax.predict(net, jnp.ones((5, 8, 8, 1)), steps=4).shape
      (4, 5, 48)
    """

    def __init__(self, layer: nnx.Module | Callable[..., jax.Array]):
        if not callable(layer) or isinstance(layer, type):
            given = f"the class {layer.__name__}" if isinstance(layer, type) else f"one of type {type(layer).__name__}"
            raise TypeError(
                f"Synapse(...): expected a layer or a function of arrays, for instance Synapse(nnx.Linear(64, 10, "
                f"rngs=rngs)), but was given {given}."
            )
        self.layer = layer if isinstance(layer, nnx.Module) else nnx.Sequential(layer)

    @layer_call(prepare=lambda synapse, *_: keep_biases_wide(synapse))
    def __call__(self, x: Any, /, *others: Any) -> Any:
        binding, messages = self.bound(), self._messages((x, *others))
        if messages is None:
            return Silence()
        graphdef, params, rest = split(self.layer, nnx.Param)
        changeable = not binding.propagation.accumulates and (bool(jax.tree.leaves(rest)) or tells_steps(self.layer))
        if changeable:
            messages = [self._spread(message) for message in messages]
        layout = layout_of(*messages)

        def called(layer: Any, *xs: jax.Array) -> Any:
            with laid_out(layout):
                return _looked_at(layer, xs, binding) if binding.discovering is not None else layer(*xs)

        def function(params: Any, rest: Any, *xs: jax.Array) -> Any:
            return called(nnx.merge(graphdef, params, rest, copy=True), *xs)

        if binding.discovering is not None and not binding.discovering.naming:
            refuse_mixing(binding, self.layer, called, messages)
        if binding.discovering is not None and binding.propagation.one_map is not None:
            self._refuse_other_maps(params, rest, messages)
        if not binding.propagation.accumulates:
            if changeable:
                # It may change its own state, batch statistics for instance, which must come out of the call.
                return binding.propagation.synapse(lambda _, *xs: called(self.layer, *xs), (), *messages)
            return binding.propagation.synapse(lambda params, *xs: function(params, rest, *xs), params, *messages)
        return self._accumulated(called, params, rest, messages)

    def _messages(self, inputs: tuple[Any, ...]) -> list[Any] | None:
        """The inputs as messages; None where one of them is not known yet."""
        binding = self.bound()
        if binding.discovering is not None:
            self._refuse_neurons()
            refuse_number(self.layer, inputs, binding.path)
        messages = [self.message(x, place) for place, x in enumerate(inputs)]
        if any(isinstance(message, Silence) for message in messages):
            return None
        if binding.discovering is not None and len(inputs) > 1:
            refuse_batches(messages, binding.path)
        return messages

    def _accumulated(self, called: Callable[..., Any], params: Any, rest: Any, messages: list[Any]) -> Any:
        """The layer, so called, of messages that are sums over time."""
        binding, values = self.bound(), tuple(message.value for message in messages)
        anew = self.read("traces") is not None
        traced = traced_layer(binding, self.layer, called, params, rest, values)
        if binding.discovering is not None and not binding.discovering.naming:
            # Once is enough.
            self._refuse_changes(traced.changes())
            if not binding.propagation.per_weight:
                anew = self._refuse_nonaffine(traced.nonaffine_operation(), params, len(values))
        # What depends on the parameters alone, such as a standardised kernel, is computed outside the part that each
        # step differentiates, and so leaves the time loop.
        prelude, body = traced.hoisted
        if binding.propagation.per_weight:
            one = tuple(value[:1] for value in values)
            alone, of_one = traced_layer(binding, self.layer, called, params, rest, one).hoisted
            if jax.eval_shape(prelude, params, rest) != jax.eval_shape(alone, params, rest):
                refuse_batched_weights(binding)
            return self._for_each_weight((body, of_one), prelude(params, rest), messages)
        made = binding.propagation.synapse(lambda w, *xs: body(*w, xs), prelude(params, rest), *messages)
        return self._traced_anew(made) if anew else made

    def _traced_anew(self, made: Any) -> Any:
        """The result of what is not affine, whose sums over time are not those of its input."""
        self.once("traces")
        state, fresh = self.bound().propagation.encode(self.read("traces"), made.value, self.bound().course)
        self.write("traces", state)
        return made.traced_as(fresh)

    def _for_each_weight(
        self,
        bodies: tuple[Callable[..., Any], Callable[..., Any]],
        made: tuple[list[Any], list[Any]],
        messages: list[Any],
    ) -> Any:
        """body(*made, inputs), of the batch or of one member, where each learned weight has its own derivative."""
        binding, batch, (learned, fixed) = self.bound(), messages[0].step_shape[0], made

        def function(weights: list[Any], *xs: jax.Array) -> Any:
            return bodies[len(xs[0]) != batch](weights, fixed, xs)

        if binding.discovering is not None and not binding.discovering.naming:
            refuse_shared_weights(binding, function, learned, messages)
        return binding.propagation.synapse(function, learned, *messages)

    def _spread(self, message: Any) -> Any:
        """What comes of a quicker form of it, and over all steps where the layer gives each of them its own result."""
        message = message.computed() if isinstance(message, Kept) else message
        if isinstance(message, AveragedSequence):
            return message
        if isinstance(message, Sequence) and (nnx.state(self.layer, nnx.RngState) or tells_steps(self.layer)):
            return Sequence(message.unrolled(), message.steps, False)
        return message

    def _refuse_neurons(self) -> None:
        for path, module in modules(self.layer):
            if isinstance(module, SpikingModule):
                where = self.bound().path
                self.bound().refusals.stop(
                    where,
                    f"The Synapse at '{where}' holds a {type(module).__name__}, at '{join(('layer', *path))}'. A "
                    "synapse is what stands between neurons; put neurons, readouts and dropout beside it, not inside.",
                )

    def _refuse_other_maps(self, params: Any, rest: Any, messages: list[Any]) -> None:
        """Where only one affine map for all steps does to means, or to moved spikes, what it does to spikes."""
        binding, graphdef = self.bound(), nnx.graphdef(self.layer)
        if tells_steps(self.layer) or nnx.state(self.layer, nnx.RngState):
            binding.refuse(
                f"The Synapse at '{binding.path}' holds what is another map at each step, but the rule "
                f"'{binding.rule}' {binding.propagation.one_map}, which needs the same map at every step. Put "
                "safjax.nn.Dropout beside the synapse, and leave weights of single steps out."
            )
            return

        if not isinstance(messages[0], AveragedSequence):
            self._refuse_statistics()

        def evaluated(weights: tuple[Any, Any], xs: tuple[jax.Array, ...]) -> Any:
            layer = nnx.merge(graphdef, *weights, copy=True)
            layer.eval()
            with laid_out(Layout(1, 1)):
                return layer(*xs)

        assert binding.discovering is not None
        with binding.discovering.aside():
            steps = tuple(jax.ShapeDtypeStruct(m.step_shape, _dtype(m)) for m in messages)
            operation = nonaffine_operation(evaluated, (params, rest), steps)
        self._refuse_nonaffine(operation, params, len(steps))

    def _refuse_statistics(self) -> None:
        """Of a mean they are those of all steps; moved spikes would change them."""
        rule, one_map = self.bound().rule, self.bound().propagation.one_map
        for _, norm in modules(self.layer):
            if isinstance(norm, BatchNorm) and not norm.use_running_average:
                where = norm.bound().path
                norm.bound().refuse(
                    f"{type(norm).__name__} at '{where}' is in training, where it normalises by the batch's own "
                    f"statistics. The rule '{rule}' {one_map}, which needs one affine map for all steps. Call "
                    "net.eval() before to train with its running statistics as they are, or use weight standardisation "
                    "(safjax.nn.WSConv) in its place."
                )

    def _refuse_nonaffine(self, operation: str | None, params: Any, count: int) -> bool:
        """Whether the layer is not affine in its `count` inputs, by an operation, where the rule lets it stand."""
        if operation is None:
            return False
        if not self.bound().propagation.affine:
            if not jax.tree.leaves(params):
                return True
            self.bound().refuse(
                f"The rule '{self.bound().rule}' learns weights from sums over time of what enters them, so the "
                f"Synapse at '{self.bound().path}' must be affine, but it contains {operation}. Put what is not "
                "affine into a Synapse of its own, without weights, before or behind this one: Synapse(max_pool), "
                "Synapse(convolution)."
            )
            return False
        inputs, way_out = "its input", "average pooling instead of max pooling, a neuron instead of ReLU"
        if count > 1:
            inputs, way_out = f"its {count} inputs together", f"{way_out}, a sum instead of a product"
        one_map = self.bound().propagation.one_map
        does = "sends sums over time through" if one_map is None else f"{one_map} behind"
        self.bound().refuse(
            f"The rule '{self.bound().rule}' {does} the Synapse at '{self.bound().path}', so it must be affine in "
            f"{inputs}, but it contains {operation}. Use an affine layer ({way_out})."
        )
        return False

    def _refuse_changes(self, changes: list[str]) -> None:
        if changes:
            changed = f"layer.{changes[0]}"
            self.bound().refuse(
                f"The Synapse at '{self.bound().path}' changes its own state when called, '{changed}', but "
                f"the rule '{self.bound().rule}' needs the same map at every step. {_remedy(changed)}."
            )


def _dtype(message: Any) -> Any:
    return jax.tree.leaves(message)[0].dtype


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


def _looked_at(layer: nnx.Module, xs: tuple[jax.Array, ...], binding: Binding) -> jax.Array:
    """The result of the layer of the Synapse so bound, if its call neither reads nor changes what it must not."""
    # Not a method: what differentiates a function may outlive the trace whose variables a module holds.
    before = plain_attributes(layer)
    with refused_outside(layer, binding.path, binding.refusals):
        result = layer(*xs)
    refuse_changed(before, layer, binding.refusals, f"the Synapse at '{binding.path}'")
    refuse_result(result, xs, binding.path)
    return result
