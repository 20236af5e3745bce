"""Kernels between embedded rows, whose few parameters are learnt.

What two sets of rows have to do with each other is computed once; the covariance of any
parameters follows from it cheaply, so that they can be fitted inside a task.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jmeta.algorithms.embedding import Rows
from jmeta.types import Array, Params

__all__ = ["Kernel", "gaussian_kernel", "linear_kernel", "mean_square_distances"]


class Kernel(NamedTuple):
    """A covariance between rows.

    Attributes:
      init: `size of an embedding -> params`, logarithms all.
      compare: `(rows (n), rows (m)) -> related`, whatever `covariance` needs of them.
      covariance: `(params, related) -> (n, m)`.
      variance: `(params, rows (n)) -> (n,)`, of each row with itself.
    """

    init: Callable[[int], Params]
    compare: Callable[[Rows, Rows], Any]
    covariance: Callable[[Params, Any], Array]
    variance: Callable[[Params, Rows], Array]


def linear_kernel() -> Kernel:
    """The product of embeddings, as R2D2 has it."""
    return Kernel(
        init=lambda _: {},
        compare=lambda a, b: a.z @ b.z.T,
        covariance=lambda _, product: product,
        variance=lambda _, rows: jnp.sum(jnp.square(rows.z), axis=1),
    )


def mean_square_distances(a: Rows, b: Rows) -> Array:
    """Squared distances of embeddings, divided by their size."""
    away = jnp.sum(a.z * a.z, axis=1)[:, None] + jnp.sum(b.z * b.z, axis=1)
    return jnp.maximum(away - 2.0 * a.z @ b.z.T, 0.0) / a.z.shape[1]


def gaussian_kernel() -> Kernel:
    """A Gaussian of the embeddings' distance; its height and width are learnt."""

    def init(size: int) -> Params:
        del size  # Distances are means over it.
        return {"log_deep": jnp.zeros(()), "log_width": jnp.zeros(())}

    def covariance(params: Params, squared: Array) -> Array:
        away = -0.5 * squared * jnp.exp(-2.0 * params["log_width"])
        return jnp.exp(params["log_deep"] + away)

    def variance(params: Params, rows: Rows) -> Array:
        return jnp.full(len(rows.z), jnp.exp(params["log_deep"]), rows.z.dtype)

    return Kernel(init, mean_square_distances, covariance, variance)
