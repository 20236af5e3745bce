"""Convolution as patches and a matrix product, fast where each task has its kernel.

A convolution that is vmapped over kernels becomes a grouped one, for which compilers
have no fast program, forwards or backwards; a matrix product becomes a batched one.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.types import Array

__all__ = ["Padding", "conv", "patch_product", "patches"]

Padding = str | Sequence[tuple[int, int]]
"""`"SAME"`, `"VALID"`, or how much before and after each spatial axis."""


def patches(
    x: Float[Array, "n *spatial channels"],
    size: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int] | None = None,
) -> Float[Array, "n *places taps_channels"]:
    """What each place of the output sees: the taps of a kernel, channels innermost.

    Args:
      x: images, or whatever has spatial axes.
      size: of the kernel, an axis each.
      strides: of the places.
      padding: with zeros.
      dilation: distance of the taps; None for 1.
    """
    dilation = [1] * len(size) if dilation is None else dilation
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    x = jnp.pad(x, [(0, 0), *padding, (0, 0)])
    places = [
        (length - r) // s + 1 for length, r, s in zip(x.shape[1:-1], reach, strides)
    ]
    taps = []
    for tap in itertools.product(*map(range, size)):
        first = [t * d for t, d in zip(tap, dilation)]
        last = [f + (p - 1) * s + 1 for f, p, s in zip(first, places, strides)]
        taps.append(
            jax.lax.slice(
                x,
                (0, *first, 0),
                (len(x), *last, x.shape[-1]),
                (1, *strides, 1),
            )
        )
    return jnp.concatenate(taps, axis=-1)


def patch_product(
    rows: Float[Array, "n k"],
    kernel: Float[Array, "k out"],
    precision: Any = None,
) -> Float[Array, "n out"]:
    """The matrix product, whose gradient is one that need not transpose the patches."""
    # The barrier keeps the compiler from undoing the transposition in the gradient.
    turned = jax.lax.optimization_barrier(kernel.T)
    return jax.lax.dot_general(
        rows, turned, (((1,), (1,)), ((), ())), precision=precision
    )


def conv(
    lhs: Float[Array, "n *spatial channels"],
    rhs: Float[Array, "*size channels out"],
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Float[Array, "n *places out"]:
    """`jax.lax.conv_general_dilated` with channels last, for Flax's `nn.Conv`.

    `nn.Conv(..., conv_general_dilated=conv)` is the same layer, and stays fast when it
    is vmapped over its parameters.

    Raises:
      ValueError: for feature groups, a dilated input or another order of the axes.
    """
    ndim = lhs.ndim
    last = jax.lax.ConvDimensionNumbers(
        (0, ndim - 1, *range(1, ndim - 1)),
        (ndim - 1, ndim - 2, *range(ndim - 2)),
        (0, ndim - 1, *range(1, ndim - 1)),
    )
    plain = lhs_dilation is None or set(lhs_dilation) == {1}
    if feature_group_count != 1 or not plain or dimension_numbers not in (None, last):
        raise ValueError(
            "conv: takes neither feature groups nor a dilated input, and channels last "
            f"alone, got feature_group_count={feature_group_count}, "
            f"lhs_dilation={lhs_dilation} and {dimension_numbers}."
        )
    seen = patches(lhs, rhs.shape[:-2], window_strides, padding, rhs_dilation)
    kernel = rhs.reshape(-1, rhs.shape[-1])
    out = patch_product(seen.reshape(-1, len(kernel)), kernel, precision)
    return out.reshape(*seen.shape[:-1], -1)
