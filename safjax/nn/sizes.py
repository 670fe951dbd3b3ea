"""Inputs of any number of members and of steps, for programs that are lowered once for all of them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax import export as jax_export

Made = TypeVar("Made")


class Sizes(NamedTuple):
    """The shapes of an input whose axes of time and batch may be of any length.

    Attributes:
      x: an input, a sequence [T, B, ...] or an image [B, ...].
      timed: whether it is a sequence.
      batch, length: B and T; None for any.
    """

    x: Any
    timed: bool
    batch: int | None
    length: int | None

    def shapes(self) -> tuple[Any, Any]:
        """(those of the whole input, those of one step's)."""
        names = ["t" if self.length is None else str(self.length)] * self.timed
        names += ["b" if self.batch is None else str(self.batch)]
        leading = jax_export.symbolic_shape(", ".join(names))

        def shaped(axes: Sequence[Any]) -> Any:
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct((*axes, *a.shape[len(leading) :]), a.dtype), self.x)

        return shaped(leading), shaped(leading[-1:])

    def tried(self, make: Callable[[Any, Any], Made]) -> Made:
        """make(shapes of the input, shapes of a step's).

        Raises:
          ValueError: it fails, but not for the sizes that x has; the message says which to fix.
        """
        try:
            return make(*self.shapes())
        except Exception as error:
            fixed = self._enough(make)
            if fixed is None:
                raise
            raise ValueError(
                "export(net, x): a layer of this net, or a function in it, cannot do with a size that is not known yet "
                f"({_first_line(error)}). Write safjax.export(..., {fixed}), and the programs take inputs of that size "
                f"only{_instead(error)}."
            ) from error

    def _enough(self, make: Callable[[Any, Any], Any]) -> str | None:
        """The arguments to write, as few as will do; None where nothing does."""
        axes = dict(
            zip(["length", "batch"] if self.timed else ["batch"], jax.tree.leaves(self.x)[0].shape, strict=False)
        )
        free = [name for name in ("batch", "length") if name in axes and getattr(self, name) is None]
        for count in range(1, len(free) + 1):
            for names in itertools.combinations(free, count):
                sizes = {name: axes[name] for name in names}
                try:
                    make(*self._replace(**sizes).shapes())
                except Exception:
                    continue
                return ", ".join(f"{name}={size}" for name, size in sizes.items())
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _instead(error: Exception) -> str:
    """What to write in a layer that asks for a size as a number."""
    if "cannot be interpreted as an integer" not in str(error):
        return ""
    return "; or let the layer say x.shape[0] in place of len(x), which has to be a number: x.reshape(x.shape[0], -1)"
