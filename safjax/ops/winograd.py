"""Convolution with a 3×3 kernel in 4/9 of the multiplications: Winograd's minimal filtering F(2×2, 3×3).

The output is cut into tiles of 2×2, each of which is computed from the 4×4 entries d of the padded input that it meets:

    y = Aᵀ (V ⊙ U) A,   V = Bᵀ d B,   U = G w Gᵀ

         ⎡ 1  0 −1  0 ⎤       ⎡ 1   0   0 ⎤
    Bᵀ = ⎢ 0  1  1  0 ⎥   G = ⎢ ½   ½   ½ ⎥   Aᵀ = ⎡ 1  1  1  0 ⎤
         ⎢ 0 −1  1  0 ⎥       ⎢ ½  −½   ½ ⎥        ⎣ 0  1 −1 −1 ⎦
         ⎣ 0  1  0 −1 ⎦       ⎣ 0   0   1 ⎦

where ⊙ is a matrix product over channels for each of the 16 entries (Lavin & Gray, "Fast algorithms for convolutional
neural networks", 2016, Sec. 4). The kernel's gradient is the transpose of all that, ∂L/∂w = Gᵀ (Vᵀ ⊙ A δ Aᵀ) G.

Tiles are worked through in blocks of rows that fit the cache; only one block's V and V ⊙ U are in memory at a time.

A NaN or an infinity in an image makes NaN of the whole tiles of 2×2 that meet it, not only of the outputs whose 3×3
window does; of no other image.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from safjax.computed_after import zero_known_with

BLOCK = 1024
"""Tiles of a block at most, where a row has not more already."""

G = (1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0)

Kernel = Sequence[Sequence[float]]
Padding = Sequence[tuple[int, int]]


def convolve(x: jax.Array, w: jax.Array, padding: Padding) -> jax.Array:
    """y[n, i, o] = Σ_{k, c} x̄[n, i + k, c] w[k, c, o].

    Args:
      x: [N, H, W, C].
      w: [3, 3, C, O].
      padding: zeros (low, high) around H and W; negative numbers crop.

    Returns:
      [N, H', W', O], a size being the input's plus its padding minus 2.
    """
    return _over_tiles(x, _transformed(G, w, x), padding)


def input_gradient(w: jax.Array, δ: jax.Array, padding: Padding) -> jax.Array:
    """∂L/∂x[n, j, c] = Σ_{k, o} δ[n, j + low − k, o] w[k, c, o]: δ, convolved with the flipped and transposed kernel.

    Args:
      w: [3, 3, C, O].
      δ: ∂L/∂y, [N, H', W', O].
      padding: of the convolution.

    Returns:
      [N, H, W, C].
    """
    # Transposing U, the matrix product's own business, is free; transposing w would be a copy.
    return _over_tiles(
        δ, _transformed([row[::-1] for row in G], w, δ).mT, [(2 - low, 2 - high) for low, high in padding]
    )


def weight_gradient(x: jax.Array, δ: jax.Array, padding: Padding) -> jax.Array:
    """∂L/∂w[k, c, o] = Σ_{n, i} x̄[n, i + k, c] δ[n, i, o].

    Args:
      x: [N, H, W, C].
      δ: ∂L/∂y, [N, H', W', O].
      padding: of the convolution.

    Returns:
      [3, 3, C, O].
    """
    # Padded by 0 of δ: or else the compiler would keep the tiles of the forward pass for here.
    x, height, width = _padded(x, padding, zero_known_with(δ))
    rows, columns = -(-height // 2), -(-width // 2)
    δ = jnp.pad(δ, [(0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)])

    def block(total, start, count):
        inputs = _on_both_axes(_to_input, _entries(x, start, count, 4), columns)
        errors = _on_both_axes(_from_output, _entries(δ, start, count, 2), columns)
        return total + jnp.matmul(inputs.mT, errors)

    zeros = jnp.zeros((16, x.shape[-1], δ.shape[-1]), δ.dtype)
    total = _over_blocks(block, zeros, rows, len(x) * columns)
    return (_both(G, total.dtype).T @ total.reshape(16, -1)).reshape(3, 3, *zeros.shape[1:])


def has_few_tiles(out: Sequence[int]) -> bool:
    """Whether maps of this shape [N, H, W, O] have so few tiles of 2×2 that nothing is gained forwards.

    The kernel is transformed whatever the number of tiles. Measured on two cores for 512 features: 4 tiles take 1.8
    times as long as by the kernel as it is, 24 1.4 times, 32 as long. The compiler's own convolution of maps of 2×2 is
    slow: up to 20 times as long.
    """
    images, *sizes = out[:-1]
    known = all(isinstance(size, int) for size in (images, *sizes))
    return known and min(sizes) >= 4 and images * math.prod(-(-size // 2) for size in sizes) < 32


def _over_tiles(x: jax.Array, kernels: jax.Array, padding: Padding) -> jax.Array:
    """The convolution of x with U, [16, C, O]."""
    x, height, width = _padded(x, padding)
    batch, rows, columns, features = x.shape[0], -(-height // 2), -(-width // 2), kernels.shape[-1]

    def block(y, start, count):
        products = jnp.matmul(_on_both_axes(_to_input, _entries(x, start, count, 4), columns), kernels)
        products = products.reshape(4, 4, batch, count, 1, columns, 1, features)
        halves = _to_output(*(products[:, i] for i in range(4)))
        tiles = [jnp.concatenate(_to_output(*half), 4) for half in halves]
        return lax.dynamic_update_slice_in_dim(y, jnp.concatenate(tiles, 2), start, 1)

    y = lax.empty((batch, rows, 2, columns, 2, features), x.dtype)
    y = _over_blocks(block, y, rows, batch * columns)
    return y.reshape(batch, 2 * rows, 2 * columns, features)[:, :height, :width]


def _transformed(G: Kernel, w: jax.Array, x: jax.Array) -> jax.Array:
    """U = G w Gᵀ, [16, C, O]."""
    # Or else the compiler would compute the U of all layers before the time loop and hold them: as much memory as
    # 16/9 of all kernels.
    return ((_both(G, w.dtype) + zero_known_with(x)) @ w.reshape(9, -1)).reshape(16, *w.shape[2:])


def _both(G: Kernel, dtype: DTypeLike) -> jax.Array:
    """The map w ↦ G w Gᵀ as a matrix [16, 9]; of its 16 results, columns come first, as in `_on_both_axes`."""
    matrix = jnp.array(G, dtype)
    return jnp.einsum("ai,bj->baij", matrix, matrix).reshape(16, 9)


def _padded(x: jax.Array, padding: Padding, zero: Any = 0) -> tuple[jax.Array, int, int]:
    """x̄, enlarged so that its tiles are whole, and the output's height and width."""
    height, width = (size + low + high - 2 for size, (low, high) in zip(x.shape[1:3], padding, strict=True))
    (top, bottom), (left, right) = padding
    pads = [(0, 0, 0), (top, bottom + height % 2, 0), (left, right + width % 2, 0), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(zero, x.dtype), pads), height, width


def _over_blocks(block: Callable[[Any, Any, int], Any], state: Any, rows: int, row_size: int) -> Any:
    """block(state, first row, rows of a block) for one block of rows of tiles after the other."""
    fits = [c for c in range(2, rows + 1) if isinstance(row_size, int) and c * row_size <= BLOCK]
    count = max([1, *(c for c in fits if rows % c == 0)])
    if count == rows:
        return block(state, 0, rows)
    return lax.fori_loop(0, rows // count, lambda i, state: block(state, i * count, count), state)


def _entries(x: jax.Array, start: Any, count: int, size: int) -> list[jax.Array]:
    """The rows of x that are first in their tiles, second, ... and last; of `count` rows of tiles."""
    strip = lax.dynamic_slice_in_dim(x, 2 * start, 2 * count + size - 2, 1)
    return [strip[:, i : i + 2 * count - 1 : 2] for i in range(size)]


def _on_both_axes(function: Callable[..., Sequence[Any]], rows: Sequence[jax.Array], columns: int) -> jax.Array:
    """F d Fᵀ for the linear map F that `function` applies to a sequence of arrays, [16, tiles, C]."""
    half = jnp.stack(function(*rows))
    both = jnp.stack(function(*(half[:, :, :, j : j + 2 * columns - 1 : 2] for j in range(len(rows)))))
    return both.reshape(16, -1, both.shape[-1])


def _to_input(a, b, c, d):
    """Bᵀ."""
    return a - c, b + c, c - b, b - d


def _to_output(a, b, c, d):
    """Aᵀ."""
    return a + b + c, b - c - d


def _from_output(a, b):
    """A."""
    return a, a + b, a - b, -b
