"""Losses of a meta-classifier: predicted against measured costs of the candidates.

Each takes one task and one metric: predicted and measured costs (lower is better, in
units of the spread between candidates) and which candidates were measured. Candidates
outside the mask change nothing. A task without measured candidates costs 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from jmeta.types import Array

__all__ = [
    "LOSSES",
    "MIXTURE",
    "best_candidate",
    "cost_regression",
    "expected_regret",
    "is_best",
    "pairwise",
    "soft_labels",
]

MIXTURE = {"cost": 1.0, "expected": 1.0}
"""The weights of the default loss: how much each costs, and not to choose badly."""

_HIDDEN = -1e9
"""The logit of a candidate outside the mask; finite, so gradients are."""


def _mean(values: Array, mask: Array) -> Array:
    total = jnp.sum(jnp.where(mask, values, 0.0))
    return total / jnp.maximum(jnp.sum(mask), 1)


def _log_softmax(costs: Array, mask: Array, temperature: float | Array) -> Array:
    return jax.nn.log_softmax(jnp.where(mask, -costs / temperature, _HIDDEN))


def _best(costs: Array, mask: Array, tolerance: float | Array) -> Array:
    lowest = jnp.min(jnp.where(mask, costs, jnp.inf))
    return mask & (costs <= lowest + tolerance)


def is_best(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Binary cross-entropy of "this candidate is the best one", a logit each.

    Minus the predicted cost is the logit; every candidate within `tolerance` of the
    best counts as best.
    """
    labels = _best(costs, mask, tolerance).astype(predicted.dtype)
    logits = jnp.where(mask, -predicted / temperature, 0.0)
    return _mean(optax.sigmoid_binary_cross_entropy(logits, labels), mask)


def best_candidate(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Cross-entropy of which candidate is best; ties share the label."""
    best = _best(costs, mask, tolerance)
    logs = _log_softmax(predicted, mask, temperature)
    return -_mean(logs, best)


def cost_regression(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Huber loss between predicted and measured cost, quadratic up to 1."""
    del temperature, tolerance  # Costs are compared as they are.
    error = jnp.where(mask, predicted - costs, 0.0)
    return _mean(optax.huber_loss(error), mask)


def soft_labels(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Divergence of softmax(-predicted / T) from softmax(-costs / T); 0 if equal."""
    del tolerance  # Temperature says how near is as good.
    wanted = _log_softmax(jnp.where(mask, costs, 0.0), mask, temperature)
    given = _log_softmax(predicted, mask, temperature)
    return jnp.sum(jnp.where(mask, jnp.exp(wanted) * (wanted - given), 0.0))


def expected_regret(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Cost above the best one's, if drawn from softmax(-predicted / T)."""
    del tolerance  # What is nearly the best costs nearly nothing.
    regret = jnp.where(mask, costs - jnp.min(jnp.where(mask, costs, jnp.inf)), 0.0)
    probs = jnp.exp(_log_softmax(predicted, mask, temperature))
    return jnp.sum(probs * regret)


def pairwise(
    predicted: Float[Array, " candidates"],
    costs: Float[Array, " candidates"],
    mask: Bool[Array, " candidates"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    tolerance: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """Logistic loss of every pair in the wrong order, weighted by its gap in cost.

    Pairs that differ by no more than `tolerance` are left out.

    Source: RankNet, Burges et al., 2005, https://doi.org/10.1145/1102351.1102363.
    """
    costs, predicted = (jnp.where(mask, v, 0.0) for v in (costs, predicted))
    gap = costs[None, :] - costs[:, None]
    weight = jnp.where(mask[:, None] & mask[None, :] & (gap > tolerance), gap, 0.0)
    margin = (predicted[None, :] - predicted[:, None]) / temperature
    total = jnp.sum(weight)
    loss = jnp.sum(weight * jax.nn.softplus(-margin))
    return loss / jnp.where(total > 0, total, 1.0)


LOSSES: dict[str, Callable[..., Array]] = {
    "bce": is_best,
    "best": best_candidate,
    "cost": cost_regression,
    "soft": soft_labels,
    "expected": expected_regret,
    "pairwise": pairwise,
}
"""The losses by name."""
