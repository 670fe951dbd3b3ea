"""Binding: from a Flax NNX net and a rule to one pure step function.

A spiking module knows nothing of rules or of its state until it is bound. Binding works on a copy of the net: it tells
every spiking module what travels between layers, runs the net once on shapes alone to find out which states there are,
and splits it into (params, constants, carry). Every sequence starts from a fresh copy, in the states
that its cells start from: there is nothing to reset.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.delay import Delay
from safjax.nn.discovery import discover, discover_loops, finished, start_of
from safjax.nn.dtypes import keep_biases_wide
from safjax.nn.module import Binding, Discovery, NeuronState, Observation, SequenceState, SpikingModule
from safjax.nn.states import flat, join, split
from safjax.nn.synapse import Synapse
from safjax.nn.varying import discover_varying
from safjax.ops import conv_general_dilated
from safjax.rules import Course, Rule


class Bound(NamedTuple):
    """A net under a rule, as pure data and one pure function.

    Attributes:
      step: (params, constants, carry, x[t]) ↦ (carry, output[t], observations[t]); under a rule that goes layer by
        layer, of all steps at once, see `safjax.loops.Task`.
      params: the learned parameters.
      constants: other variables that a step reads and leaves unchanged.
      start: params ↦ carry at the start of the sequence: (neuron states, other variables that a step changes).
      anew: the values of `SequenceState`s that a step changes, with which every sequence begins.
    """

    step: Callable
    params: nnx.State
    constants: dict
    start: Callable[[Any], tuple[nnx.State, dict]]
    anew: dict


def mean_rate(spikes: jax.Array) -> jax.Array:
    """The fraction of neurons that fire, over batch and layer."""
    return jnp.mean(jax.lax.stop_gradient(spikes))


def bind(net: nnx.Module, rule: Rule, x: Any, steps: int, static: bool, observe: Callable = mean_rate) -> Bound:
    """Binds `net` to `rule` for T = `steps` inputs like x, one step's input (arrays or shapes); changes `net` itself.

    Raises:
      ValueError: the net cannot be trained by the rule; the message names the layer and the way out.
    """
    _refuse_feedback_to_all_steps(net, rule)
    course = Course(_net_decay(net, rule), steps, _batch(x), static)
    if rule.propagation.whole_sequence:
        x = x if static else jax.tree.map(lambda a: jax.ShapeDtypeStruct((steps * len(a), *a.shape[1:]), a.dtype), x)
    discovery, any_neurons = Discovery(), _rules_for_any_neurons(net)
    for path, module in nnx.iter_modules(net):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is jax.lax.conv_general_dilated:
            # Same values; the stock gradients are slow inside a loop on CPU.
            module.conv_general_dilated = conv_general_dilated
        if isinstance(module, Synapse):
            keep_biases_wide(module)
        if isinstance(module, SpikingModule):
            module.binding = Binding(rule.name, rule.propagation, course, join(path), observe, discovery, any_neurons)
            module.start_sequence()
    discover_loops(net, rule, course, x, discovery)
    discover_varying(net, rule, course, x, discovery)
    _, params, _, rest = split(net, nnx.Param, NeuronState)
    graphdef, program = discover(net, rule, course, x, discovery)
    at_rest = start_of(program, split(net, nnx.Param)[2], x)
    step = _step_function(graphdef, rule, course)
    changing = _changing(step, params, flat(rest), at_rest(params), x)
    if rule.propagation.whole_sequence:
        _refuse_changes(net, rule, changing)
    constants = {path: value for path, value in flat(rest).items() if path not in changing}
    others = {path: value for path, value in flat(rest).items() if path in changing}
    anew = {path: others[path] for path in flat(nnx.state(net, SequenceState)) if path in others}
    return Bound(step, params, constants, lambda params: (at_rest(params), others), anew)


def _refuse_changes(net: nnx.Module, rule: Rule, changing: set) -> None:
    """A net that is called once for all steps changes a count once, where it would have to T times."""
    for path, variable in flat(nnx.state(net)).items():
        if path in changing and not isinstance(variable, nnx.RngState | nnx.BatchStat):
            raise ValueError(
                f"The rule '{rule.name}' calls the net once for all time steps, but a call changes the "
                f"{type(variable).__name__} at '{join(path)}', which would have to change at every step. Make "
                f"what changes outside and give it with the input{_or_step_by_step(net)}."
            )


def _refuse_feedback_to_all_steps(net: nnx.Module, rule: Rule) -> None:
    feedback = [join(path) for path, module in nnx.iter_modules(net) if isinstance(module, Delay)]
    if feedback and (whole := _whole(net)):
        raise ValueError(
            f"Neither the rule '{rule.name}' nor another can train this net: the neurons at '{whole[0]}' look at all "
            f"steps of a sequence at once, but the Delay at '{feedback[0]}' feeds one step back into the next. Take "
            "neurons that go step by step, such as LIF, ALIF or SlidingPSN."
        )


def _whole(net: nnx.Module) -> list[str]:
    """The paths of the neurons that need all steps at once."""
    return [join(path) for path, module in nnx.iter_modules(net) if not getattr(module, "stepwise", True)]


def _rules_for_any_neurons(net: nnx.Module) -> str:
    """The rules that take whatever neurons the net has, in the words of messages to the user."""
    return "bptt(layerwise=True)" if _whole(net) else "bptt() or sltt()"


def _or_step_by_step(net: nnx.Module) -> str:
    return "" if _whole(net) else ", or train this net step by step, with bptt() or sltt()"


def rest_of(bound: Bound, carry: tuple[nnx.State, dict]) -> nnx.State:
    """The net's variables that are neither parameters nor neuron states, after a run that ended with `carry`."""
    return nnx.from_flat_state({**bound.constants, **carry[1], **bound.anew})


def _step_function(graphdef, rule: Rule, course: Course):
    def step(params, constants, carry, x):
        states, changing = carry
        rest = nnx.from_flat_state({**constants, **changing})
        net = nnx.merge(graphdef, params, states, rest, copy=True)
        output = finished(net(x), rule, course)
        observed = nnx.pop(net, Observation)
        _, _, states, rest = split(net, nnx.Param, NeuronState)
        after = flat(rest)
        value = Observation.over_time if rule.propagation.whole_sequence else Observation.get_value
        observations = {join(path[:-1]): value(variable) for path, variable in flat(observed).items()}
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
    modules = [(join(p), m) for p, m in nnx.iter_modules(net) if isinstance(m, SpikingModule)]
    if not modules:
        raise ValueError(
            f"The net, a {type(net).__name__}, holds no spiking layer, so there is nothing for the rule '{rule.name}' "
            "to train in time. Build it from safjax.nn (Synapse, LIF, IF, LeakyReadout ...), or train it with "
            "nnx.value_and_grad."
        )
    decays = {path: decay for path, m in modules if (decay := getattr(m, "decay", None)) is not None}
    learned = [path for path, decay in decays.items() if not isinstance(decay, float)]
    if not learned and len(set(decays.values())) == 1:
        return next(iter(decays.values()))
    if rule.propagation.accumulates and learned:
        raise ValueError(
            f"The rule '{rule.name}' accumulates over time with one constant decay for the whole net, but the decay of "
            f"'{learned[0]}' is an array of its own. Give all neurons and readouts one and the same number, or train "
            f"this net with {_rules_for_any_neurons(net)}."
        )
    if rule.propagation.accumulates:
        listed = ", ".join(f"'{path}' {decay}" for path, decay in decays.items())
        raise ValueError(
            f"The rule '{rule.name}' accumulates over time with one decay for the whole net, but this net's layers "
            f"have {listed or 'none'}. Give all neurons and readouts the same decay, or train this net with "
            f"{_rules_for_any_neurons(net)}."
        )
    return None


def _batch(x: Any) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    return shapes[0][0] if shapes and shapes[0] else 1
