"""Finding out what a net itself makes anew at every step: random input spikes, a clock."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from safjax.hoist import dependents
from safjax.nn.layer_loops import explained_loops
from safjax.nn.module import Discovery, NeuronState, Observation, SpikingModule
from safjax.nn.states import flat, join, split
from safjax.rules import Course, Rule


def discover_varying(net: nnx.Module, rule: Rule, course: Course, x: Any, discovery: Discovery) -> None:
    """Tells the modules that meet an array which changes with time, though the net's input is static, that it does.

    Raises:
      ValueError: the rule goes layer by layer, so that the net would make it once for all steps.
    """
    whole = rule.propagation.whole_sequence
    if not whole and not (course.static and rule.propagation.accumulates):
        return
    varying = _varying(net, course, x, discovery)
    for path, module in nnx.iter_modules(net):
        if not isinstance(module, SpikingModule) or join(path) not in varying:
            continue
        if whole:
            raise ValueError(
                f"The rule '{rule.name}' calls the net once for all time steps, but what reaches the "
                f"{type(module).__name__} at '{join(path)}' is made anew by the net at every step (random numbers, a "
                "count of steps). Make it outside and give the net a sequence x[T, B, ...] without steps, or train "
                "this net step by step: bptt(), sltt(), ottt_a(), saf_f()."
            )
        assert module.binding is not None
        module.binding = dataclasses.replace(module.binding, course=course._replace(static=False))


def _varying(net: nnx.Module, course: Course, x: Any, discovery: Discovery) -> set[str]:
    """The paths of the modules that an array enters which depends on a variable that the net changes."""
    graphdef, params, states, random, rest = split(net, nnx.Param, NeuronState, nnx.RngState)
    before = flat(rest), flat(random)
    if not any(before):
        return set()
    discovery.begin()
    paths: list[tuple[list[str], list[str]]] = []

    def run(values, x):
        merged = (nnx.from_flat_state(dict(zip(b, v, strict=True))) for b, v in zip(before, values, strict=True))
        net_of_step = nnx.merge(graphdef, params, states, *merged, copy=True)
        discovery.record()
        with explained_loops():
            net_of_step(x)
        entered = discovery.recorded()
        paths.append(([path for path, a in entered if a is not None], [path for path, a in entered if a is None]))
        nnx.pop(net_of_step, Observation)
        after = flat(split(net_of_step, nnx.Param, NeuronState)[3])
        return [[after[path] for path in b] for b in before], [a for _, a in entered if a is not None]

    values = [list(b.values()) for b in before]
    jaxpr = jax.make_jaxpr(run)(values, x).jaxpr
    count, of_rest = len(jax.tree.leaves(values)), len(jax.tree.leaves(values[0]))
    changed = [v for v, after in zip(jaxpr.invars[:count], jaxpr.outvars, strict=False) if v is not after]
    if not course.static:
        # Of a sequence with time in its batch every step draws its own random numbers.
        changed = [v for v in changed if v in jaxpr.invars[:of_rest]]
    found, (reached, unreached) = dependents(jaxpr, changed), paths[0]
    entered = zip(reached, jaxpr.outvars[count:], strict=True)
    dependent = {path for path, v in entered if not isinstance(v, core.Literal) and v in found}
    # Of what is out of reach, inside a loop over layers, the worst is assumed.
    return dependent.union(unreached) if changed else dependent
