"""A batch in blocks of images that fit the cache.

On CPU a convolution of many images at once, as layer-by-layer rules have them (T · B), writes and reads arrays that no
cache holds: for x[128, 32, 32, 32] and a 3×3 kernel the weight gradient takes three times as long an image as in
batches of 16.

Image n is in block n mod (number of blocks): of a batch that lies on several devices, each block has its share of all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 1 << 21
"""Bytes of input and output of a block, about a core's second-level cache."""


def by_blocks(function: Callable[[Any], Any], x: Any, count: int) -> Any:
    """function(x), x[N, ...] ↦ [N, ...], image by image the same, in `count` blocks; trees of arrays as well.

    All at once where `has_placed_axes`: there a loop's state needs a type that says how it is placed.
    """
    if count == 1 or has_placed_axes(*jax.tree.leaves(x)):
        return function(x)
    x = jax.tree.map(lambda a: a.reshape(len(a) // count, count, *a.shape[1:]), x)

    def block(i: Any) -> Any:
        return function(jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, 1, False), x))

    def body(i: jax.Array, y: Any) -> Any:
        return jax.tree.map(lambda a, part: lax.dynamic_update_index_in_dim(a, part, i, 1), y, block(i))

    one = jax.eval_shape(block, 0)
    y = jax.tree.map(lambda a: jnp.zeros((len(a), count, *a.shape[1:]), a.dtype), one)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), lax.fori_loop(0, count, body, y))


def summed_over_blocks(
    function: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, δ: jax.Array, count: int
) -> jax.Array:
    """function(x, δ), a sum over the images of x[N, ...] and δ[N, ...], in `count` blocks."""
    if count == 1:
        return function(x, δ)
    x, δ = (a.reshape(len(a) // count, count, *a.shape[1:]) for a in (x, δ))

    def block(i: Any) -> Any:
        return function(*(lax.dynamic_index_in_dim(a, i, 1, False) for a in (x, δ)))

    one = jax.eval_shape(block, 0)
    return lax.fori_loop(0, count, lambda i, total: total + block(i), jnp.zeros(one.shape, one.dtype))


def has_placed_axes(*arrays: jax.Array) -> bool:
    """Whether types say how values are placed: on a mesh with explicit axes, or in `shard_map` with its check."""
    types = [jax.typeof(a) for a in arrays]
    meshes = [jax.sharding.get_abstract_mesh(), *(t.sharding.mesh for t in types)]
    return any(mesh.explicit_axes for mesh in meshes) or any(t.manual_axis_type.varying for t in types)


def blocks_of(images: int, bytes_of_one: int, at_least: int = 1) -> int:
    """Into how many blocks a batch is cut: a divisor of its size, no more than four times the number that would fit.

    Args:
      images: N; of one that is not known yet, as in a program that is exported for any batch, no blocks are made.
      bytes_of_one: of what goes in and what comes out.
      at_least: blocks. Two keep the compiler from fusing the function into each of its readers, of which every one
        would compute it again: on CPU it does not respect `jax.lax.optimization_barrier`.
    """
    if not isinstance(images, int) or images == 0:
        return 1
    wanted = min(images, max(at_least, -(-images * bytes_of_one // BLOCK)))
    count = next(c for c in range(wanted, images + 1) if images % c == 0)
    return count if count <= 4 * wanted else 1
