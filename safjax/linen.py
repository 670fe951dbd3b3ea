"""Linen modules in synapses, and nets as functions of plain dictionaries of parameters.

    net = nnx.Sequential(Synapse(Layer(linen.Dense(10), x, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
    params, loss_and_grad = init(net), value_and_grad(net, loss, safjax.rules.saf_f(), steps=6)
    (value, aux), grads = loss_and_grad(params, x, labels)

The net itself stays one of `safjax.nn`: a learning rule owns the loop over time, and cannot be reached from inside the
`__call__` of a Linen module. What there is of Linen are the layers between neurons, and how parameters are handled.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen, nnx
from flax.traverse_util import unflatten_dict

from safjax.nn import training
from safjax.nn.bound import Bound
from safjax.nn.graphs import split_net
from safjax.nn.inference import predict as predict_net
from safjax.nn.states import flat, join
from safjax.nn.task import task_maker
from safjax.rules import Rule


class Layer(nnx.Module):
    """A Linen module as an NNX layer, for a `Synapse`: Synapse(Layer(linen.Dense(10), x, rngs=rngs)).

    Args:
      module: of Linen, with parameters only: no batch statistics, no random numbers.
      examples: inputs as it will have them, [B, ...], of which only shapes and dtypes matter.
      rngs: its stream "params" initialises the parameters.

    Raises:
      TypeError: module is none of Linen.
      ValueError: it has other variables than parameters.
    """

    def __init__(self, module: linen.Module, *examples: Any, rngs: nnx.Rngs):
        if not isinstance(module, linen.Module):
            raise TypeError(f"linen.Layer(module, ...): expected a flax.linen.Module, but was given {module!r}.")
        variables = module.init(rngs.params(), *examples)
        others = sorted(set(variables) - {"params"})
        if others:
            raise ValueError(
                f"linen.Layer({type(module).__name__}(...)) has variables of the kind {', '.join(map(repr, others))}, "
                "which a call would have to change. Take safjax.nn.BatchNorm or WSConv, or safjax.nn.SequenceState."
            )
        self.module = module
        self.params = _variables(variables.get("params", {}))

    def __call__(self, *xs: jax.Array) -> Any:
        """module.apply of arrays [B, ...]."""
        return self.module.apply({"params": _values(self.params)}, *xs)


def init(net: nnx.Module) -> dict[str, Any]:
    """The net's parameters as nested dictionaries of arrays, keys being strings: for `TrainState`, optax, any file."""
    params = split_net(net)[1]
    return unflatten_dict({tuple(map(str, path)): value for path, value in flat(params).items()})


def predict(net: nnx.Module, steps: int | None = None, **options: Any) -> Callable[[Any, Any], Any]:
    """(params, x) ↦ the outputs as of `safjax.predict`, with the same options: an `apply_fn` for `TrainState`."""
    graph, own, rest = split_net(net)

    def outputs(params: Any, x: Any) -> Any:
        return predict_net(graph.merge(_state(own, params), rest), x, steps, **options)

    return outputs


def value_and_grad(
    net: nnx.Module, loss: Callable[..., jax.Array], rule: Rule, steps: int | None = None, **options: Any
) -> Callable[..., tuple[tuple[jax.Array, Any], dict[str, Any]]]:
    """(params, x, *targets, key=None, state=None, lengths=None) ↦ ((value, aux), grads), as `safjax.value_and_grad`.

    Args:
      net: its structure, and all of its variables that are no parameters, as they are now.
      loss, rule, steps, options: as of `safjax.value_and_grad`.

    Returns:
      A compiled function; its gradients have the form of the parameters, that of `init`.

    Raises:
      TypeError, ValueError: as of `safjax.value_and_grad`; when called, params are not those of the net, or a call
        changes a variable of it (batch statistics, counts of random numbers), for which there is no place here.
    """
    graph, own, others = split_net(net)
    compute, task_of = training.value_and_grad(loss, rule, steps, **options), task_maker(loss, rule, steps, *_SILENT)

    @jax.jit
    def compiled(params: Any, rest: Any, x: Any, targets: tuple[Any, ...], given: dict[Any, Any]) -> Any:
        values = _state(own, params)
        state, lengths = given.get("state"), given.get("lengths")
        _refuse_changes(
            task_of((graph, values, rest), (x, targets, state, lengths))[0], graph.merge(values, rest), rest
        )
        result, grads = compute(graph.merge(values, rest), x, *targets, **given)
        return result, unflatten_dict({tuple(map(str, path)): g for path, g in flat(nnx.as_pure(grads)).items()})

    def of_params(params: Any, x: Any, *targets: Any, **given: Any) -> Any:
        return compiled(params, others, x, targets, given)

    return of_params


def _variables(tree: Mapping[str, Any]) -> nnx.Dict[Any]:
    return nnx.Dict({k: _variables(v) if isinstance(v, Mapping) else nnx.Param(v) for k, v in tree.items()})


def _values(tree: Any) -> Any:
    return {k: v.get_value() if isinstance(v, nnx.Variable) else _values(v) for k, v in tree.items()}


def _state(own: Any, params: Any) -> nnx.State[Any, Any]:
    """The parameters as the net has them."""
    values = {}
    for path, old in flat(own).items():
        value = params
        for part in map(str, path):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None or jax.tree.map(jax.numpy.shape, value) != jax.tree.map(jax.numpy.shape, old):
            given = "nothing" if value is None else f"the shape {jax.tree.map(jax.numpy.shape, value)}"
            raise ValueError(
                f"params has {given} at '{join(path)}', but the net has a parameter of the shape "
                f"{jax.tree.map(jax.numpy.shape, old)} there. Make them by safjax.linen.init(net)."
            )
        values[path] = value
    return nnx.from_flat_state(values)


_SILENT = (None, None, (), False)


def _refuse_changes(bound: Bound, net: nnx.Module, rest: Any) -> None:
    """Of what the net holds beside its parameters, only what belongs to a sequence may change."""
    # Dropout that is off draws its keys all the same.
    idle = [path for path, module in nnx.iter_modules(net) if getattr(module, "deterministic", False)]
    for path, old in flat(rest).items():
        moved = path in bound.changing or bound.constants.get(path) is not old
        if moved and path not in bound.own and not any(path[: len(part)] == part for part in idle):
            raise ValueError(
                f"A call of the net changes its variable '{join(path)}', but here a net is a function of its "
                "parameters alone, so that the change would be lost. Call net.eval() before, or train the NNX net "
                "itself, by safjax.value_and_grad."
            )
