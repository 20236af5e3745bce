"""Predictions of numbers that say how sure they are."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from jmeta.types import Array

__all__ = ["Gaussian", "negative_log_likelihood"]


class Gaussian(NamedTuple):
    """A normal distribution for each row.

    Attributes:
      mean: in the unit of the targets.
      variance: of a target about the mean, its noise included; above 0.
    """

    mean: Float[Array, "*tasks n"]
    variance: Float[Array, "*tasks n"]


def negative_log_likelihood(
    prediction: Gaussian, y: Float[Array, "*tasks n"]
) -> Float[Array, "*tasks n"]:
    """Of each target on its own, in nats; below 0 where the density is above 1."""
    away = jnp.square(y - prediction.mean) / prediction.variance
    return 0.5 * (away + jnp.log(prediction.variance) + math.log(2.0 * math.pi))
