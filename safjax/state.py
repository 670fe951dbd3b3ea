"""What a net knows of a sequence so far, in the caller's hands, from call to call; its members put back to rest."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from safjax.gains import Gain


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables", "rest", "running"],
    meta_fields=["kind", "axes", "longest"],
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of a net between two steps of a sequence: a pytree of arrays that no call changes.

    `safjax.start` makes the state of rest; every call that is given one returns the next.

    Attributes:
      variables: what each layer keeps, by its path: membranes, traces, sums, readouts, the key of a dropout mask.
      rest: what a member of the batch begins with, in the same places; 0 stands for zeros of any shape.
      running: what a stream's net changes beside that, such as counts of random numbers; in training the net has them.
      kind: the propagation whose state it is: one of spikes, of traced spikes, or of rates.
      axes: of each entry of `variables`, where its axis of members is, or would be; None where it can have none.
      longest: the most steps, each weighed, over which the sums of the state are exact; None where that is no matter.
    """

    variables: dict[str, Any]
    rest: dict[str, Any]
    running: dict[str, Any]
    kind: Any
    axes: tuple[tuple[str, tuple[int | None, ...]], ...]
    longest: float | None


def reset(state: State, which: jax.Array) -> State:
    """Puts some members of the batch back to rest; the others go on.

    It may stand in `jax.jit` and `jax.lax.scan`. The first reset gives each member a gain of its own, which changes the
    shapes of the state: before a scan that resets, write state = safjax.reset(state, jnp.ones(B, bool)).

    Args:
      state: of any rule that goes step by step, of a stream, or of a rule that goes layer by layer.
      which: truth values [B]; a member that is marked begins anew.

    Returns:
      The state of which the marked members are as `safjax.start` makes them, with a dropout mask of their own.

    Raises:
      TypeError: state is no `State`, or `which` holds no truth values.
      ValueError: `which` is not [B]; or a layer keeps a state that has no axis of members.

    Example:
      >>> import jax.numpy as jnp
      >>> import safjax
      >>> from flax import nnx
      >>> net = nnx.Sequential(safjax.nn.LIF(), safjax.nn.LeakyReadout())
      >>> stream = safjax.stream(net)
      >>> state, output = stream(stream.start(jnp.ones((2, 3))), jnp.full((2, 3), 0.6))
      >>> state = safjax.reset(state, jnp.array([True, False]))
      >>> state.variables["layers.0.state"][:, 0].tolist()
      [0.0, 0.6000000238418579]
    """
    if not isinstance(state, State):
        raise TypeError(f"reset expected a state as safjax.start makes it, but was given a {type(state).__name__}.")
    which = jnp.asarray(which)
    if which.dtype != jnp.bool_:
        raise TypeError(
            f"reset(state, which): expected truth values [B], True where a member begins anew, but was given "
            f"{which.dtype}{list(which.shape)}. Of numbers write which = done > 0."
        )
    variables = {}
    for path, axes in state.axes:
        leaves, structure = jax.tree.flatten(state.variables[path], is_leaf=is_gain)
        begins = jax.tree.leaves(state.rest[path], is_leaf=is_gain)
        new = [_begun(path, which, *x) for x in zip(leaves, begins, axes, strict=True)]
        variables[path] = jax.tree.unflatten(structure, new)
    return dataclasses.replace(state, variables=variables)


def is_gain(x: Any) -> bool:
    """Whether a part of a state is a `Gain`."""
    return isinstance(x, Gain)


def is_key(x: Any) -> bool:
    """Whether a part of a state is an array of random keys."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def where_members(path: str, which: jax.Array, new: Any, old: Any, axes: tuple[int | None, ...]) -> Any:
    """Member by member the one state of the layer at `path` or the other, both with gains of each member."""
    structure = jax.tree.structure(new, is_leaf=is_gain)
    parts = (jax.tree.leaves(state, is_leaf=is_gain) for state in (new, old))
    return jax.tree.unflatten(structure, [_where(path, which, *x) for x in zip(*parts, axes, strict=True)])


def of_each_member(value: Any, members: int, axes: tuple[int | None, ...]) -> Any:
    """The state of a layer, with a gain for each member."""
    parts, structure = jax.tree.flatten(value, is_leaf=is_gain)
    each = [gain_of_each(p, members, axis or 0) if is_gain(p) else p for p, axis in zip(parts, axes, strict=True)]
    return jax.tree.unflatten(structure, each)


def _begun(path: str, which: jax.Array, now: Any, begin: Any, axis: int | None) -> Any:
    if is_gain(now):
        gain = gain_of_each(now, len(which), axis or 0)
        return _where(path, which, Gain(jnp.zeros_like(gain.value), True), gain, axis)
    if is_key(now):
        keys = keys_of_each(now, len(which), axis or 0)
        return _where(path, which, _folded(keys, 1), keys, axis)
    if jnp.ndim(begin) == 0:
        begin = jnp.broadcast_to(jnp.asarray(begin, now.dtype), now.shape)
    return _where(path, which, begin, now, axis)


def _where(path: str, which: jax.Array, new: Any, old: Any, axis: int | None) -> Any:
    if is_gain(new):
        return Gain(_where(path, which, new.value, old.value, axis), True)
    if axis is None or which.ndim != 1 or old.ndim <= axis or old.shape[axis] != len(which):
        raise ValueError(
            f"The state at '{path}' has the shape {list(old.shape)}, and {list(which.shape)} truth values were given: "
            "expected one for each member of the batch, and a state with an axis of members. A layer of one's own "
            "keeps a value for each member, SequenceState(jnp.zeros(B)), to be put back to rest, or to end, by itself."
        )
    return jnp.where(which.reshape(*(1,) * axis, -1, *(1,) * (old.ndim - axis - 1)), new, old)


def gain_of_each(gain: Gain, members: int, axis: int) -> Gain:
    """The gain with an axis of members, which stands behind those of stacked layers."""
    if gain.apart:
        return gain
    value = jnp.expand_dims(gain.value, axis)
    return Gain(jnp.broadcast_to(value, (*value.shape[:axis], members, *value.shape[axis + 1 :])), True)


def keys_of_each(keys: jax.Array, members: int, axis: int) -> jax.Array:
    """A random key for each member of the batch: the sequence's, folded with the member's number."""
    if keys.ndim > axis:
        return keys
    return _folded(jnp.broadcast_to(keys[..., None], (*keys.shape, members)), jnp.arange(members))


def _folded(keys: jax.Array, number: Any) -> jax.Array:
    numbers = jnp.broadcast_to(number, keys.shape)
    fold = jax.random.fold_in
    for _ in range(keys.ndim):
        fold = jax.vmap(fold)
    return fold(keys, numbers)
