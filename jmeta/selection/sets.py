"""Several candidates to try on one task: portfolios that know the description."""

import math

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.choose import greedy_portfolio
from jmeta.types import Array

__all__ = ["conditioned_portfolio"]


def conditioned_portfolio(
    expected: Float[Array, " candidates"],
    errors: Float[Array, "tasks candidates"],
    train: Bool[Array, " tasks"],
    first: Int[Array, ""],
    size: int,
    least: float = -math.inf,
) -> Int[Array, " size"]:
    """Candidates of which at least one should be good, best first.

    The joint distribution of the costs is what is expected plus the errors made on
    the training tasks, all candidates' errors of one task together: candidates that
    fail on the same tasks do not insure each other. Where descriptions say nothing,
    the expected cost is the mean cost and this is the plain greedy portfolio.

    Args:
      expected: predicted costs on this task.
      errors: measured less predicted costs, by those who had not learnt from the task.
      train: whose errors count.
      first: place of the first choice.
      size: how many, at most the number of candidates.
      least: no cost is lower, such as 0 for regrets.
    """
    draws = jnp.maximum(jnp.where(train[:, None], expected + errors, 0.0), least)
    return greedy_portfolio(draws, size, first, train.astype(draws.dtype))
