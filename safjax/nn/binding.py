"""Binding: from a Flax NNX net and a rule to one pure step function.

A spiking module knows nothing of rules or of its state until it is bound. Binding works on a copy of the net: it tells
every spiking module what travels between layers, runs the net once on shapes alone to find out which states there are,
and splits it into (params, constants, carry). Every sequence starts from a fresh copy, in the states
that its cells start from: there is nothing to reset.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.lengths import zeroed
from safjax.nn.batch_norm import needs_all_steps
from safjax.nn.behind_readouts import refuse_behind_readouts
from safjax.nn.bound import Bound
from safjax.nn.changing import traced_step
from safjax.nn.delay import Delay
from safjax.nn.discovery import discover, discover_loops, finished, start_of, zero_starts
from safjax.nn.dropout import SequenceKey
from safjax.nn.dtypes import keep_biases_wide
from safjax.nn.module import Bindable, Binding, Discovery, NeuronState, Observation, SequenceState, SpikingModule
from safjax.nn.one_decay import net_decay
from safjax.nn.past_steps import refuse_delays
from safjax.nn.readouts import readout_decay
from safjax.nn.recording import refuse_unknown
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join, modules, split
from safjax.nn.statistics import refuse_later_steps, refuse_padding, refuse_unnamed
from safjax.nn.synapse import Synapse
from safjax.nn.unlearned import refuse_unlearned
from safjax.nn.untaught import refuse_untaught
from safjax.nn.varying import discover_varying
from safjax.ops import conv_general_dilated
from safjax.ops.dense import dot_general
from safjax.rules import Course, Rule
from safjax.rules.eprop import BroadcastPropagation
from safjax.state import where_members
from safjax.task import Reports, StepFn


def bind(
    net: nnx.Module,
    rule: Rule,
    x: Any,
    steps: int,
    static: bool,
    record: tuple[str, ...] = (),
    going_on: bool = False,
    padded: bool = False,
    refusals: Refusals | None = None,
) -> Bound:
    """Binds `net` to `rule` for T = `steps` inputs like x, one step's input (arrays or shapes); changes `net` itself.

    Args:
      static: whether all inputs are one.
      record: the names of what neurons report of every step beside their rate.
      going_on: whether the sequence goes on from call to call.
      padded: whether members have lengths of their own.
      refusals: where it says why the rule cannot train the net; None raises the first reason.

    Raises:
      ValueError: the net cannot be trained by the rule; the message names the layer and the way out.
    """
    refusals = Refusals() if refusals is None else refusals
    part = rule.schedule.part(steps)
    if part is None:
        return _bind(net, rule, Course(None, steps, _batch(x), static, going_on, padded), x, record, refusals)
    # What one part leaves the next one begins with.
    course = Course(None, part, _batch(x), static, True, padded, part_of=steps)
    copy, rest = nnx.clone(net), course._replace(steps=steps % part)
    bound = _bind(net, rule, course, x, record, refusals)
    return bound._replace(rest=_bind(copy, rule, rest, x, record, refusals).step) if rest.steps else bound


def _bind(net: nnx.Module, rule: Rule, course: Course, x: Any, record: tuple[str, ...], refusals: Refusals) -> Bound:
    """As `bind`, of this course, whose decays are not known yet."""
    steps, static, going_on, padded = course.steps, course.static, course.open, course.padded
    _refuse_feedback_to_all_steps(net, rule, refusals)
    refuse_delays(net, rule, refusals)
    refuse_unlearned(net, rule, refusals)
    whole = rule.propagation.whole_sequence
    # A state knows nothing of an input that stays as it is from step to step; a whole sequence keeps none of its input.
    decay = net_decay(net, rule, refusals)
    readout = readout_decay(net, decay)
    course = course._replace(decay=decay, static=static and (whole or not going_on), readout=readout)
    if whole:
        x = x if static else jax.tree.map(partial(_together, steps), x)
    discovery = Discovery()
    tell(net, rule, course, record, discovery, refusals)
    discover_loops(net, rule, course, x, discovery, refusals)
    discover_varying(net, rule, course, x)
    refuse_behind_readouts(net, rule, course, x, refusals)
    _, params, _, rest = split(net, nnx.Param, NeuronState)
    graphdef, program, axes = discover(net, rule, course, x, discovery, refusals)
    refuse_unknown(record, discovery.told)
    at_rest = start_of(program, split(net, nnx.Param)[2], x, refusals)
    step = _step_function(graphdef, rule, course, axes, _sequence_axes(net), record)
    traced = traced_step(step, params, flat(rest), at_rest(params), x)
    paths = traced.changed()
    refuse_unnamed(net, paths, rule.name, refusals)
    if padded:
        refuse_padding(net, paths, refusals)
    if whole:
        _refuse_changes(net, rule, paths, refusals)
    constants = {path: value for path, value in flat(rest).items() if path not in paths}
    changing = {path: value for path, value in flat(rest).items() if path in paths}
    own = tuple(path for state in nnx.state(net, SequenceState, SequenceKey) for path in flat(state))
    zeros = zero_starts(program, {path for path, module in modules(net) if isinstance(module, Delay)})
    kind, stacked, order = rule.propagation.inference, discovery.stacked, tuple(p for p, _ in discovery.called)
    again, program = traced.again, traced.program()
    bound = Bound(again, params, constants, changing, at_rest, own, axes, zeros, course, kind, stacked, order, program)
    if isinstance(rule.propagation, BroadcastPropagation):
        refuse_untaught(again, params, (at_rest(params), changing), constants, x, rule.name, refusals)
    if not whole and any(needs_all_steps(module) for _, module in modules(net)):
        _refuse_later_steps(bound._replace(step=step), rule, x, static, refusals)
    return bound


def tell(
    net: nnx.Module,
    rule: Rule,
    course: Course,
    record: tuple[str, ...] = (),
    discovery: Discovery | None = None,
    refusals: Refusals | None = None,
) -> None:
    """Tells the modules of a net of the rule, and begins a sequence; arguments as of `Binding`."""
    refusals = Refusals() if refusals is None else refusals
    for path, module in modules(net):
        if isinstance(module, nnx.Conv) and module.conv_general_dilated is jax.lax.conv_general_dilated:
            # Same values; the stock gradients are slow inside a loop on CPU.
            module.conv_general_dilated = conv_general_dilated
        if isinstance(module, nnx.Linear) and module.dot_general is jax.lax.dot_general:
            module.dot_general = dot_general
        if isinstance(module, Synapse):
            keep_biases_wide(module)
        if isinstance(module, Bindable):
            module.binding = Binding(rule.name, rule.propagation, course, join(path), record, discovery, refusals)
        if isinstance(module, SpikingModule):
            module.start_sequence()


def _refuse_later_steps(bound: Bound, rule: Rule, x: Any, static: bool, refusals: Refusals) -> None:
    # Parameters change with time, too, where they are updated at every step.
    held, moved = (None, bound.params) if rule.schedule.updates(bound.course.steps) > 1 else (bound.params, None)

    def one_step(changing: tuple[Any, Any], x: Any) -> Any:
        moved, carry = changing
        return bound.step(held if moved is None else moved, bound.constants, carry, x)

    changing = moved, (bound.at_rest(bound.params), bound.changing)
    refuse_later_steps(one_step, changing, x, static, rule.name, refusals)


def _refuse_changes(net: nnx.Module, rule: Rule, changing: set[Any], refusals: Refusals) -> None:
    """A net that is called once for all steps changes a count once, where it would have to T times."""
    for path, variable in flat(nnx.state(net)).items():
        if path in changing and not isinstance(variable, nnx.RngState | nnx.BatchStat):
            refusals.refuse(
                join(path),
                f"The rule '{rule.name}' calls the net once for all time steps, but a call changes the "
                f"{type(variable).__name__} at '{join(path)}', which would have to change at every step. Make "
                "what changes outside and give it with the input.",
            )


def _refuse_feedback_to_all_steps(net: nnx.Module, rule: Rule, refusals: Refusals) -> None:
    found = list(modules(net))
    feedback = [join(path) for path, module in found if isinstance(module, Delay)]
    whole = [f"{type(m).__name__} at '{join(p)}'" for p, m in found if not getattr(m, "stepwise", True)]
    if feedback and whole:
        refusals.refuse(
            feedback[0],
            f"Neither the rule '{rule.name}' nor another can train this net: the {whole[0]} has to look at all "
            f"steps of a sequence at once, but the Delay at '{feedback[0]}' feeds one step back into the next. Take "
            "layers that go step by step, such as the neurons LIF, ALIF and SlidingPSN.",
        )


def rest_of(bound: Bound, carry: tuple[Any, dict[Any, Any]]) -> nnx.State[Any, Any]:
    """The net's variables that are neither parameters nor neuron states, after a run that ended with `carry`."""
    anew = {path: bound.changing[path] for path in bound.own if path in bound.changing}
    return nnx.from_flat_state({**bound.constants, **carry[1], **anew})


def _step_function(
    graphdef: Any, rule: Rule, course: Course, axes: dict[Any, Any], own: dict[Any, Any], record: tuple[str, ...]
) -> StepFn:
    whole = rule.propagation.whole_sequence

    def step(params: Any, constants: Any, carry: Any, x: Any, going: Any = None) -> tuple[Any, Any, Reports]:
        before, changing = carry
        rest = nnx.from_flat_state({**constants, **changing})
        net = nnx.merge(graphdef, params, before, rest, copy=True)
        # What stands in the padding is nothing; a static image has none.
        x = x if going is None or course.static else zeroed(going.ravel(), x)
        output = finished(net(x), rule, course)
        observed = flat(nnx.pop(net, Observation))
        _, _, states, rest = split(net, nnx.Param, NeuronState)
        after = flat(rest)
        changed = {path: after[path] for path in changing}
        if going is not None and not whole:
            states = nnx.from_flat_state(_kept(going, flat(states), flat(before), axes))
            changed.update(_kept(going, changed, changing, {path: own[path] for path in changed if path in own}))
        output = output if going is None else zeroed(going, output)
        return (states, changed), output, _reports(observed, whole, going, record)

    return step


def _sequence_axes(net: nnx.Module) -> dict[Any, Any]:
    """Where layers of one's own have the members' axis in the state that lives as long as a sequence."""
    states = flat(nnx.as_pure(nnx.state(net, SequenceState)))
    return {path: tuple(0 for _ in jax.tree.leaves(value)) for path, value in states.items()}


def _kept(going: jax.Array, new: dict[Any, Any], old: dict[Any, Any], axes: dict[Any, Any]) -> dict[Any, Any]:
    """The new states of members that go on, the old ones of others."""
    return {path: where_members(join(path), going, new[path], old[path], where) for path, where in axes.items()}


def _reports(observed: dict[Any, Any], whole: bool, going: jax.Array | None, record: tuple[str, ...]) -> Reports:
    rates: dict[str, Any] = {}
    records: dict[str, dict[str, Any]] = {name: {} for name in record}
    for path, observation in observed.items():
        parts = observation.over_time() if whole else observation.get_value()
        if going is not None:
            parts = _of_going(going, parts, observation.own_axes)
        for name, part in parts.items():
            if name == "rate":
                rates[join(path[:-1])] = part if going is None else jnp.sum(part, -1)
            else:
                records.setdefault(name, {})[join(path[:-1])] = part
    return Reports(rates, records)


def _of_going(going: jax.Array, parts: dict[Any, Any], own_axes: tuple[int, ...]) -> dict[Any, Any]:
    """Reports with 0 where a member does not go on; axes of stacked layers stand between those of time and members."""

    def one(part: jax.Array, own: int) -> jax.Array:
        *time, members = going.shape
        which = going.reshape(*time, *(1,) * (part.ndim - own), members)
        return zeroed(jnp.broadcast_to(which, part.shape[: which.ndim]), part)

    leaves, structure = jax.tree.flatten(parts)
    return jax.tree.unflatten(structure, [one(*x) for x in zip(leaves, own_axes, strict=True)])


def _together(steps: int, a: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((steps * a.shape[0], *a.shape[1:]), a.dtype)


def _batch(x: Any) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    return shapes[0][0] if shapes and shapes[0] else 1
