"""Sorting numbers by their bits: on a CPU several times faster than `jnp.sort`.

XLA compares floats in a way that no vector instruction does; the bits of a float, as
an integer, are in the same order once those of negative numbers are turned around.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jmeta.types import Array

__all__ = ["ordered_bits", "sort"]


def ordered_bits(x: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Integers in the order of the numbers; both zeros are equal, NaN comes last."""
    x = jnp.where(x == 0, 0.0, jnp.where(jnp.isnan(x), jnp.nan, x)).astype(x.dtype)
    size = jnp.int32 if x.dtype.itemsize == 4 else jnp.int64
    return _turned(jax.lax.bitcast_convert_type(x, size))


def _turned(bits: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Negative numbers' bits the other way round; its own inverse."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def sort(x: Float[Array, "*shape"], axis: int = 0) -> Float[Array, "*shape"]:
    """The numbers in ascending order along an axis, NaN last.

    Args:
      x: float32 or float64.
      axis: along which.
    """
    bits = jax.lax.sort(ordered_bits(x), dimension=axis, is_stable=False)
    return jax.lax.bitcast_convert_type(_turned(bits), x.dtype)
