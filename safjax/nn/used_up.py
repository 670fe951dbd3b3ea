"""What a training step has used up: its arrays are gone, and whoever still wants them is told so.

And what it has made in vain, where a loop gives it the same net again and again.
"""

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
from flax import nnx

MESSAGE = (
    "A later training step has used up this net or optimizer state: the arrays are gone, their memory holds the newer "
    "ones. What is to be kept, say the best net so far, must be copied before the next step: best = "
    "copy.deepcopy(net), and likewise kept = copy.deepcopy(opt_state). Another name for the same net (best = net), "
    "nnx.state(net) and nnx.clone(net) share its arrays."
)


def _refused(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(MESSAGE)


class UsedUp:
    """Stands in a used-up net where an array was: printing it tells what happened, any other use raises that."""

    def __getattr__(self, name: str) -> NoReturn:
        if name == "__wrapped__":  # asked of every value by Python's `inspect`, and no use of it
            raise AttributeError(name)
        raise RuntimeError(MESSAGE)

    def __repr__(self) -> str:
        return f"UsedUp({MESSAGE!r})"


for _name in (
    *("array", "getitem", "setitem", "len", "iter", "bool", "int", "float", "complex", "index", "format"),
    *("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert", "reduce_ex", "copy", "deepcopy"),
    *(side + name for side in ("", "r") for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")),
    *(side + name for side in ("", "r") for name in ("matmul", "and", "or", "xor", "lshift", "rshift", "divmod")),
):
    setattr(UsedUp, f"__{_name}__", _refused)
UsedUp.__hash__ = object.__hash__  # type: ignore[method-assign]

_GONE = UsedUp()


def _is_gone(array: Any) -> bool:
    if array is _GONE or isinstance(array, jax.core.Tracer):
        return array is _GONE
    # NumPy arrays cannot be deleted.
    deleted: Callable[[], bool] | None = getattr(array, "is_deleted", None)
    return deleted is not None and deleted()


def refuse_used_up(arrays: Any) -> None:
    """Refuses arrays that a training step has used up.

    Raises:
      RuntimeError: one of them is gone.
    """
    if any(map(_is_gone, jax.tree.leaves(arrays))):
        raise RuntimeError(MESSAGE)


def mark_used_up(state: nnx.State[Any, Any]) -> None:
    """Leaves `UsedUp` in each `nnx.Variable` of the state whose array is gone."""
    # By hand: a walk over JAX's trees would take ten times as long, which is felt where a step is small.
    inner: list[Any] = [state.raw_mapping]
    while inner:
        for value in inner.pop().values():
            if isinstance(value, dict):
                inner.append(value)
            elif isinstance(value, nnx.Variable):
                raw = value.get_raw_value()
                gone = _is_gone(raw) if isinstance(raw, jax.Array) else any(map(_is_gone, jax.tree.leaves(raw)))
                if gone:
                    value.set_raw_value(_GONE, _unsafe_bypass_check=True)


UNTAKEN = (
    "This training step was given the same net in several calls, and its results were not taken. It changes neither "
    "the net nor the optimizer's state that it is given, it returns new ones: write net, opt_state, (value, aux) = "
    "step(net, opt_state, x, *targets)."
)


def told_untaken(
    params: Any, before: Sequence[weakref.ref[Any]], left: Mapping[int, weakref.ref[Any]], made: int
) -> list[weakref.ref[Any]]:
    """Warns of a net that is trained in vain: given a second time, while what came of the first was dropped.

    Args:
      params: the net's.
      before: what this returned at the last call.
      left: what the last call made and this one was not given.
      made: how much the last call made.

    Returns:
      References to the arrays of `params`.
    """
    arrays = [a for a in jax.tree.leaves(params) if isinstance(a, jax.Array) and not isinstance(a, jax.core.Tracer)]
    same = len(arrays) == len(before) > 0 and all(ref() is a for ref, a in zip(before, arrays, strict=True))
    # Whoever wants several steps from one net keeps what each of them returned; an optimizer's state goes with its net.
    # Python may take some calls to see that a net is gone.
    if same and (len(left) < made or any(ref() is None for ref in left.values())):
        warnings.warn(UNTAKEN, stacklevel=3)
    return [weakref.ref(a) for a in arrays]
