"""Binding: from a Flax NNX net and a rule to one pure step function.

A spiking module knows nothing of rules or of its state until it is bound. Binding works on a copy of the net: it tells
every spiking module what travels between layers, runs the net once on shapes alone to find out which states there are,
and splits it into (params, constants, carry). States start from zero in every sequence, because every sequence starts
from a fresh copy: there is nothing to reset.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.messages import Silence, is_message
from safjax.nn.delay import Delay
from safjax.nn.module import Binding, Discovery, NeuronState, Observation, SpikingModule
from safjax.ops import conv_general_dilated
from safjax.rules import Course, Rule
from safjax.rules.sequences import unfold


class Bound(NamedTuple):
    """A net under a rule, as pure data and one pure function.

    Attributes:
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], observations[t]); under a rule that goes layer by
        layer, of all steps at once, see `safjax.loops.Task`.
      params: the learned parameters.
      constants: other variables that a step reads and leaves unchanged.
      carry: (neuron states, other variables that a step changes), at the start of the sequence.
    """

    step: Callable
    params: nnx.State
    constants: dict
    carry: tuple[nnx.State, dict]


def mean_rate(spikes: jax.Array) -> jax.Array:
    """The fraction of neurons that fire, over batch and layer."""
    return jnp.mean(jax.lax.stop_gradient(spikes))


def bind(net: nnx.Module, rule: Rule, x: Any, steps: int, static: bool, observe: Callable = mean_rate) -> Bound:
    """Binds `net` to `rule` for T = `steps` inputs like x, one step's input (arrays or shapes); changes `net` itself.

    Raises:
      ValueError: the net cannot be trained by the rule; the message names the layer and the way out.
    """
    course = Course(_net_decay(net, rule), steps, _batch(x), static)
    if rule.propagation.whole_sequence:
        x = x if static else jax.tree.map(lambda a: jax.ShapeDtypeStruct((steps * len(a), *a.shape[1:]), a.dtype), x)
    discovery = Discovery()
    for path, module in nnx.iter_modules(net):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is jax.lax.conv_general_dilated:
            # Same values; the stock gradients are slow inside a loop on CPU.
            module.conv_general_dilated = conv_general_dilated
        if isinstance(module, SpikingModule):
            module.binding = Binding(rule.name, rule.propagation, course, _join(path), observe, discovery)
            module.start_sequence()
    _discover_loops(net, rule, course, x, discovery)
    _, params, _, rest = split(net, nnx.Param, NeuronState)
    graphdef, states = _discover(net, rule, course, x, discovery)
    states = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), states)
    step = _step_function(graphdef, rule, course)
    changing = _changing(step, params, _flat(rest), states, x)
    constants = {path: value for path, value in _flat(rest).items() if path not in changing}
    carry = states, {path: value for path, value in _flat(rest).items() if path in changing}
    return Bound(step, params, constants, carry)


def split(module: nnx.Module, *types: type[nnx.Variable]) -> tuple:
    """(graphdef, state of each type, state of all others), the states as plain arrays."""
    graphdef, *states = nnx.split(module, *types, ...)
    return graphdef, *nnx.as_pure(tuple(states))


def _discover(
    net: nnx.Module, rule: Rule, course: Course, x: Any, discovery: Discovery, blank: bool = False
) -> tuple[Any, Any]:
    """Runs the net once on shapes alone: (its graph after the first step, the shapes of the neuron states).

    `blank` says that not all of its messages are known yet.
    """
    graphdef, params, rest = split(net, nnx.Param)
    discovery.begin()
    box = []

    def discover(params, rest, x):
        net = nnx.merge(graphdef, params, rest, copy=True)
        output = _call(net, x)
        if rule.propagation.whole_sequence:
            _unfolded(output, course)
        elif not blank:
            _check_output(output, rule)
        nnx.pop(net, Observation)
        _end_discovery(net)
        found, _, states, _ = split(net, nnx.Param, NeuronState)
        box.append(found)
        return states

    states = jax.eval_shape(discover, params, rest, x)
    return box[0], states


def _call(net: nnx.Module, x: Any) -> Any:
    try:
        return net(x)
    except TypeError as error:
        if Silence.__name__ not in str(error) or "safjax.nn.Synapse" in str(error):
            raise
        raise TypeError(
            "What a Delay recalls was given to a plain function. In a net with feedback it may be added to messages "
            "and scaled by a Python number; every other operation on it must stand in a safjax.nn.Synapse, for "
            "instance Synapse(lambda x: x.repeat(2, 1))(delay.recall())."
        ) from error


def _discover_loops(net: nnx.Module, rule: Rule, course: Course, x: Any, discovery: Discovery) -> None:
    """Gives every `Delay` of the net its first state, zeros of the shape of what is handed back in the first step.

    What it will hold comes later in the step than where it is read, so its shape takes a run of its own.
    """
    unknown = {path: module for path, module in nnx.iter_modules(net) if isinstance(module, Delay)}
    for module in unknown.values():
        module.begin_discovery()
    while unknown:
        _, states = _discover(net, rule, course, x, discovery, blank=True)
        found = {path: state for path in unknown if (state := _at(states, path)) is not None}
        # Delays in a row are found one after the other.
        for path in found or list(unknown):
            unknown.pop(path).end_discovery(found.get(path))


def _at(states: Any, path: tuple) -> Any:
    for part in (*path, "state"):
        states = states.get(part, {})
    return states or None


def rest_of(bound: Bound, carry: tuple[nnx.State, dict]) -> nnx.State:
    """The net's variables that are neither parameters nor neuron states, after a run that ended with `carry`."""
    return nnx.from_flat_state({**bound.constants, **carry[1]})


def _step_function(graphdef, rule: Rule, course: Course):
    def step(params, constants, carry, x):
        states, changing = carry
        rest = nnx.from_flat_state({**constants, **changing})
        net = nnx.merge(graphdef, params, states, rest, copy=True)
        output = net(x)
        observed = nnx.as_pure(nnx.pop(net, Observation))
        _, _, states, rest = split(net, nnx.Param, NeuronState)
        after = _flat(rest)
        observations = {_join(path[:-1]): value for path, value in _flat(observed).items()}
        if rule.propagation.whole_sequence:
            output = _unfolded(output, course)
        return (states, {path: after[path] for path in changing}), output, observations

    return step


def _changing(step, params, rest: dict, states, x) -> set:
    """The paths of those variables in `rest` that a step returns as other values than it was given."""
    paths = sorted(rest)
    values = [rest[path] for path in paths]
    if len(jax.tree.leaves(values)) != len(paths):
        return set(paths)

    def after(values):
        (_, rest), _, _ = step(params, {}, (states, dict(zip(paths, values, strict=True))), zeros)
        return [rest[path] for path in paths]

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), x)
    jaxpr = jax.make_jaxpr(after)(values).jaxpr
    return {path for path, a, b in zip(paths, jaxpr.invars, jaxpr.outvars, strict=True) if a is not b}


def _net_decay(net: nnx.Module, rule: Rule) -> float | None:
    """The one decay of the net's neurons and readouts, None where they differ."""
    modules = [(_join(p), m) for p, m in nnx.iter_modules(net) if isinstance(m, SpikingModule)]
    if not modules:
        raise ValueError(
            f"The net, a {type(net).__name__}, holds no spiking layer, so there is nothing for the rule '{rule.name}' "
            "to train in time. Build it from safjax.nn (Synapse, LIF, IF, LeakyReadout ...), or train it with "
            "nnx.value_and_grad."
        )
    decays = {path: decay for path, m in modules if (decay := getattr(m, "decay", None)) is not None}
    learned = [path for path, decay in decays.items() if not isinstance(decay, float)]
    if len(set(map(str, decays.values()))) == 1 and not learned:
        return next(iter(decays.values()))
    if rule.propagation.accumulates and learned:
        raise ValueError(
            f"The rule '{rule.name}' accumulates over time with one constant decay for the whole net, but the decay of "
            f"'{learned[0]}' is an array of its own. Give all neurons and readouts one and the same number, or train "
            "this net with exodus(), bptt() or sltt(), which take any."
        )
    if rule.propagation.accumulates:
        listed = ", ".join(f"'{path}' {decay}" for path, decay in decays.items())
        raise ValueError(
            f"The rule '{rule.name}' accumulates over time with one decay for the whole net, but this net's layers "
            f"have {listed or 'none'}. Give all neurons and readouts the same decay, or train this net with bptt() or "
            "sltt(), which take any."
        )
    return None


def _check_output(output: Any, rule: Rule) -> None:
    if any(is_message(leaf) for leaf in jax.tree.leaves(output, is_leaf=is_message)):
        raise ValueError(
            f"The net returned a spiking layer's message. Under the rule '{rule.name}' that is not an output yet: end "
            "the spiking part with safjax.nn.LeakyReadout() or InstantReadout(), whose result is a plain array that "
            "any further layer or loss may use."
        )


def _unfolded(output: Any, course: Course) -> Any:
    return jax.tree.map(lambda leaf: unfold(leaf, course), output, is_leaf=is_message)


def _batch(x: Any) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    return shapes[0][0] if shapes and shapes[0] else 1


def _end_discovery(net: nnx.Module) -> None:
    for _, module in nnx.iter_modules(net):
        if isinstance(module, SpikingModule) and module.binding is not None:
            module.binding = dataclasses.replace(module.binding, discovering=None)


def _flat(state: nnx.State) -> dict:
    return dict(nnx.to_flat_state(state))


def _join(path) -> str:
    return ".".join(str(part) for part in path) or "the net itself"
