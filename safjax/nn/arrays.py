"""The numbers of a net as a flat dictionary of arrays, as files of arrays hold them, and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from safjax.nn.graphs import split_net
from safjax.nn.states import flat, join
from safjax.state import is_key

Net = TypeVar("Net", bound=nnx.Module)


def named_arrays(net: nnx.Module) -> dict[str, jax.Array]:
    """All arrays of a net by their paths: weights, running statistics, numbers that are not learned.

    Random keys and their counts are left out: they are no numbers that a net has learned, and files have no dtype for
    them.

    Args:
      net: left unchanged.

    Raises:
      TypeError: net is no `nnx.Module`.
      RuntimeError: a training step has used the net up.

    Example:
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse, named_arrays
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> {name: array.shape for name, array in named_arrays(net).items()}
      {'layers.0.layer.bias': (2,), 'layers.0.layer.kernel': (4, 2)}
    """
    _check(net, "named_arrays(net)")
    return dict(sorted((name, array) for _, name, array in _leaves(net) if array is not None))


def with_arrays(net: Net, arrays: Mapping[str, Any]) -> Net:
    """A copy of a net with these arrays, which are named as `named_arrays` names them.

        save_file(named_arrays(net), "net.safetensors")                      # of safetensors.flax
        net = with_arrays(Net(nnx.Rngs(0)), load_file("net.safetensors"))

    Args:
      net: says which arrays there are, of which shapes and dtypes; left unchanged. Random keys remain its own.
      arrays: of JAX or NumPy; all that the net has, and no others.

    Raises:
      TypeError: net is no `nnx.Module`.
      ValueError: an array is missing, or the net has none of that name, or one of another shape or dtype; the message
        names all of those.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from safjax.nn import Synapse, named_arrays, with_arrays
      >>> net, other = (Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(seed))) for seed in (0, 1))
      >>> loaded = with_arrays(other, named_arrays(net))
      >>> bool(jnp.all(loaded.layer.kernel[...] == net.layer.kernel[...]))
      True
    """
    _check(net, "with_arrays(net, arrays)")
    own = named_arrays(net)
    wrong = [*_missing(own, arrays), *(told for name in own if name in arrays for told in _unfit(name, own, arrays))]
    if wrong:
        raise ValueError(
            f"with_arrays(net, arrays): the arrays are not those of this net, a {type(net).__name__}. "
            f"{' '.join(wrong)} Make the net as the one that was saved, or rename and convert the arrays."
        )
    graphdef, state = nnx.split(net)
    variables = flat(nnx.as_pure(state))
    found: dict[tuple[Any, ...], list[Any]] = {}
    for path, name, array in _leaves(net):
        found.setdefault(path, []).append(None if array is None else jnp.asarray(arrays[name]))
    for path, leaves in found.items():
        old, structure = jax.tree.flatten(variables[path])
        new = [before if leaf is None else leaf for before, leaf in zip(old, leaves, strict=True)]
        variables[path] = jax.tree.unflatten(structure, new)
    return nnx.merge(graphdef, nnx.from_flat_state(variables), copy=True)


def _check(net: Any, call: str) -> None:
    if not isinstance(net, nnx.Module):
        raise TypeError(f"{call}: expected an nnx.Module, but was given one of type {type(net).__name__}.")
    split_net(net)  # Refuses one that a training step has used up.


def _leaves(net: nnx.Module) -> list[tuple[tuple[Any, ...], str, jax.Array | None]]:
    """(path of the variable, name, array) of every array of the net; None for those that are random."""
    found: list[tuple[tuple[Any, ...], str, jax.Array | None]] = []
    for path, variable in flat(nnx.state(net)).items():
        leaves = jax.tree.leaves_with_path(variable.get_value())
        for inner, leaf in leaves:
            name = join(path) + (f".{jax.tree_util.keystr(inner, simple=True, separator='.')}" if inner else "")
            random = isinstance(variable, nnx.RngState) or is_key(leaf)
            found.append((path, name, None if random else jnp.asarray(leaf)))
    return found


def _missing(own: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[str]:
    missing, others = (", ".join(repr(n) for n in a if n not in b) for a, b in ((own, arrays), (arrays, own)))
    told = [f"There is no array for {missing}."] if missing else []
    return [*told, f"The net has none of the name {others}."] if others else told


def _unfit(name: str, own: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[str]:
    given, expected = (_form(a[name]) for a in (arrays, own))
    return [] if given == expected else [f"'{name}' is {given} there, but {expected} in the net."]


def _form(array: Any) -> str:
    return f"{getattr(array, 'dtype', type(array).__name__)}{list(jnp.shape(array))}"
