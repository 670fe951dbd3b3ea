"""Convolution with a 3×3 kernel in 4/9, 1/3 or 1/4 of the multiplications: Winograd's minimal filtering.

The output is cut into tiles of m×n, each computed from the (m + 2)×(n + 2) entries d of the padded input that it meets:

    y = Aᵀ (V ⊙ U) A′,   V = Bᵀ d B′,   U = G w G′ᵀ

where ⊙ is a matrix product over channels for each of the (m + 2)(n + 2) entries, and A, B, G are the matrices of one
form of `tile_forms` for rows, A′, B′, G′ those of one for columns (Lavin & Gray, "Fast algorithms for convolutional
neural networks", 2016, Sec. 4). The kernel's gradient is the transpose of all that, ∂L/∂w = Gᵀ (Vᵀ ⊙ A δ A′ᵀ) G′.

Small maps have the smaller tiles: U is as large as (m + 2)(n + 2) / 9 kernels, and they have few tiles to use it for.

Tiles are worked through in blocks of rows; only one block's V and V ⊙ U are in memory at a time.

A NaN or an infinity in an image makes NaN of the whole tiles that meet it, not only of the outputs whose 3×3 window
does; of no other image.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from safjax.computed_after import zero_known_with
from safjax.ops.tile_forms import Form, cheapest

BLOCK = 1 << 26
"""Bytes of a block's V and V ⊙ U at most, where a row of tiles has not more already. A single block is best where it
fits: in a loop the compiler runs the last operation of a block, which writes into the result, on one core."""

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
    tiling = _tiling(x, padding)
    return _over_tiles(x, _transformed(tiling, w, x), padding, tiling)


def input_gradient(w: jax.Array, δ: jax.Array, padding: Padding) -> jax.Array:
    """∂L/∂x[n, j, c] = Σ_{k, o} δ[n, j + low − k, o] w[k, c, o]: δ, convolved with the flipped and transposed kernel.

    Args:
      w: [3, 3, C, O].
      δ: ∂L/∂y, [N, H', W', O].
      padding: of the convolution.

    Returns:
      [N, H, W, C].
    """
    padding = [(2 - low, 2 - high) for low, high in padding]
    tiling = _tiling(δ, padding)
    # Transposing U, the matrix product's own business, is free; transposing w would be a copy.
    return _over_tiles(δ, _transformed(tiling, w, δ, flipped=True).mT, padding, tiling)


def weight_gradient(x: jax.Array, δ: jax.Array, padding: Padding) -> jax.Array:
    """∂L/∂w[k, c, o] = Σ_{n, i} x̄[n, i + k, c] δ[n, i, o].

    Args:
      x: [N, H, W, C].
      δ: ∂L/∂y, [N, H', W', O].
      padding: of the convolution.

    Returns:
      [3, 3, C, O].
    """
    tiling = _tiling(x, padding)
    rows, columns = tiling.forms
    # Padded by 0 of δ: or else the compiler would keep the tiles of the forward pass for here.
    x = _padded(x, padding, tiling, zero_known_with(δ))
    δ = jnp.pad(δ, [(0, 0), (0, tiling.missing[0]), (0, tiling.missing[1]), (0, 0)])

    def block(total: jax.Array, start: Any, count: int) -> jax.Array:
        inputs = _on_both_axes(rows.to_input, columns.to_input, x, start, count, tiling, 2)
        errors = _on_both_axes(rows.from_output, columns.from_output, δ, start, count, tiling, 0)
        return total + jnp.matmul(inputs.mT, errors)

    zeros = jnp.zeros((rows.products * columns.products, x.shape[-1], δ.shape[-1]), δ.dtype)
    total = _over_blocks(block, zeros, tiling.rows, tiling.row_bytes(x, zeros.shape[-1]))
    return (_both(tiling.forms, total.dtype).T @ total.reshape(len(total), -1)).reshape(3, 3, *zeros.shape[1:])


class _Tiling(NamedTuple):
    """How the outputs of one image are cut.

    forms: of rows and columns.
    sizes: outputs.
    """

    forms: tuple[Form, Form]
    sizes: tuple[int, int]

    @property
    def rows(self) -> int:
        return self.forms[0].tiles(self.sizes[0])

    @property
    def columns(self) -> int:
        return self.forms[1].tiles(self.sizes[1])

    def row_bytes(self, x: jax.Array, features: int) -> int:
        """Of V and V ⊙ U of one row of tiles in all images."""
        entries = self.forms[0].products * self.forms[1].products * x.shape[0] * self.columns
        return entries * (x.shape[-1] + features) * x.dtype.itemsize

    @property
    def missing(self) -> tuple[int, int]:
        """Rows and columns of the last tiles that the outputs do not fill."""
        height, width = self.sizes
        return self.rows * self.forms[0].size - height, self.columns * self.forms[1].size - width


def _tiling(x: jax.Array, padding: Padding) -> _Tiling:
    height, width = (size + low + high - 2 for size, (low, high) in zip(x.shape[1:3], padding, strict=True))
    return _Tiling(cheapest(height, width), (height, width))


def has_few_tiles(out: Sequence[int]) -> bool:
    """Whether maps of this shape [N, H, W, O] have so few tiles of 2×2 that nothing is gained forwards.

    The kernel is transformed whatever the number of tiles. Measured on two cores for 512 features: 4 tiles take 1.8
    times as long as by the kernel as it is, 24 1.4 times, 32 as long. The compiler's own convolution of maps of 2×2 is
    slow: up to 20 times as long.
    """
    images, *sizes = out[:-1]
    known = all(isinstance(size, int) for size in (images, *sizes))
    return known and min(sizes) >= 4 and images * math.prod(-(-size // 2) for size in sizes) < 32


def _over_tiles(x: jax.Array, kernels: jax.Array, padding: Padding, tiling: _Tiling) -> jax.Array:
    """The convolution of x with U, [(m + 2)(n + 2), C, O]."""
    x = _padded(x, padding, tiling)
    batch, features, (rows, columns) = x.shape[0], kernels.shape[-1], tiling.forms

    def block(y: jax.Array, start: Any, count: int) -> jax.Array:
        products = jnp.matmul(_on_both_axes(rows.to_input, columns.to_input, x, start, count, tiling, 2), kernels)
        shape = columns.products, rows.products, batch, count, tiling.columns, features
        # Stacked twice, not joined at once, since every reader of the result would hold all that is joined.
        half = jnp.stack(columns.to_output(*products.reshape(shape)), 4)
        return lax.dynamic_update_slice_in_dim(y, jnp.stack(rows.to_output(*half), 2), start, 1)

    y = lax.empty((batch, tiling.rows, rows.size, tiling.columns, columns.size, features), x.dtype)
    y = _over_blocks(block, y, tiling.rows, tiling.row_bytes(x, features))
    y = y.reshape(batch, tiling.rows * rows.size, tiling.columns * columns.size, features)
    return y[:, : tiling.sizes[0], : tiling.sizes[1]]


def _transformed(tiling: _Tiling, w: jax.Array, x: jax.Array, flipped: bool = False) -> jax.Array:
    """U = G w G′ᵀ, or of the flipped w, [(m + 2)(n + 2), C, O]."""
    # Or else the compiler would compute the U of all layers before the time loop and hold them: as much memory as
    # two to four times all kernels.
    both = _both(tiling.forms, w.dtype, flipped) + zero_known_with(x)
    return (both @ w.reshape(9, -1)).reshape(-1, *w.shape[2:])


def _both(forms: tuple[Form, Form], dtype: Any, flipped: bool = False) -> jax.Array:
    """The map w ↦ G w G′ᵀ as a matrix of 9 columns; of its results, columns come first, as in `_on_both_axes`."""
    rows, columns = (jnp.array([row[::-1] if flipped else row for row in form.kernel], dtype) for form in forms)
    return jnp.einsum("ai,bj->baij", rows, columns).reshape(-1, 9)


def _padded(x: jax.Array, padding: Padding, tiling: _Tiling, zero: Any = 0) -> jax.Array:
    """x̄, enlarged so that its tiles are whole."""
    sides = [(low, high + more, 0) for (low, high), more in zip(padding, tiling.missing, strict=True)]
    return lax.pad(x, jnp.asarray(zero, x.dtype), [(0, 0, 0), *sides, (0, 0, 0)])


def _over_blocks(block: Callable[[Any, Any, int], Any], state: Any, rows: int, row_bytes: int) -> Any:
    """block(state, first row, rows of a block) for one block of rows of tiles after the other."""
    fits = [c for c in range(2, rows + 1) if isinstance(row_bytes, int) and c * row_bytes <= BLOCK]
    count = max([1, *(c for c in fits if rows % c == 0)])
    if count == rows:
        return block(state, 0, rows)
    return lax.fori_loop(0, rows // count, lambda i, state: block(state, i * count, count), state)


def _on_both_axes(
    on_rows: Callable[..., Sequence[Any]],
    on_columns: Callable[..., Sequence[Any]],
    x: jax.Array,
    start: Any,
    count: int,
    tiling: _Tiling,
    overlap: int,
) -> jax.Array:
    """F d F′ᵀ for linear maps F of rows and F′ of columns, [entries, tiles, C], of `count` rows of tiles of x.

    `overlap` is how many entries neighbouring tiles share.
    """
    height, width = (form.size for form in tiling.forms)
    strip = lax.dynamic_slice_in_dim(x, height * start, height * count + overlap, 1)
    half = jnp.stack(on_rows(*_entries(strip, 1, height, count, overlap)))
    both = jnp.stack(on_columns(*_entries(half, 3, width, tiling.columns, overlap)))
    return both.reshape(both.shape[0] * both.shape[1], -1, both.shape[-1])


def _entries(x: jax.Array, axis: int, size: int, tiles: int, overlap: int) -> list[jax.Array]:
    """What is first in its tile along an axis, what is second, ... and last."""
    last = size * (tiles - 1) + 1
    return [lax.slice_in_dim(x, i, i + last, size, axis) for i in range(size + overlap)]
