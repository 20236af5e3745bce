"""Squared distances and stationary kernels between rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from jmeta.learners.common import active
from jmeta.types import Array

__all__ = ["KERNELS", "kernel", "reach", "squared_distances"]

KERNELS = ("rbf", "matern52")
"""The options of `kernel`'s `kind`, in order."""


def squared_distances(
    a: Float[Array, "n features"], b: Float[Array, "m features"]
) -> Float[Array, "n m"]:
    """Squared Euclidean distances, exactly 0 where they are 0 up to rounding."""
    aa, bb = jnp.sum(a * a, axis=1), jnp.sum(b * b, axis=1)
    size = aa[:, None] + bb
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    squared = size - 2.0 * product
    return jnp.where(squared > 16.0 * jnp.finfo(a.dtype).eps * size, squared, 0.0)


def reach(x: Float[Array, "n features"]) -> Float[Array, ""]:
    """The unit of lengthscales: the root of the number of columns that count.

    About the distance of two rows of independent features of unit deviation, over
    the root of two.
    """
    return jnp.sqrt(jnp.maximum(jnp.sum(active(x)), 1).astype(x.dtype))


def _chosen(squared: Array, kind: Array) -> Array:
    smooth = kind < 0.5
    # Both branches share one exponential; no root of zero is differentiated.
    away = jnp.sqrt(5.0 * jnp.where(squared > 0, squared, 1.0))
    away = jnp.where(squared > 0, away, 0.0)
    factor = jnp.where(smooth, 1.0, 1.0 + away + jnp.square(away) / 3.0)
    return factor * jnp.exp(jnp.where(smooth, -0.5 * squared, -away))


@jax.custom_jvp
def _on_the_line(value: Array, squared: Array, kind: Array) -> Array:
    """`value`, which moves with `kind` along the line through both kernels."""
    del squared, kind  # Of the derivative.
    return value


def _on_the_line_jvp(primals: Any, tangents: Any) -> tuple[Array, Any]:
    value, squared, kind = primals
    moved, _, turned = tangents
    if not isinstance(turned, SymbolicZero):
        slope = _chosen(squared, jnp.ones_like(kind)) - _chosen(
            squared, jnp.zeros_like(kind)
        )
        turned = turned.astype(value.dtype) * slope
        moved = turned if isinstance(moved, SymbolicZero) else moved + turned
    return value, moved


_on_the_line.defjvp(_on_the_line_jvp, symbolic_zeros=True)


def kernel(
    squared: Float[Array, "n m"], lengthscale: Float[Array, ""], kind: Float[Array, ""]
) -> Float[Array, "n m"]:
    """Covariances of unit variance at squared distances.

    The derivative with respect to `kind` is that of the straight line from the first
    kernel to the second. Only the kernel chosen is computed where it is not asked for.

    Args:
      squared: squared distances.
      lengthscale: in the unit of the distances.
      kind: the number of one of `KERNELS`.
    """
    squared = squared / jnp.square(lengthscale)
    return _on_the_line(_chosen(squared, kind), squared, kind)
