"""Several candidates to try on one task: portfolios that know the description."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.algorithms.kernel_ridge import distances
from jmeta.choose import greedy_portfolio
from jmeta.selection.inputs import Inputs
from jmeta.types import Array

__all__ = ["Trust", "conditioned_portfolio", "portfolio_of", "settle_trust"]

TRUSTS = (0.0, 0.25, 0.5, 0.75, 1.0)

JUDGED = 256
"""Trust is settled on at most so many training tasks, drawn at random."""


class Trust(NamedTuple):
    """How a fit makes sets.

    Attributes:
      belief: in what is expected of the task: 1 takes the errors made on other tasks
        as what may happen besides, 0 what happened on other tasks as it was.
      scale: the gap between descriptions over which other tasks count e times less;
        infinite where descriptions are not used.
    """

    belief: Float[Array, ""]
    scale: Float[Array, ""]


def conditioned_portfolio(
    expected: Float[Array, " candidates"],
    errors: Float[Array, "tasks candidates"],
    weights: Bool[Array, " tasks"] | Float[Array, " tasks"],
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
      weights: how much the errors of each task count, from 0.
      first: place of the first choice.
      size: how many, at most the number of candidates.
      least: no cost is lower, such as 0 for regrets.
    """
    draws = jnp.where(weights[:, None] > 0, expected + errors, 0.0)
    return greedy_portfolio(
        jnp.maximum(draws, least), size, first, weights.astype(draws.dtype)
    )


def portfolio_of(
    task: Int[Array, ""],
    inputs: Inputs,
    expected: Float[Array, "tasks candidates"],
    errors: Float[Array, "tasks candidates"],
    gaps: Float[Array, " tasks"],
    first: Int[Array, ""],
    trust: Trust,
    size: int,
    least: float,
) -> Int[Array, " size"]:
    """The set for one task, from training tasks of other families that are like it.

    Args:
      task: its place.
      inputs: of one fit.
      expected: costs of all tasks.
      errors: measured less expected costs.
      gaps: between the task's description and the others'.
      first: place of the first choice.
      trust: see `Trust`.
      size: how many candidates.
      least: no cost is lower.
    """
    others = inputs.train & (inputs.families != inputs.families[task])
    return conditioned_portfolio(
        trust.belief * expected[task],
        errors + (1.0 - trust.belief) * expected,
        jnp.where(others, jnp.exp(-gaps / trust.scale), 0.0),
        first,
        size,
        least,
    )


def settle_trust(
    inputs: Inputs,
    expected: Float[Array, "tasks candidates"],
    errors: Float[Array, "tasks candidates"],
    chosen: Int[Array, " tasks"],
    size: int,
    least: float,
) -> Trust:
    """The belief under which sets for training tasks, as if they were new, cost least.

    What counts is the mean, over sizes from 2 on, of the smallest cost in the set.

    Args:
      inputs: of one fit.
      expected, errors: costs as in `portfolio_of`.
      chosen: place of the first choice for each task.
      size: up to how many candidates.
      least: no cost is lower.
    """
    draws = jax.random.uniform(jax.random.key(inputs.key), inputs.train.shape)
    rows = jnp.argsort(jnp.where(inputs.train, draws, 2.0))[:JUDGED]
    gaps = distances(inputs.x, rows)
    apart = inputs.train[:, None] & inputs.train[rows] & (gaps > 0)
    scale = jnp.nanmedian(jnp.where(apart, gaps, jnp.nan))
    scale = jnp.where(scale > 0, scale, jnp.inf)  # Also where it is NaN.

    def cost(task: Array, gap: Array, belief: Array) -> Array:
        order = portfolio_of(
            task,
            inputs,
            expected,
            errors,
            gap,
            chosen[task],
            Trust(belief, scale),
            size,
            least,
        )
        found = (expected[task] + errors[task])[order]
        return jnp.mean(jax.lax.cummin(found)[1:])

    beliefs = jnp.array(TRUSTS)
    costs = jax.lax.map(
        lambda row: jax.vmap(cost, in_axes=(None, None, 0))(row[0], row[1], beliefs),
        (rows, gaps.T),
        batch_size=8,
    )
    total = jnp.sum(jnp.where(inputs.train[rows][:, None], costs, 0.0), axis=0)
    return Trust(belief=beliefs[jnp.argmin(total)], scale=scale)
