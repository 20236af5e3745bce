"""Which experts to trust, decided on training tasks that they had not learnt from.

A recipe says how experts are averaged, on which scale of costs, and how far a candidate
must be ahead of the single best to be chosen. The best few recipes are averaged, since
a meta-dataset of a hundred tasks cannot tell the best one from the next.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jmeta.types import Array

__all__ = ["PARTS", "Mixture", "Recipes", "choose_mixture", "recipes"]

KEPT = 5
"""How many recipes are averaged."""

PARTS = 4

MARGINS = (0.0, 0.1, 0.3)
"""How far ahead of the single best a choice must be, in units of the spread."""

SCALES = ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
"""Weights of the two views of costs."""


class Recipes(NamedTuple):
    """Ways to mix experts; each leaf has a leading axis of recipes.

    Attributes:
      weights: of each expert in each view; a recipe's sum to 1.
      margin: how far ahead of the single best a choice must be.
    """

    weights: Float[np.ndarray, "recipes experts views"]
    margin: Float[np.ndarray, " recipes"]


class Mixture(NamedTuple):
    """What one fit made of its experts.

    Attributes:
      weights: of each expert's residuals in each view, shrinkage included.
      margin: how far ahead of the single best a choice must be.
      expected: cost in the first view, in units of its spread.
      errors: measured less expected cost; 0 where a candidate was not run.
      chosen: place of the candidate for each task.
      reference: place of the single best.
      gain: mean cost saved on training tasks against the single best, with what the
        descriptions cost taken off, by recipes chosen on other tasks.
      error: the standard error of that mean.
    """

    weights: Float[Array, "experts views"]
    margin: Float[Array, ""]
    expected: Float[Array, "tasks candidates"]
    errors: Float[Array, "tasks candidates"]
    chosen: Int[Array, " tasks"]
    reference: Int[Array, ""]
    gain: Float[Array, ""]
    error: Float[Array, ""]


def recipes(*kinds: int) -> Recipes:
    """All recipes that average experts of different kinds, at most one of each.

    Args:
      kinds: how many experts there are of each kind, in their order.
    """
    ends = np.cumsum(kinds)
    members = [(*range(end - num, end), None) for num, end in zip(kinds, ends)]
    groups = [
        [place for place in group if place is not None]
        for group in itertools.product(*members)
    ]
    weights, margins = [], []
    for group, scale, margin in itertools.product(
        filter(None, groups), SCALES, MARGINS
    ):
        weight = np.zeros((int(ends[-1]), 2), np.float32)
        weight[group] = np.array(scale) / len(group)
        weights.append(weight)
        margins.append(margin)
    return Recipes(np.stack(weights), np.array(margins, np.float32))


def shrinkage(
    residuals: Float[Array, "experts tasks candidates views"],
    measured: Float[Array, "tasks candidates views"],
    train: Bool[Array, " tasks"],
) -> Float[Array, "experts views"]:
    """How far each expert's predictions are to be believed, in [0, 1].

    The slope of measured on predicted residuals of the training tasks, both as
    differences from the task's mean: an expert that has learnt noise says too much.
    """
    known = jnp.isfinite(measured) & train[:, None, None]

    def centred(values: Array) -> Array:
        values = jnp.where(known, values, 0.0)
        level = jnp.sum(values, 1) / jnp.maximum(jnp.sum(known, 1), 1)
        return jnp.where(known, values - level[:, None], 0.0)

    said, found = jax.vmap(centred)(residuals), centred(measured)
    both = jnp.sum(said * found, axis=(1, 2))
    alone = jnp.sum(said * said, axis=(1, 2))
    return jnp.clip(both / jnp.where(alone > 0, alone, 1.0), 0.0, 1.0)


def _choose(
    scores: Array, reference: Array, margin: Array, known: Array
) -> Int[Array, " tasks"]:
    """The lowest score of a known candidate, if it beats the single best's enough."""
    scores = jnp.where(known, scores, jnp.inf)
    best = jnp.argmin(scores, axis=1)
    lowest = jnp.min(scores, axis=1)
    return jnp.where(lowest < scores[:, reference] - margin, best, reference)


def choose_mixture(
    residuals: Float[Array, "experts tasks candidates views"],
    measured: Float[Array, "tasks candidates views"],
    base: Float[Array, "candidates views"],
    paid: Float[Array, "tasks candidates"],
    reference: Int[Array, ""],
    reference_paid: Float[Array, " tasks"],
    train: Bool[Array, " tasks"],
    parts: Int[Array, " tasks"],
    recipes: Recipes,
) -> Mixture:
    """Average the recipes that choose best on the training tasks.

    Args:
      residuals: what experts that had not learnt from a task predict of it: costs
        above the base, in units of the spread.
      measured: what the costs above the base were; NaN where not run.
      base: cost of each candidate on the average task, in units of the spread.
      paid: what choosing a candidate costs, descriptions included.
      reference: place of the single best.
      reference_paid: what always choosing it costs, without descriptions.
      train: which tasks to decide on.
      parts: in [0, `PARTS`); the gain is of each part by what was best on the others,
        since the best of many recipes looks better than it is.
      recipes: among which to choose.
    """
    able = jnp.any(jnp.isfinite(measured[:, :, 0]) & train[:, None], axis=0)
    belief = shrinkage(residuals, measured, train)
    residuals = residuals * belief[:, None, None]

    def cost(weights: Array, margin: Array) -> tuple[Array, Array]:
        """What is chosen, and what that costs, for every task."""
        scores = jnp.einsum("ev,etav->ta", weights, residuals) + base @ weights.sum(0)
        chosen = _choose(scores, reference, margin, able)
        return chosen, jnp.take_along_axis(paid, chosen[:, None], axis=1)[:, 0]

    options = jnp.asarray(recipes.weights), jnp.asarray(recipes.margin)
    costs = jax.lax.map(lambda recipe: cost(*recipe)[1], options)

    def best_on(tasks: Array) -> tuple[Array, Array]:
        """The mean of the recipes that cost least on these tasks."""
        _, best = jax.lax.top_k(-jnp.sum(jnp.where(tasks, costs, 0.0), axis=1), KEPT)
        return jnp.mean(options[0][best], axis=0), jnp.mean(options[1][best])

    def crossed(part: Array) -> Array:
        """The cost on a part of the tasks of what is best on the others."""
        here = train & (parts == part)
        return jnp.where(here, cost(*best_on(train & ~here))[1], 0.0)

    saved = reference_paid - jnp.sum(jax.lax.map(crossed, jnp.arange(PARTS)), axis=0)
    count = jnp.maximum(jnp.sum(train), 1)
    gain = jnp.sum(jnp.where(train, saved, 0.0)) / count
    variance = jnp.sum(jnp.where(train, (saved - gain) ** 2, 0.0)) / count

    weights, margin = best_on(train)
    chosen, _ = cost(weights, margin)
    above = jnp.einsum("e,eta->ta", jnp.sum(weights, axis=1), residuals[..., 0])
    errors = jnp.where(jnp.isfinite(measured[..., 0]), measured[..., 0] - above, 0.0)
    return Mixture(
        weights=weights * belief,
        margin=margin,
        expected=base[:, 0] + above,
        errors=errors,
        chosen=chosen,
        reference=reference,
        gain=gain,
        error=jnp.sqrt(variance / count),
    )
