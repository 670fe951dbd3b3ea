"""State that a net keeps in plain Python attributes, which a compiled time loop would not see change."""

from typing import Any

import jax
from flax import nnx

from safjax.nn.refusing import Refusals
from safjax.nn.states import join, modules

_OURS = {"binding", "blank"}


def plain_attributes(module: nnx.Module) -> dict[tuple[str, str], Any]:
    """{(path, name): value} of all attributes that are no variables and no modules; of containers, a copy."""
    found = {}
    for path, part in modules(module):
        for name, value in vars(part).items():
            if name.startswith(("_pytree", "_object", "_nnx")) or name in _OURS:
                continue
            if not isinstance(value, nnx.Variable | nnx.Pytree):
                kept = value.copy() if isinstance(value, list | dict | set) else value
                found[join(path), name] = kept
    return found


def refuse_changed(before: dict[tuple[str, str], Any], module: nnx.Module, refusals: Refusals, where: str = "") -> None:
    """Refuses attributes that a call of the module changed: `before` is what `plain_attributes` gave before it."""
    after = plain_attributes(module)
    for (path, name), value in after.items():
        old = before.get((path, name), _MISSING)
        if old is value or (old is not _MISSING and _equal(old, value)):
            continue
        owner = f"{where or 'the net'}, at '{path}'"
        refusals.refuse(
            path,
            f"A call of the net sets the attribute '{name}' of {owner}. A compiled loop over time runs Python code "
            "once, so the attribute would have one value at all steps. Keep what changes from step to step in a "
            "safjax.nn.SequenceState, which starts anew with every sequence: self.count = "
            "SequenceState(jnp.zeros(())), read and written as self.count[...]. Return what is "
            "only to be looked at as a part of the output.",
        )


_MISSING = object()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.Array) or isinstance(b, jax.Array) or type(a) is not type(b):
        return False
    try:
        return bool(a == b)
    except (TypeError, ValueError):
        return False
