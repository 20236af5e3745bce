"""Sizes, balance of the target, missing values, and moments of single columns."""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.describe.view import View, average, quantile, ratio
from jmeta.sorting import sort
from jmeta.types import Array

__all__ = [
    "BALANCE",
    "MISSING",
    "MOMENTS",
    "SIZE",
    "SPREAD",
    "balance",
    "missing",
    "moments",
    "size",
    "spread",
]

SIZE = (
    "log_rows",
    "log_columns",
    "log_rows_per_column",
    "number_share",
    "constant_share",
)
BALANCE = (
    "log_classes",
    "class_entropy",
    "majority_share",
    "minority_share",
    "log_minority_rows",
)
SPREAD = (
    "target_skewness",
    "target_kurtosis",
    "target_outlier_share",
    "target_distinct_share",
    "target_mode_share",
)
MISSING = ("missing_share", "columns_with_missing", "rows_with_missing")
MOMENTS = (
    "skewness_mean",
    "skewness_median",
    "skewness_max",
    "kurtosis_mean",
    "kurtosis_median",
    "outlier_share",
    "distinct_share_mean",
    "distinct_share_max",
    "binary_share",
    "few_valued_share",
    "zero_share",
)

_FEW = 10


def size(v: View) -> dict[str, Array]:
    """How large the table is. Logarithms are natural; indicators are not counted."""
    columns = jnp.sum(v.real).astype(v.rows.dtype)
    constant = v.real & ~v.useful
    return {
        "log_rows": jnp.log(v.rows),
        "log_columns": jnp.log1p(columns),
        "log_rows_per_column": jnp.log(v.rows / jnp.maximum(columns, 1)),
        "number_share": ratio(jnp.sum(v.number), columns),
        "constant_share": ratio(jnp.sum(constant), columns),
    }


def balance(v: View) -> dict[str, Array]:
    """How evenly rows spread over the classes that occur."""
    counts = jnp.sum(v.target, axis=0)
    there = counts > 0
    shares = counts / v.rows
    classes = jnp.maximum(jnp.sum(there), 1).astype(v.rows.dtype)
    entropy = -jnp.sum(shares * jnp.log(jnp.where(there, shares, 1.0)))
    fewest = jnp.min(jnp.where(there, counts, jnp.inf))
    fewest = jnp.where(jnp.isfinite(fewest), fewest, 0.0)
    return {
        "log_classes": jnp.log(classes),
        "class_entropy": ratio(entropy, jnp.log(classes)),
        "majority_share": jnp.max(shares),
        "minority_share": fewest / v.rows,
        "log_minority_rows": jnp.log1p(fewest),
    }


def spread(v: View) -> dict[str, Array]:
    """How a target that is a number is distributed; all free of its unit."""
    y = v.target[:, 0]
    third = jnp.sum(y**3) / v.rows
    fourth = jnp.sum(y**4) / v.rows
    ordered = sort(jnp.where(v.mask, y, jnp.inf))
    new, longest = _runs(ordered[:, None], v.rows[None])
    return {
        "target_skewness": jnp.arcsinh(third),
        "target_kurtosis": jnp.where(fourth > 0, jnp.arcsinh(fourth - 3.0), 0.0),
        "target_outlier_share": average(jnp.abs(y) > 3.0, v.mask),
        "target_distinct_share": new[0] / v.rows,
        "target_mode_share": longest[0] / v.rows,
    }


def missing(v: View) -> dict[str, Array]:
    """How much is missing among the columns that are numbers."""
    absent = v.mask[:, None] & v.number & ~v.known
    columns = jnp.sum(v.number)
    return {
        "missing_share": ratio(jnp.sum(absent), columns * v.rows),
        "columns_with_missing": ratio(jnp.sum(jnp.any(absent, axis=0)), columns),
        "rows_with_missing": jnp.sum(jnp.any(absent, axis=1)) / v.rows,
    }


def _runs(
    ordered: Float[Array, "n f"], count: Float[Array, " f"]
) -> tuple[Float[Array, " f"], Float[Array, " f"]]:
    """The number of distinct values, and how often the most frequent one occurs."""
    place = jnp.arange(len(ordered))[:, None]
    inside = place < count
    new = inside & jnp.concatenate(
        [jnp.ones_like(inside[:1]), ordered[1:] > ordered[:-1]]
    )
    start = jnp.where(new, place, 0)
    for shift in (2**i for i in range((len(ordered) - 1).bit_length())):
        moved = jnp.concatenate([start[:1].repeat(shift, 0), start[:-shift]])
        start = jnp.maximum(start, moved)
    longest = jnp.max(jnp.where(inside, place - start + 1, 0), axis=0)
    return jnp.sum(new, axis=0).astype(count.dtype), longest.astype(count.dtype)


def _column_moments(v: View) -> tuple[Array, Array, Array]:
    """Skewness, excess kurtosis and share of outliers of each column as it was read.

    An outlier is farther than 3 interquartile ranges from the quartiles.
    """
    count = jnp.maximum(jnp.sum(v.known, axis=0), 1)
    largest = jnp.max(jnp.abs(v.raw), axis=0)
    x = v.raw / jnp.where(largest > 0, largest, 1.0)
    x = jnp.where(v.known, x - jnp.sum(x, axis=0) / count, 0.0)
    second, third, fourth = (jnp.sum(x**p, axis=0) / count for p in (2, 3, 4))
    varies = second > 1e-12
    second = jnp.where(varies, second, 1.0)
    skewness = jnp.where(varies, third / second**1.5, 0.0)
    kurtosis = jnp.where(varies, fourth / second**2 - 3.0, 0.0)

    def at(q: float) -> Array:
        index = jnp.floor(q * (count - 1)).astype(int)
        value = jnp.take_along_axis(v.ordered, index[None], axis=0)[0]
        return jnp.where(jnp.isfinite(value), value, 0.0)

    low, high = at(0.25), at(0.75)
    away = jnp.maximum(v.raw - high, low - v.raw) > 3.0 * (high - low)
    outliers = jnp.sum(v.known & away, axis=0) / count
    return skewness, kurtosis, jnp.where(high > low, outliers, 0.0)


def moments(v: View) -> dict[str, Array]:
    """Shapes of the columns that are numbers and vary; inverse hyperbolic sines."""
    kept: Bool[Array, " f"] = v.number & v.useful
    skewness, kurtosis, outliers = _column_moments(v)
    skewness = jnp.arcsinh(jnp.abs(skewness))
    kurtosis = jnp.arcsinh(kurtosis)
    count = jnp.sum(v.known, axis=0).astype(v.rows.dtype)
    distinct, _ = _runs(v.ordered, count)
    share = distinct / jnp.maximum(count, 1)
    return {
        "skewness_mean": average(skewness, kept),
        "skewness_median": quantile(skewness, kept, 0.5),
        "skewness_max": jnp.max(jnp.where(kept, skewness, 0.0)),
        "kurtosis_mean": average(kurtosis, kept),
        "kurtosis_median": quantile(kurtosis, kept, 0.5),
        "outlier_share": average(outliers, kept),
        "distinct_share_mean": average(share, kept),
        "distinct_share_max": jnp.max(jnp.where(kept, share, 0.0)),
        "binary_share": average(distinct == 2, kept),
        "few_valued_share": average(distinct <= _FEW, kept),
        "zero_share": average(v.raw == 0.0, v.known & kept),
    }
