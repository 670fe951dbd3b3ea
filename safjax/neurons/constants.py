"""The constants of a neuron that are arrays: those that may be learned."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Names = tuple[str, ...]


def constants_of(cell: Any) -> dict[Names, jax.Array]:
    """The real-valued arrays among a cell's constants, by the names of the fields that lead to them, sorted.

    Those of the spike function are not among them. Sorted, as JAX has the entries of a dictionary.

    Example:
      >>> import jax.numpy as jnp
      >>> from safjax.neurons import LIFCell, RefractoryCell
      >>> from safjax.neurons.constants import constants_of
      >>> from safjax.surrogate import Sigmoid
      >>> list(constants_of(RefractoryCell(LIFCell(0.5, jnp.ones(3), Sigmoid()), steps=2)))
      [('cell', 'threshold')]
    """
    found: dict[Names, jax.Array] = {}
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        if field.name == "surrogate":
            continue
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
            found[field.name,] = value
        elif dataclasses.is_dataclass(value):
            found.update({(field.name, *names): array for names, array in constants_of(value).items()})
    return dict(sorted(found.items()))


def with_constants(cell: Any, arrays: Mapping[Names, jax.Array]) -> Any:
    """The cell with other arrays in these places."""
    changed: dict[str, Any] = {}
    for first in dict.fromkeys(names[0] for names in arrays):
        below = {names[1:]: array for names, array in arrays.items() if names[0] == first}
        changed[first] = below[()] if () in below else with_constants(getattr(cell, first), below)
    return dataclasses.replace(cell, **changed)
