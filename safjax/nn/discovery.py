"""Finding out which states a net has, by running it once on shapes alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core
from jax.interpreters import partial_eval

from safjax.messages import Silence, is_message
from safjax.nn.delay import Delay
from safjax.nn.layer_loops import explained_loops
from safjax.nn.module import Bindable, Discovery, NeuronState, Observation
from safjax.nn.plain import plain_attributes, refuse_changed
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join, modules, split
from safjax.rules import Course, Rule
from safjax.rules.sequences import unfold


def discover(
    net: nnx.Module, rule: Rule, course: Course, x: Any, discovery: Discovery, refusals: Refusals, blank: bool = False
) -> tuple[Any, Any, dict[Any, Any]]:
    """Runs the net once on shapes alone: (its graph after the first step, the program of where sequences start, axes).

    The program is (params, others, x) ↦ the neuron states before the first step; see `start_of`. `blank` says that not
    all of the net's messages are known yet. The axes are those of the members of the batch in each neuron state.
    """
    graphdef, params, rest = split(net, nnx.Param)
    discovery.begin()
    box: list[tuple[Any, dict[Any, Any]]] = []

    def run(params: Any, rest: Any, x: Any) -> Any:
        net = nnx.merge(graphdef, params, rest, copy=True)
        before = plain_attributes(net)
        output = _call(net, x)
        refuse_changed(before, net, refusals)
        if not blank:
            _end_without_shapes(output, refusals)
            _refuse_unfinished(output, rule, refusals)
            finished(output, rule, course)
        observed = flat(nnx.pop(net, Observation))
        discovery.stacked = tuple(join(path[:-1]) for path, report in observed.items() if report.is_stacked())
        _end_discovery(net)
        found, _, states, _ = split(net, nnx.Param, NeuronState)
        axes = {path: variable.member_axes() for path, variable in flat(nnx.state(net, NeuronState)).items()}
        box.append((found, axes))
        return states

    program = jax.make_jaxpr(run, return_shape=True)(params, rest, x)
    return box[0][0], program, box[0][1]


def start_of(program: tuple[Any, Any], rest: Any, x: Any, refusals: Refusals) -> Callable[[Any], Any]:
    """params ↦ the neuron states before the first step, of the program that `discover` found.

    They are refused where they depend on the values of the input.
    """
    closed, shapes = program
    count = len(closed.jaxpr.invars) - len(jax.tree.leaves(x))
    leaves = [path[:-1] for path, value in flat(shapes).items() for _ in jax.tree.leaves(value)]
    run, needed = _needed_for(closed, [True] * len(leaves))
    if any(needed[count:]):
        alone = ([j == i for j in range(len(leaves))] for i in range(len(leaves)))
        guilty = next(path for path, one in zip(leaves, alone, strict=True) if any(_needed_for(closed, one)[1][count:]))
        refusals.stop(
            join(guilty),
            f"The neurons at '{join(guilty)}' start from a state that depends on the values of their first current. "
            "A cell's start(current) may use its shape and dtype: what depends on the input belongs in "
            "step(state, current).",
        )

    def start(params: Any) -> Any:
        arguments = jax.tree.leaves((params, rest))
        states = run(*(a for a, use in zip(arguments, needed[:count], strict=True) if use))
        return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(s) for s in states])

    return start


def zero_starts(program: tuple[Any, Any], delays: set[tuple[Any, ...]]) -> dict[Any, Any]:
    """{path: for each array of a neuron state whether it starts from zeros, as the program says; delays always do}."""
    closed, shapes = program
    made = {v: eqn for eqn in closed.jaxpr.eqns for v in eqn.outvars}

    def zero(v: Any) -> bool:
        if isinstance(v, core.Literal):
            return bool(v.val == 0)
        eqn = made.get(v)
        return eqn is not None and eqn.primitive.name == "broadcast_in_dim" and zero(eqn.invars[0])

    found = flat(jax.tree.unflatten(jax.tree.structure(shapes), [zero(v) for v in closed.jaxpr.outvars]))
    return {path: [z or path[:-1] in delays for z in jax.tree.leaves(zeros)] for path, zeros in found.items()}


def _needed_for(closed: core.ClosedJaxpr, results: list[bool]) -> tuple[Callable[..., Any], list[bool]]:
    """The part of a program that some of its results need, and which inputs those need."""
    whole, count = closed.jaxpr, len(closed.consts)
    inputs, unknown = [*whole.constvars, *whole.invars], whole.debug_info.with_unknown_names()
    jaxpr, used = partial_eval.dce_jaxpr(whole.replace(constvars=[], invars=inputs, debug_info=unknown), results)
    constants = [c for c, use in zip(closed.consts, used[:count], strict=True) if use]
    return functools.partial(core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, [])), *constants), used[count:]


def _call(net: nnx.Module, x: Any) -> Any:
    try:
        with explained_loops():
            return net(x)
    except TypeError as error:
        if Silence.__name__ not in str(error) or "safjax.nn.Synapse" in str(error):
            raise
        raise TypeError(
            "What a Delay hands back was given to a plain function. In a net with feedback it may be added to what "
            "other layers return and scaled by a Python number; every other function of it stands in a "
            "safjax.nn.Synapse, made in the net's __init__: back = Synapse(lambda x: x.repeat(2, 1)), then "
            "back(delay.recall())."
        ) from error


def discover_loops(
    net: nnx.Module, rule: Rule, course: Course, x: Any, discovery: Discovery, refusals: Refusals
) -> None:
    """Gives every `Delay` of the net its first state, zeros of the shape of what is handed back in the first step.

    What it will hold comes later in the step than where it is read, so its shape takes a run of its own.
    """
    unknown = {path: module for path, module in modules(net) if isinstance(module, Delay)}
    for module in unknown.values():
        module.begin_discovery()
    while unknown:
        states = discover(net, rule, course, x, discovery, refusals, blank=True)[1][1]
        found = {path: state for path in unknown if (state := _at(states, path)) is not None}
        # Delays in a row are found one after the other.
        for path in found or list(unknown):
            unknown.pop(path).end_discovery(found.get(path))


def _at(states: Any, path: tuple[Any, ...]) -> Any:
    for part in (*path, "state"):
        if part not in states:
            return None
        states = states[part]
    return states


def finished(output: Any, rule: Rule, course: Course) -> Any:
    """A net's output as the loss sees it; under a rule that goes layer by layer, with time unfolded in front."""
    output = jax.tree.map(lambda leaf: leaf if is_message(leaf) else jnp.asarray(leaf), output, is_leaf=is_message)
    if rule.propagation.whole_sequence:
        return jax.tree.map(lambda leaf: unfold(leaf, course), output, is_leaf=is_message)
    return output


def _refuse_unfinished(output: Any, rule: Rule, refusals: Refusals) -> None:
    whole = rule.propagation.whole_sequence and rule.schedule.sees_all_steps
    if not whole and any(map(is_message, jax.tree.leaves(output, is_leaf=is_message))):
        refusals.refuse(
            join(()),
            f"The net returned what one spiking layer hands to the next. Under the rule '{rule.name}' that is not an "
            "output yet: end the spiking part with safjax.nn.LeakyReadout() or InstantReadout(), whose result is a "
            "plain array that any further layer or loss may use.",
        )


def _end_without_shapes(output: Any, refusals: Refusals) -> None:
    """Where a refused `Delay` has left nothing to look at."""
    if any(isinstance(leaf, Silence) for leaf in jax.tree.leaves(output, is_leaf=is_message)):
        refusals.end()


def _end_discovery(net: nnx.Module) -> None:
    for _, module in modules(net):
        if isinstance(module, Bindable) and module.binding is not None:
            module.binding = dataclasses.replace(module.binding, discovering=None)
