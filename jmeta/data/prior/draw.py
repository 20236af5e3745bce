"""Turning uniform numbers into choices.

Each call of a random function costs a tenth of a second of compilation, so the prior
draws its numbers in few large blocks and takes them apart with these.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Float, Int

from jmeta.types import Array

__all__ = ["between", "log_between", "one_of", "weighted", "whole"]


def between(u: Array, low: float, high: float) -> Array:
    """Uniform numbers in [low, high)."""
    return low + (high - low) * u


def log_between(u: Array, low: float, high: float) -> Array:
    """Numbers whose logarithm is uniform in [low, high)."""
    return jnp.exp(between(u, low, high))


def whole(u: Array, low: int | Array, high: int | Array) -> Array:
    """Whole numbers from low to high, both ends included."""
    return jnp.minimum(low + jnp.floor(u * (high - low + 1)).astype(int), high)


def one_of(u: Array, options: Sequence[float]) -> Array:
    """Each of the options as often."""
    return jnp.asarray(options)[whole(u, 0, len(options) - 1)]


def weighted(
    u: Float[Array, " draws"], weights: Float[Array, " options"]
) -> Int[Array, " draws"]:
    """Places of options, each as often as its weight says; at least one is positive."""
    up_to = jnp.cumsum(weights)
    place = jnp.sum(u[:, None] * up_to[-1] >= up_to, axis=1)
    last = len(weights) - 1 - jnp.argmax(weights[::-1] > 0)
    return jnp.minimum(place, last)
