"""What a net is beside its variables, as a value that a compiled program is looked up by."""

import collections.abc
import copy
import dataclasses
from typing import Any

from flax import nnx

from safjax.nn.states import join
from safjax.nn.used_up import refuse_used_up


class Graph:
    """The structure of a net and its plain attributes: equal for nets that one compiled program can run.

    NNX's own GraphDef has no hash where a net has a list or a dict as an attribute. Such are compared by what they
    hold, element by element and type by type, as they are when this is made: later changes of the list leave it alone.
    """

    def __init__(self, net: nnx.Module, graphdef: nnx.GraphDef[Any]):
        try:
            self._hash, self._key = hash(graphdef), graphdef
        except TypeError:
            self._key = _key(net, graphdef)
            self._hash = hash(self._key)
            graphdef = dataclasses.replace(graphdef, attributes=copy.deepcopy(graphdef.attributes))
        self._graphdef = graphdef

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._key == other._key

    def merge(self, *states: Any) -> Any:
        """A net of this structure with the given variables, as of `nnx.merge`."""
        return nnx.merge(self._graphdef, *states)


def split_net(net: nnx.Module) -> tuple[Graph, Any, Any]:
    """(graph, parameters, other variables), as plain arrays.

    Raises:
      TypeError: an attribute is neither a variable nor something to compare; the message names it.
      RuntimeError: a training step has used the net up.
    """
    graph, _, (params, rest) = split_variables(net)
    refuse_used_up((params, rest))
    return graph, params, rest


def split_variables(net: nnx.Module) -> tuple[Graph, tuple[Any, Any], tuple[Any, Any]]:
    """(graph, (parameters, other variables), the same as plain arrays, used up or not)."""
    graphdef, *variables = nnx.split(net, nnx.Param, ...)
    params, rest = nnx.as_pure(tuple(variables))
    return Graph(net, graphdef), (variables[0], variables[1]), (params, rest)


def _key(net: nnx.Module, graphdef: Any) -> Any:
    for name, attribute in graphdef.attributes:
        try:
            _frozen(attribute)
        except TypeError as error:
            raise TypeError(
                f"The attribute '{_path(net, name, attribute)}' of the net holds what cannot be compared with another "
                f"({error}), so that nobody could tell when the net is to be compiled anew. Make it a number, a "
                "string, a tuple, list or dict of such, a dataclass, or an nnx.Variable of arrays."
            ) from error
    return _frozen(graphdef.nodes), _frozen(graphdef.attributes)


def _path(net: nnx.Module, name: Any, attribute: Any) -> str:
    """Where a plain attribute of this name and value is."""
    found = (path for path, module in nnx.iter_modules(net) if vars(module).get(name) is attribute.value)
    return join((*next(found, ()), name))


def _frozen(value: Any) -> Any:
    """A hashable value that equals another one made of the same parts."""
    kind = type(value)
    if isinstance(value, collections.abc.Mapping):
        return kind, tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return kind, tuple(map(_frozen, value))
    if isinstance(value, set):
        return kind, frozenset(value)
    if hasattr(value, "tobytes"):  # a NumPy array in a dataclass
        return kind, value.dtype.str, value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        if not dataclasses.is_dataclass(value):
            raise
        return kind, tuple(_frozen(getattr(value, field.name)) for field in dataclasses.fields(value))
    return kind, value
