"""Tasks: records of masked, padded arrays; splits and folds that are masks.

A table is padded to a *bucket* (rows 64, 128, 256, ...; features 8, 16, 32, ...), so
that a handful of compiled programs serve every table. Padding is data that must not
matter: it may hold anything, NaN included.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from jmeta.sorting import sort
from jmeta.types import Array, Key

__all__ = [
    "CATEGORY",
    "INDICATOR",
    "NUMBER",
    "PADDING",
    "Examples",
    "Folds",
    "Scaling",
    "Table",
    "Task",
    "apply_scaling",
    "bucket",
    "fit_scaling",
    "kfold",
    "pad_examples",
    "pad_table",
    "prepare",
    "stack",
    "target_scaling",
    "task_of",
]

PADDING, NUMBER, CATEGORY, INDICATOR = 0, 1, 2, 3
"""What a column of a `Table` is: padding, a number, one category of a one-hot
encoded column, or whether another column's value is missing."""

Record = TypeVar("Record")

_SMALLEST = {"rows": 64, "features": 8, "classes": 2}


class Examples(NamedTuple):
    """Rows with targets. Rows outside the mask may hold anything, NaN included.

    Attributes:
      x: one row an example: features, or an image `(height, width, channels)`.
      y: classes in [0, num_classes) as int32, or numbers as float32.
      mask: which rows count.
    """

    x: Float[Array, "*tasks_n_features"]
    y: Num[Array, "*tasks n"]
    mask: Bool[Array, "*tasks n"]


class Task(NamedTuple):
    """One task. A batch of tasks is the same tuple with a leading task axis.

    Attributes:
      support: what the learner may train on.
      query: what it is judged on; never seen while adapting.
      description: `(meta,)` float32 task features (see `jmeta.describe`).
    """

    support: Examples
    query: Examples
    description: Float[Array, "*tasks meta"]


class Table(NamedTuple):
    """A labelled table before it is split, its columns encoded as numbers.

    Attributes:
      x: numbers as they were read, NaN where missing; categories one-hot.
      y: classes in [0, num_classes) as int32, or numbers as float32.
      mask: which rows exist.
      columns: what each column is: PADDING, NUMBER, CATEGORY or INDICATOR.
    """

    x: Float[Array, "*tasks n features"]
    y: Num[Array, "*tasks n"]
    mask: Bool[Array, "*tasks n"]
    columns: Int[Array, "*tasks features"]


class Folds(NamedTuple):
    """K splits of one table's rows; a fold is a pair of masks, never a copy."""

    support: Bool[Array, "*tasks folds n"]
    query: Bool[Array, "*tasks folds n"]


def bucket(size: int, axis: str) -> int:
    """The padded length for `size` rows, features or classes: the next power of two.

    Raises:
      ValueError: if `axis` is not "rows", "features" or "classes", or `size` < 1.
    """
    if axis not in _SMALLEST or size < 1:
        raise ValueError(
            f"bucket: needs an axis of {list(_SMALLEST)} and a size of at least 1, "
            f"got {axis!r} and {size}."
        )
    return max(_SMALLEST[axis], 1 << (size - 1).bit_length())


def _pad(array: np.ndarray, length: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, length - array.shape[axis])
    return np.pad(array, widths)


def pad_examples(
    x: Num[np.ndarray, "n *features"], y: Shaped[np.ndarray, " n"], *, length: int
) -> Examples:
    """Pad rows to `length`; the mask says which are real.

    Raises:
      ValueError: if the rows do not fit, or `x` and `y` differ in length.
    """
    if len(x) != len(y):
        raise ValueError(
            f"pad_examples: x has {len(x)} rows and y has {len(y)}; they must agree."
        )
    if len(x) > length:
        raise ValueError(
            f"pad_examples: {len(x)} examples do not fit in length={length}; "
            "raise length or draw fewer examples."
        )
    return Examples(
        x=jnp.asarray(_pad(np.asarray(x, np.float32), length, 0)),
        y=jnp.asarray(_pad(_target(y), length, 0)),
        mask=jnp.arange(length) < len(x),
    )


def pad_table(
    x: Float[np.ndarray, "n features"],
    y: Shaped[np.ndarray, " n"],
    columns: Int[np.ndarray, " features"],
    *,
    rows: int | None = None,
    features: int | None = None,
) -> Table:
    """Pad a table to its bucket, or to the lengths given.

    Raises:
      ValueError: if it does not fit, or the parts disagree in length.
    """
    features = bucket(x.shape[1], "features") if features is None else features
    rows = bucket(len(x), "rows") if rows is None else rows
    if x.shape[1] != len(columns) or x.shape[1] > features:
        raise ValueError(
            f"pad_table: {x.shape[1]} features, {len(columns)} column kinds and "
            f"features={features} do not go together; raise features."
        )
    examples = pad_examples(x, y, length=rows)
    return Table(
        x=jnp.pad(examples.x, ((0, 0), (0, features - x.shape[1]))),
        y=examples.y,
        mask=examples.mask,
        columns=jnp.asarray(_pad(np.asarray(columns, np.int32), features, 0)),
    )


def _target(y: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    return y.astype(np.float32 if y.dtype.kind == "f" else np.int32)


def stack(records: Sequence[Record]) -> Record:
    """Stack equally padded records along a new leading task axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


def kfold(
    key: Key, y: Num[Array, " n"], mask: Bool[Array, " n"], num_folds: int
) -> Folds:
    """Assign every row to the query of one of `num_folds` folds, stratified by `y`.

    Classes are dealt round-robin, so that fold sizes and class counts differ by at
    most one; numbers are dealt in random order. The folds of the real rows do not
    depend on the padding.

    Args:
      key: decides which rows go together.
      y: int classes are stratified; float numbers are not.
      mask: rows outside it are in no fold.
      num_folds: at least 2.

    Raises:
      ValueError: if `num_folds` is below 2.
    """
    if num_folds < 2:
        raise ValueError(f"kfold: num_folds must be at least 2, got {num_folds}.")
    num_rows = mask.shape[0]
    shuffled = jax.random.uniform(key, (num_rows,))
    strata = y if jnp.issubdtype(y.dtype, jnp.integer) else jnp.zeros_like(y, int)
    order = jnp.lexsort((shuffled, jnp.where(mask, strata, jnp.iinfo(jnp.int32).max)))
    dealt = jnp.zeros(num_rows, int).at[order].set(jnp.arange(num_rows) % num_folds)
    query = mask & (dealt == jnp.arange(num_folds)[:, None])
    return Folds(support=mask & ~query, query=query)


def target_scaling(
    support: Examples,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and deviation of a support's numbers; of equal ones the deviation is 1."""
    count = jnp.maximum(jnp.sum(support.mask), 1)
    mean = jnp.sum(jnp.where(support.mask, support.y, 0.0)) / count
    away = jnp.where(support.mask, support.y - mean, 0.0)
    variance = jnp.sum(jnp.square(away)) / count
    return mean, jnp.sqrt(jnp.where(variance > 1e-12, variance, 1.0))


class Scaling(NamedTuple):
    """What `prepare` learns from the support rows, one value a column.

    Attributes:
      centre, scale: what is subtracted and divided by.
      keep: whether the column varies on the support; the others become zeros.
      number: whether the column is squashed.
    """

    centre: Float[Array, "*tasks features"]
    scale: Float[Array, "*tasks features"]
    keep: Bool[Array, "*tasks features"]
    number: Bool[Array, "*tasks features"]


def fit_scaling(
    x: Float[Array, "n features"],
    columns: Int[Array, " features"],
    support: Bool[Array, " n"],
) -> Scaling:
    """Statistics of the support rows that centre and scale each column.

    Numbers are centred by the median and scaled by the interquartile range (by the
    mean absolute deviation where that is zero) to about unit deviation. One-hot and
    indicator columns are centred by their mean.
    """
    seen = jnp.isfinite(x) & (columns != PADDING) & support[:, None]
    count = jnp.sum(seen, axis=0)
    some = jnp.maximum(count, 1)
    values = sort(jnp.where(seen, x, jnp.inf))

    def quantile(q: float) -> Array:
        place = q * (some - 1).astype(x.dtype)
        low = jnp.floor(place)
        indices = jnp.stack([low, jnp.ceil(place)]).astype(int)
        below, above = jnp.take_along_axis(values, indices, axis=0)
        value = below + (place - low) * (above - below)
        return jnp.where(count > 0, value, 0.0)

    median = quantile(0.5)
    spread = (quantile(0.75) - quantile(0.25)) / 1.349
    away = jnp.sum(jnp.where(seen, jnp.abs(x - median), 0.0), axis=0) / some
    scale = jnp.where(spread > 1e-6 * away, spread, 1.2533 * away)
    mean = jnp.sum(jnp.where(seen, x, 0.0), axis=0) / some
    number = columns == NUMBER
    return Scaling(
        centre=jnp.where(number, median, mean),
        scale=jnp.where(number & (scale > 0), scale, 1.0),
        keep=quantile(1.0) > quantile(0.0),
        number=number,
    )


def apply_scaling(
    scaling: Scaling, x: Float[Array, "n features"]
) -> Float[Array, "n features"]:
    """Impute, centre and scale rows with a support's statistics.

    Numbers are squashed smoothly towards +-4, which keeps their order. Columns that
    are padding, or constant or missing on the whole support, become exact zeros; so
    do missing values, which for a number is its median.

    Source: smooth clipping as in Holzmueller et al., 2024,
    https://arxiv.org/abs/2407.04491, section 3.
    """
    away = jnp.where(jnp.isfinite(x) & scaling.keep, x - scaling.centre, 0.0)
    # Clipped, since the square of a huge number is infinite.
    z = jnp.clip(away / scaling.scale, -1e15, 1e15)
    squashed = z / jnp.sqrt(1.0 + jnp.square(z / 4.0))
    return jnp.where(scaling.number, squashed, z)


def prepare(
    x: Float[Array, "n features"],
    columns: Int[Array, " features"],
    support: Bool[Array, " n"],
) -> Float[Array, "n features"]:
    """Impute and scale all rows with statistics of the support rows alone."""
    return apply_scaling(fit_scaling(x, columns, support), x)


def task_of(
    table: Table,
    support: Bool[Array, " n"],
    query: Bool[Array, " n"],
    description: Float[Array, " meta"],
) -> Task:
    """The task that two masks make of a table, its features prepared."""
    x = prepare(table.x, table.columns, support & table.mask)
    return Task(
        support=Examples(x=x, y=table.y, mask=support & table.mask),
        query=Examples(x=x, y=table.y, mask=query & table.mask),
        description=description,
    )
