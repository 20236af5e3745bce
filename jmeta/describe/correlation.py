"""How features hang together, and how each alone goes with the target."""

import jax.numpy as jnp
from jaxtyping import Float

from jmeta.describe.view import View, average, quantile, ratio, top_mean
from jmeta.types import Array

__all__ = ["CORRELATION", "TARGET_CLASSES", "TARGET_NUMBER", "correlation", "target"]

CORRELATION = (
    "correlation_mean",
    "correlation_max",
    "correlated_share",
    "effective_rank",
    "first_component",
)
TARGET_CLASSES = (
    "separation_max",
    "separation_top3",
    "separation_mean",
    "separation_upper_quartile",
    "separated_share",
    "spread_differs",
)
TARGET_NUMBER = TARGET_CLASSES[:-1]

_STRONG = 0.8


def correlation(v: View) -> dict[str, Array]:
    """Absolute correlations of pairs of features, and how many directions they fill.

    `effective_rank` is (sum of eigenvalues)^2 / sum of their squares, per feature;
    `first_component` is the share of the largest eigenvalue, from traces of powers.
    """
    c = v.z.T @ v.z / v.rows
    count = jnp.sum(v.useful).astype(c.dtype)
    pairs = v.useful[:, None] & v.useful & ~jnp.eye(len(c), dtype=bool)
    size = jnp.abs(c)
    squares = jnp.sum(jnp.square(c))
    return {
        "correlation_mean": average(size, pairs),
        "correlation_max": jnp.max(jnp.where(pairs, size, 0.0)),
        "correlated_share": average(size > _STRONG, pairs),
        "effective_rank": ratio(count, squares),
        "first_component": ratio(_largest_eigenvalue(c), count),
    }


def _largest_eigenvalue(c: Float[Array, "f f"]) -> Float[Array, ""]:
    """tr(C^17) / tr(C^16): exact where one eigenvalue, or all alike, dominate."""
    scale = jnp.sqrt(jnp.sum(jnp.square(c)))
    power = c / jnp.where(scale > 0, scale, 1.0)
    one = power
    for _ in range(4):
        power = power @ power
    return scale * ratio(jnp.sum(power * one), jnp.trace(power))


def _explained(v: View) -> Float[Array, " f"]:
    """The share of each feature's variance that goes with the target.

    Corrected for the degrees of freedom that the target takes, and at least 0: for
    classes the adjusted correlation ratio, for a number the adjusted R2.
    """
    if v.target.shape[1] > 1:
        counts = jnp.sum(v.target, axis=0)
        means = ratio(v.target.T @ v.z, counts[:, None])
        share = jnp.sum(counts[:, None] * jnp.square(means), axis=0) / v.rows
        spent = jnp.sum(counts > 0)
    else:
        share = jnp.square(v.target[:, 0] @ v.z / v.rows)
        spent = 2
    left = jnp.maximum(v.rows - spent, 1.0)
    adjusted = 1.0 - (1.0 - share) * (v.rows - 1.0) / left
    return jnp.where(v.useful, jnp.clip(adjusted, 0.0, 1.0), 0.0)


def _spread_differs(v: View) -> Float[Array, ""]:
    """Mean absolute log ratio of a feature's deviation in a class and in all classes.

    Weighted by the rows of the class; above what the number of rows makes by chance.
    """
    counts = jnp.sum(v.target, axis=0)
    means = ratio(v.target.T @ v.z, counts[:, None])
    squares = ratio(v.target.T @ jnp.square(v.z), counts[:, None])
    variance = jnp.maximum(squares - jnp.square(means), 0.0)
    within = counts @ variance / v.rows
    log_ratio = 0.5 * jnp.abs(jnp.log((variance + 0.01) / (within + 0.01)))
    chance = jnp.sqrt(1.0 / (jnp.pi * jnp.maximum(counts, 1.0)))
    beyond = jnp.maximum(log_ratio - chance[:, None], 0.0)
    each = counts @ jnp.where(counts[:, None] > 1, beyond, 0.0) / v.rows
    return average(each, v.useful)


def target(v: View) -> dict[str, Array]:
    """How much of each feature goes with the target, on the scale of correlations."""
    size = jnp.sqrt(_explained(v))
    values = {
        "separation_max": jnp.max(size),
        "separation_top3": top_mean(size, v.useful, 3),
        "separation_mean": average(size, v.useful),
        "separation_upper_quartile": quantile(size, v.useful, 0.75),
        "separated_share": average(size > 0.0, v.useful),
    }
    if v.target.shape[1] > 1:
        values["spread_differs"] = _spread_differs(v)
    return values
