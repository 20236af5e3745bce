"""Which experts to trust, decided on training tasks that they had not learnt from.

Experts are stacked: weights that predict the measured costs best, drawn toward equal
ones. A recipe says on which scale of costs to choose, and how far a candidate must be
ahead of the single best. A meta-dataset of a hundred tasks can hardly tell recipes
apart, so the plain one is left only for one that is clearly better.

Source: stacking with weights from 0, Breiman, 1996,
https://doi.org/10.1007/BF00117832.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.types import Array

__all__ = ["PARTS", "RECIPES", "Mixture", "Recipes", "choose_mixture", "stack"]

PARTS = 4

EQUAL = 0.1
"""How hard weights are drawn toward equal ones, as a share of the experts' energy."""

SWEEPS = 100
"""Of coordinate descent; a handful of experts needs no more."""


class Recipes(NamedTuple):
    """Ways to choose from what is expected; leaves have a leading axis of recipes.

    Attributes:
      scale: weights of the two views of costs.
      margin: how far ahead of the single best a choice must be, in units of the
        spread.
    """

    scale: Float[np.ndarray, "recipes views"]
    margin: Float[np.ndarray, " recipes"]


def _recipes() -> Recipes:
    """Every scale with every margin; the first one is the plain one."""
    scales = (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)
    pairs = list(itertools.product((0.0, 0.1, 0.2, 0.3), scales))
    margin, scale = (np.array(part, np.float32) for part in zip(*pairs))
    return Recipes(scale, margin)


RECIPES = _recipes()


class Mixture(NamedTuple):
    """What one fit made of its experts.

    Attributes:
      weights: of each expert's residuals in each view.
      scale: weights of the views in a choice.
      margin: how far ahead of the single best a choice must be.
      expected: cost in the first view, in units of its spread.
      errors: measured less expected cost; 0 where a candidate was not run.
      chosen: place of the candidate for each task.
      reference: place of the single best.
      gain: mean cost saved on training tasks against the single best, with what the
        descriptions cost taken off, by what was decided on other tasks.
      error: the standard error of that mean, families being independent.
    """

    weights: Float[Array, "experts views"]
    scale: Float[Array, " views"]
    margin: Float[Array, ""]
    expected: Float[Array, "tasks candidates"]
    errors: Float[Array, "tasks candidates"]
    chosen: Int[Array, " tasks"]
    reference: Int[Array, ""]
    gain: Float[Array, ""]
    error: Float[Array, ""]


def stack(
    residuals: Float[Array, "experts tasks candidates"],
    measured: Float[Array, "tasks candidates"],
    tasks: Bool[Array, " tasks"],
) -> Float[Array, " experts"]:
    """Weights from 0 under which the experts' sum is nearest to what was measured.

    Least squares over the differences between candidates of a task (its level says
    nothing about what to choose), drawn toward equal weights that sum to how far the
    experts' mean is to be believed: one that has learnt noise says too much.

    Args:
      residuals: what each expert expects above the base.
      measured: NaN where not run.
      tasks: which of them count.
    """
    known = jnp.isfinite(measured) & tasks[:, None]

    def centred(values: Array) -> Array:
        values = jnp.where(known, values, 0.0)
        level = jnp.sum(values, 1) / jnp.maximum(jnp.sum(known, 1), 1)
        return jnp.where(known, values - level[:, None], 0.0)

    count = len(residuals)
    said = jax.vmap(centred)(residuals).reshape(count, -1)
    gram, both = said @ said.T, said @ centred(measured).reshape(-1)
    whole = jnp.sum(gram)  # Of the sum of all experts.
    belief = jnp.clip(jnp.sum(both) * count / jnp.where(whole > 0, whole, 1.0), 0, 1)
    equal = jnp.full(count, belief / count)
    pull = EQUAL * jnp.trace(gram) / count
    gram += pull * jnp.eye(count)
    both += pull * equal

    def sweep(_: Array, weights: Array) -> Array:
        for place in range(count):
            alone = gram[place, place]
            rest = both[place] - gram[place] @ weights + alone * weights[place]
            best = jnp.maximum(rest, 0.0) / jnp.where(alone > 0, alone, 1.0)
            weights = weights.at[place].set(best)
        return weights

    return jax.lax.fori_loop(0, SWEEPS, sweep, equal)


def _choose(
    scores: Array, reference: Array, margin: Array, known: Array
) -> Int[Array, " tasks"]:
    """The lowest score of a known candidate, if it beats the single best's enough."""
    scores = jnp.where(known, scores, jnp.inf)
    best = jnp.argmin(scores, axis=1)
    lowest = jnp.min(scores, axis=1)
    return jnp.where(lowest < scores[:, reference] - margin, best, reference)


def _mean_and_error(
    values: Float[Array, " tasks"], tasks: Array, families: Array
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean, and its standard error where tasks of a family are not independent."""
    count = jnp.maximum(jnp.sum(tasks), 1)
    mean = jnp.sum(jnp.where(tasks, values, 0.0)) / count
    apart = jnp.where(tasks, values - mean, 0.0)
    sums = jnp.zeros_like(apart).at[families].add(apart)
    return mean, jnp.sqrt(jnp.sum(jnp.square(sums))) / count


def _clearly_best(
    costs: Float[Array, "recipes tasks"], tasks: Array, families: Array
) -> Array:
    """The first recipe, unless the best one saves more than a standard error."""
    best = jnp.argmin(jnp.sum(jnp.where(tasks, costs, 0.0), axis=1))
    mean, error = _mean_and_error(costs[0] - costs[best], tasks, families)
    return jnp.where(mean > error, best, 0)


def choose_mixture(
    residuals: Float[Array, "experts tasks candidates views"],
    measured: Float[Array, "tasks candidates views"],
    base: Float[Array, "candidates views"],
    paid: Float[Array, "tasks candidates"],
    reference: Int[Array, ""],
    reference_paid: Float[Array, " tasks"],
    train: Bool[Array, " tasks"],
    families: Int[Array, " tasks"],
) -> Mixture:
    """Stack the experts, and settle how to choose, on the training tasks.

    Args:
      residuals: what experts that had not learnt from a task predict of it: costs
        above the base, in units of the spread.
      measured: what the costs above the base were; NaN where not run.
      base: cost of each candidate on the average task, in units of the spread.
      paid: what choosing a candidate costs, descriptions included.
      reference: place of the single best.
      reference_paid: what always choosing it costs, without descriptions.
      train: which tasks to decide on.
      families: of the tasks, in [0, tasks); in `PARTS` parts. The gain is of each
        part by what was decided on the others, since what was fitted to tasks looks
        better on them than it is.
    """
    able = jnp.any(jnp.isfinite(measured[:, :, 0]) & train[:, None], axis=0)
    scales, margins = jnp.asarray(RECIPES.scale), jnp.asarray(RECIPES.margin)

    def decide(tasks: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Weights, recipe, expected residuals, what is chosen and what that costs."""
        weights = jax.vmap(stack, in_axes=(3, 2, None), out_axes=1)(
            residuals, measured, tasks
        )
        above = jnp.einsum("ev,etav->tav", weights, residuals)

        def cost(recipe: tuple[Array, Array]) -> tuple[Array, Array]:
            scale, margin = recipe
            chosen = _choose((base + above) @ scale, reference, margin, able)
            return chosen, jnp.take_along_axis(paid, chosen[:, None], axis=1)[:, 0]

        chosen, costs = jax.lax.map(cost, (scales, margins))
        best = _clearly_best(costs, tasks, families)
        return weights, best, above, chosen[best], costs[best]

    def crossed(part: Array) -> Array:
        """The cost on a part of the tasks of what was decided on the others."""
        here = train & (families % PARTS == part)
        return jnp.where(here, decide(train & ~here)[4], 0.0)

    saved = reference_paid - jnp.sum(jax.lax.map(crossed, jnp.arange(PARTS)), axis=0)
    gain, error = _mean_and_error(saved, train, families)
    weights, best, above, chosen, _ = decide(train)
    above = above[..., 0]
    errors = jnp.where(jnp.isfinite(measured[..., 0]), measured[..., 0] - above, 0.0)
    return Mixture(
        weights=weights,
        scale=scales[best],
        margin=margins[best],
        expected=base[:, 0] + above,
        errors=errors,
        chosen=chosen,
        reference=reference,
        gain=gain,
        error=error,
    )
