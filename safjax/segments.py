"""Loops over time in segments, of which the backward pass computes again what was not kept.

Chen, Xu, Zhang & Guestrin, "Training deep nets with sublinear memory cost", 2016, Sec. 4.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

DEAR = "safjax: dear to compute again"
"""The name of what takes synapses to compute and is all that their gradients, and those of neurons, need of it."""


def dear(x: jax.Array) -> jax.Array:
    """x, under that name."""
    return checkpoint_name(x, DEAR)


def in_segments(
    body: Callable[..., tuple[Any, Any]], carry: Any, over_time: Any, steps: int, length: int
) -> tuple[Any, Any]:
    """As `lax.scan`, in segments of so many steps, each of which the backward pass computes a second time."""

    found = []
    for divided, count, held in division(over_time, steps, length):

        def segment(carry: Any, at: Any, held: int = held) -> tuple[Any, Any]:
            return jax.lax.scan(body, carry, at, held)

        carry, stacked = again(segment, carry, divided, count)
        found.append(stacked)
    return carry, joined(found)


def division(over_time: Any, steps: int, length: int) -> Iterator[tuple[Any, int, int]]:
    """(arrays [n, length, ...], n, length) of whole segments, and of a last one that is shorter if there is one."""
    whole = steps // length * length
    yield jax.tree.map(lambda x: x[:whole].reshape(-1, length, *x.shape[1:]), over_time), whole // length, length
    if whole < steps:
        yield jax.tree.map(lambda x: x[whole:][None], over_time), 1, steps - whole


def joined(parts: list[Any]) -> Any:
    """What was stacked of segments, each [n, length, ...], as [T, ...]."""
    return jax.tree.map(lambda *ys: jnp.concatenate([y.reshape(-1, *y.shape[2:]) for y in ys]), *parts)


def again(segment: Callable[..., Any], carry: Any, divided: Any, count: int, keep: bool = False) -> tuple[Any, Any]:
    """`lax.scan` of segments, which the backward pass computes a second time; with `keep`, all but what is `dear`."""
    policy = jax.checkpoint_policies.save_only_these_names(DEAR) if keep else None
    # A loop of one iteration the compiler writes out, where it would find that both times the same is computed.
    segment = jax.checkpoint(segment, prevent_cse=count == 1, policy=policy)
    return jax.lax.scan(segment, carry, divided, count)
