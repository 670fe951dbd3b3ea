"""A trained net as programs that run where safjax is not."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx
from jax import export as jax_export

from safjax.nn.arrays import named_arrays, with_arrays
from safjax.nn.exported import Exported, about
from safjax.nn.inference import evaluated, predict
from safjax.nn.module import SpikingModule
from safjax.nn.sizes import Sizes
from safjax.nn.streaming import stream
from safjax.nn.task import check_kept
from safjax.rules import bptt
from safjax.state import State
from safjax.tally import Kept

PLATFORMS = ("cpu", "cuda", "tpu")
KNOWN = ("cpu", "cuda", "rocm", "tpu")


def export(
    net: nnx.Module,
    x: Any,
    steps: int | None = None,
    *,
    outputs: Kept = "all",
    batch: int | None = None,
    length: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> Exported:
    """A net as programs for JAX alone, which need neither safjax nor the code of the net.

        safjax.export(net, images, steps=6).save("net.saf")

    The programs are those of `safjax.predict`, the whole sequence at once, and of `safjax.stream`, one time step after
    the other, lowered to StableHLO by `jax.export`; with them go the net's arrays, once. The net is exported as it is
    after net.eval(), whichever mode it is in: dropout off, batch normalisation by its running statistics. A net that
    needs all steps of a sequence at once has no stream.

    Args:
      net: a spiking net; left unchanged.
      x: an input as of `predict`, of which only shapes and dtypes matter: a static image [B, ...] with `steps`, or a
        sequence [T, B, ...] without. The dtype of x is that of all inputs to come.
      steps: T of a static image, or None.
      outputs: what `predict` returns, as of `safjax.predict`.
      batch: the number of members; None for any.
      length: T of a sequence; None for any.
      platforms: what the programs can run on, of "cpu", "cuda", "rocm" and "tpu".

    Raises:
      TypeError, ValueError: as of `safjax.predict`; a layer of the net cannot do with any number of members or of
        steps, and the message says which of batch= and length= to write.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> from safjax.nn import LIF, LeakyReadout, Synapse
      >>> net = nnx.Sequential(Synapse(nnx.Linear(4, 2, rngs=nnx.Rngs(0))), LIF(), LeakyReadout())
      >>> x = jnp.ones((9, 3, 4))
      >>> exported = safjax.export(net, x)
      >>> bool(jnp.all(exported.predict(x[:5, :2]) == safjax.predict(net, x[:5, :2])))
      True
    """
    check_kept(outputs, bptt())
    _check_sizes(batch, length, steps)
    _check_platforms(platforms)
    jax.eval_shape(lambda x: predict(net, x, steps), x)
    arrays, net = named_arrays(net), evaluated(net)

    def whole(arrays: Any, x: Any) -> Any:
        return predict(with_arrays(net, arrays), x, steps, outputs=outputs)

    def programs(x: Any, one: Any) -> dict[str, jax_export.Exported]:
        made = {"predict": _lowered(whole, (arrays, x), platforms)}
        stepwise = all(m.stepwise for _, m in nnx.iter_modules(net) if isinstance(m, SpikingModule))
        return {**made, **(_streaming(net, arrays, one, platforms) if stepwise else {})}

    sizes = Sizes(x, steps is None, batch, length)
    return Exported(sizes.tried(programs), arrays, about(steps, outputs, sizes.shapes()[0]))


def _check_sizes(batch: Any, length: Any, steps: Any) -> None:
    for name, size in (("batch", batch), ("length", length)):
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise ValueError(f"export({name}={size!r}): expected a whole number ≥ 1, or None for any.")
    if length is not None and steps is not None:
        raise ValueError(f"export(steps={steps}, length={length}): an image has no length; it is shown `steps` times.")


def _check_platforms(platforms: Any) -> None:
    unknown = [name for name in platforms if name not in KNOWN]
    if isinstance(platforms, str) or not platforms or unknown:
        raise ValueError(f"export(platforms={platforms!r}): expected names among {KNOWN}, such as {PLATFORMS}.")


def _lowered(function: Callable[..., Any], arguments: tuple[Any, ...], platforms: Sequence[str]) -> jax_export.Exported:
    return jax_export.export(jax.jit(function), platforms=tuple(platforms))(*arguments)


def _streaming(net: nnx.Module, arrays: Any, x: Any, platforms: Sequence[str]) -> dict[str, jax_export.Exported]:
    """The programs start, (arrays, x) ↦ state, and stream, (arrays, state, x) ↦ (state, output)."""
    form = jax.eval_shape(lambda arrays, x: stream(with_arrays(net, arrays)).start(x), arrays, x)

    def begin(arrays: Any, x: Any) -> dict[str, jax.Array]:
        return _named(stream(with_arrays(net, arrays)).start(x))

    def advance(arrays: Any, state: dict[str, jax.Array], x: Any) -> tuple[dict[str, jax.Array], Any]:
        carried = jax.tree.structure((form.variables, form.running))
        variables, running = jax.tree.unflatten(carried, [state[name] for name in _named(form)])
        # What a member begins anew with is only read where one does.
        before = dataclasses.replace(form, variables=variables, rest={}, running=running)
        after, output = stream(with_arrays(net, arrays))(before, x)
        return _named(after), output

    state = _named(form)
    return {
        "start": _lowered(begin, (arrays, x), platforms),
        "stream": _lowered(advance, (arrays, state, x), platforms),
    }


def _named(state: State) -> dict[str, jax.Array]:
    """The arrays of a state by their paths; a file cannot tell the classes that a `State` is made of."""
    leaves = jax.tree.leaves_with_path(state.variables) + jax.tree.leaves_with_path(state.running)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
