"""What every group of task features reads: one table, cleaned, scaled and counted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.sorting import sort
from jmeta.tasks import INDICATOR, NUMBER, PADDING, Table, prepare
from jmeta.types import Array

__all__ = ["View", "average", "quantile", "ratio", "top_mean", "view"]


class View(NamedTuple):
    """One table without its garbage. All of it is zero where `mask` is false.

    Attributes:
      raw: values as read, 0 where missing.
      known: which cells hold a value.
      ordered: `raw` in ascending order in each column, infinity where unknown.
      z: the features as learners get them (`jmeta.tasks.prepare`), standardised to
        mean 0 and deviation 1; zeros for columns that hold nothing to learn from.
      target: for classes, one-hot; for a number, one standardised column.
      mask: which rows exist.
      real: which columns are neither padding nor indicators.
      number: which columns are numbers.
      useful: which columns vary, indicators included.
      rows: the number of rows that exist, at least 1.
    """

    raw: Float[Array, "n f"]
    known: Bool[Array, "n f"]
    ordered: Float[Array, "n f"]
    z: Float[Array, "n f"]
    target: Float[Array, "n t"]
    mask: Bool[Array, " n"]
    real: Bool[Array, " f"]
    number: Bool[Array, " f"]
    useful: Bool[Array, " f"]
    rows: Float[Array, ""]


def view(table: Table, kind: str, num_classes: int) -> View:
    """Clean and scale a table once for all groups."""
    mask = table.mask
    there = mask[:, None] & (table.columns != PADDING)
    known = there & jnp.isfinite(table.x)
    raw = jnp.where(known, table.x, 0.0)
    rows = jnp.maximum(jnp.sum(mask), 1).astype(raw.dtype)
    prepared = prepare(table.x, table.columns, mask)
    z = _standardise(jnp.where(mask[:, None], prepared, 0.0), mask)
    if kind == "classes":
        target = jax.nn.one_hot(table.y, num_classes, dtype=raw.dtype)
        target = jnp.where(mask[:, None], target, 0.0)
    else:
        y = jnp.where(mask, table.y, 0.0).astype(raw.dtype)
        target = _standardise(y[:, None], mask)
    return View(
        raw=raw,
        known=known,
        ordered=sort(jnp.where(known, raw, jnp.inf)),
        z=z,
        target=target,
        mask=mask,
        real=(table.columns != PADDING) & (table.columns != INDICATOR),
        number=table.columns == NUMBER,
        useful=jnp.any(z != 0.0, axis=0),
        rows=rows,
    )


def _standardise(x: Float[Array, "n f"], mask: Bool[Array, " n"]) -> Array:
    """Mean 0 and deviation 1 on the mask; zeros elsewhere and where nothing varies."""
    kept = mask[:, None]
    total = jnp.maximum(jnp.sum(mask), 1)
    size = jnp.max(jnp.where(kept, jnp.abs(x), 0.0), axis=0)
    # Divided by the largest first: numbers of any unit keep their squares finite.
    x = x / jnp.where(size > 0, size, 1.0)
    mean = jnp.sum(jnp.where(kept, x, 0.0), axis=0) / total
    centred = jnp.where(kept, x - mean, 0.0)
    variance = jnp.sum(jnp.square(centred), axis=0) / total
    flat = variance <= 1e-12
    return jnp.where(flat, 0.0, centred * jax.lax.rsqrt(jnp.where(flat, 1, variance)))


def ratio(above: Array, below: Array) -> Array:
    """`above / below`, and 0 where `below` is not positive."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0.0)


def average(values: Array, kept: Array) -> Float[Array, ""]:
    """The mean of the values kept, and 0 where there are none."""
    return ratio(jnp.sum(jnp.where(kept, values, 0.0)), jnp.sum(kept))


def quantile(values: Array, kept: Array, q: float) -> Float[Array, ""]:
    """A quantile of the values kept, linear in between; 0 where there are none."""
    count = jnp.sum(kept)
    ordered = sort(jnp.where(kept, values, jnp.inf))
    place = q * (jnp.maximum(count, 1) - 1).astype(values.dtype)
    low = jnp.floor(place).astype(int)
    high = jnp.ceil(place).astype(int)
    below = jnp.where(count > 0, ordered[low], 0.0)
    above = jnp.where(count > 0, ordered[high], 0.0)
    return below + (place - low) * (above - below)


def top_mean(values: Array, kept: Array, num: int) -> Float[Array, ""]:
    """The mean of the `num` largest values kept, or of all if they are fewer."""
    best, _ = jax.lax.top_k(
        jnp.where(kept, values, -jnp.inf), min(num, values.shape[0])
    )
    return average(best, jnp.isfinite(best))
