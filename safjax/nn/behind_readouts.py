"""What stands behind the readouts of a net whose mean output is differentiated: fixed affine functions only."""

import functools
from typing import Any

import jax
from flax import nnx

from safjax.fixed_affine import Kind, Unfit, unfit_operation
from safjax.messages import is_message
from safjax.nn.entries import name_entries
from safjax.nn.layer_loops import explained_loops
from safjax.nn.module import ENTERS, READ_OUT, Bindable, NeuronState, Observation
from safjax.nn.refusing import Refusals
from safjax.nn.states import flat, join, modules, split
from safjax.rules import Course, Rule

_SCOPE = "safjax: layer "


def refuse_behind_readouts(net: nnx.Module, rule: Rule, course: Course, x: Any, refusals: Refusals) -> None:
    """Refuses, for rules whose loss is that of the mean output, what is not one fixed affine function behind readouts.

    Args:
      net: a bound net.
      x: one step's input, or under a rule that goes layer by layer all of it.
    """
    if not rule.schedule.of_mean_output:
        return
    graphdef, params, states, rest = split(net, nnx.Param, NeuronState)
    before = flat(rest)

    def run(params: Any, values: dict[Any, Any], x: Any) -> tuple[list[Any], list[Any]]:
        merged = nnx.merge(graphdef, params, states, nnx.from_flat_state(values), copy=True)
        name_entries(merged)
        _name_layers(merged)
        with explained_loops():
            output = merged(x)
        nnx.pop(merged, Observation)
        after = flat(split(merged, nnx.Param, NeuronState)[3])
        plain = [leaf for leaf in jax.tree.leaves(output, is_leaf=is_message) if not is_message(leaf)]
        return [after[path] for path in before], plain

    jaxpr = jax.make_jaxpr(run)(params, before, x).jaxpr
    counts = [len(jax.tree.leaves(part)) for part in (params, before, x)]
    found = _searched(jaxpr, counts, course.static)
    if found is not None:
        path = _layer(found) or join(())
        refusals.refuse(path, _sentence(rule.name, found))


def _name_layers(net: nnx.Module) -> None:
    """Puts the operations of each plain layer under its path; its class becomes one that does so."""
    for path, module in modules(net):
        if path and not isinstance(module, Bindable) and callable(module):
            vars(module)["path_in_net"] = join(path)
            object.__setattr__(module, "__class__", _scoped(type(module)))


@functools.cache
def _scoped(kind: type) -> type:
    def call(self: Any, *args: Any, **options: Any) -> Any:
        with jax.named_scope(f"{_SCOPE}{self.path_in_net}"):
            return kind.__call__(self, *args, **options)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})


def _look(name: str) -> Kind | None:
    if name.startswith(READ_OUT):
        return Kind(frozenset({name.removeprefix(READ_OUT)}))
    # What enters the spiking part leaves it by a readout.
    return Kind(varies=True, learns=True) if name.startswith(ENTERS) else None


def _searched(jaxpr: Any, counts: list[int], static: bool) -> Unfit | None:
    of_params, of_rest, of_x = counts
    pairs = zip(jaxpr.invars[of_params : of_params + of_rest], jaxpr.outvars[:of_rest], strict=True)
    # Of what the net changes, anything may come.
    changed = [Kind() if a is b else Kind(varies=True, learns=True) for a, b in pairs]
    inputs = [*[Kind(learns=True)] * of_params, *changed, *[Kind(varies=not static)] * of_x]
    results = list(range(of_rest, len(jaxpr.outvars)))
    return unfit_operation(jaxpr, inputs, results, _look)


def _layer(found: Unfit) -> str | None:
    """The path of the innermost layer that does it."""
    parts = [part for scope in found.scopes for part in scope.split("/") if part.startswith(_SCOPE)]
    return parts[-1].removeprefix(_SCOPE) if parts else None


def _sentence(rule: str, found: Unfit) -> str:
    layer, readouts = _layer(found), ", ".join(f"'{path}'" for path in sorted(found.marked))
    who = f"the layer at '{layer}'" if layer else "a function that the net itself calls"
    where = f"{who}, behind the readout at {readouts}," if readouts else who
    return (
        f"The rule '{rule}' differentiates the mean of the outputs of all steps, so that what makes an output of what "
        f"readouts give must be affine and the same at every step, without parameters that it is multiplied with; but "
        f"{where} contains {found.operation}. What is affine and learns belongs into a Synapse before the readout, "
        "what is not affine into the loss, which is given the mean output."
    )
