"""3 by 3 convolution with stride 1 through tiles of 2 by 2 outputs.

Each tile needs 16 products of channels where patches need 36, and the compiler stores
4 numbers for each of the input where patches are 9. Sums and differences of neighbours
are all that it costs, and no factor is larger than 1, so that rounding is that of the
patches.

Source: Winograd's F(2 x 2, 3 x 3), as in Lavin and Gray, 2016,
https://arxiv.org/abs/1509.09308, section 4.1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.networks.conv import Padding
from jmeta.types import Array

__all__ = ["interleaved", "winograd", "winograd_pays"]


def winograd_pays(height: int, width: int, channels: int) -> bool:
    """Whether tiles are faster than patches for outputs of a size.

    Args:
      height, width: of the output; a tile that hangs over the edge is lost work.
      channels: of the input; sums over few cost more than the products they save.
    """
    tiles = -(-height // 2) * -(-width // 2)
    return channels >= 16 and 9 * height * width >= 24 * tiles


def _tiles(x: Array, axis: int) -> list[Array]:
    """Along one axis: 4 neighbours, 2 of them shared with the next tile, as what the
    kernel's 4 combinations are multiplied by."""
    count = x.shape[axis] // 2
    x = x.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
    # Not strided slices, whose transpose is slow.
    even, odd = (
        jnp.squeeze(half, axis + 1) for half in jax.lax.split(x, (1, 1), axis + 1)
    )
    a, c, b, d = (
        jax.lax.slice_in_dim(half, i, count - 1 + i, axis=axis)
        for half in (even, odd)
        for i in (0, 1)
    )
    return [a - c, b + c, c - b, b - d]


def _outputs(parts: list[Array]) -> list[Array]:
    """The 2 outputs along one axis."""
    a, b, c, d = parts
    return [a + b + c, b - c - d]


def winograd(
    x: Float[Array, "n height width k"],
    kernel: Float[Array, "3 3 k out"],
    padding: Padding,
) -> list[list[Float[Array, "n _ _ out"]]]:
    """The convolution's outputs by the parity of their row and column.

    Args:
      x: images.
      kernel: of the convolution.
      padding: with zeros.

    Returns:
      `[[even rows and columns, odd columns], [odd rows, odd rows and columns]]`, of
      which the odd ones are shorter where the output's size is odd.
    """
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (1, 1), padding)
    sizes = [length + sum(p) - 2 for length, p in zip(x.shape[1:3], padding)]
    even = [(before, after + size % 2) for (before, after), size in zip(padding, sizes)]
    x = jnp.pad(x, [(0, 0), *even, (0, 0)])
    k, out = kernel.shape[-2:]

    seen = jnp.stack([tile for rows in _tiles(x, 1) for tile in _tiles(rows, 2)])
    combine = jnp.array(
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], x.dtype
    )
    turned = jnp.einsum("ai,bj,ijko->abok", combine, combine, kernel)
    # As in `patch_product`: the gradient's products need no transposition.
    turned = jax.lax.optimization_barrier(turned.reshape(16, out, k))
    product = jax.lax.dot_general(
        seen.reshape(16, -1, k), turned, (((2,), (2,)), ((0,), (0,)))
    )
    parts = [
        part.reshape(*seen.shape[1:4], out)
        for part in jax.lax.split(product, [1] * 16, axis=0)
    ]
    columns = [_outputs(parts[place::4]) for place in range(4)]
    both = [_outputs([column[row] for column in columns]) for row in range(2)]
    return [
        [
            z[:, : (sizes[0] + 1 - r) // 2, : (sizes[1] + 1 - c) // 2]
            for c, z in enumerate(row)
        ]
        for r, row in enumerate(both)
    ]


def interleaved(
    quarters: list[list[Float[Array, "n _ _ c"]]],
) -> Float[Array, "n height width c"]:
    """The outputs of `winograd` in their places."""
    (first, second), (third, _) = quarters
    height, width = first.shape[1] + third.shape[1], first.shape[2] + second.shape[2]
    a, b = first.shape[1:3]
    full = [
        [
            jnp.pad(z, [(0, 0), (0, a - z.shape[1]), (0, b - z.shape[2]), (0, 0)])
            for z in row
        ]
        for row in quarters
    ]
    rows = [jnp.stack(row, axis=3) for row in full]
    z = jnp.stack(rows, axis=2)
    return z.reshape(len(z), 2 * a, 2 * b, -1)[:, :height, :width]
