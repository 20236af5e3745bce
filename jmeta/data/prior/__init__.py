"""The task prior: an endless stream of synthetic tables, drawn on the device.

A table is written for one key and batched by `vmap`; nothing is read from disk. It
mixes the ways in which real tables come about: causal graphs with random mechanisms,
trees and parities, clusters, linear and smooth functions, prototypes; with noise from
none to almost everything, skewed, rounded, few-valued and categorical columns,
outliers, redundancy and missing values.

Source of the idea of such a prior: Hollmann et al., 2023,
https://arxiv.org/abs/2207.01848, appendix C.
"""

import functools

import jax
import jax.numpy as jnp

from jmeta.data.prior import columns, latent, targets
from jmeta.tasks import Table
from jmeta.types import Key

__all__ = ["FEWEST_ROWS", "sample_table", "sample_tables"]

FEWEST_ROWS = 30
"""No table has fewer rows where nothing else is said."""

_KINDS = ("classes", "number")


def sample_table(
    key: Key,
    *,
    rows: int,
    features: int,
    num_classes: int = 2,
    kind: str = "classes",
    fewest_rows: int = FEWEST_ROWS,
) -> Table:
    """Draw one synthetic table.

    Its numbers of real rows, columns and classes vary with the key, up to the sizes
    given; the rest is padding. Every class that occurs has at least two rows, and at
    least two classes occur; classes are numbered without gaps.

    Args:
      key: decides everything.
      rows: the padded number of rows, at least 20.
      features: the padded number of columns, at least 2.
      num_classes: the largest number of classes, at least 2; not used for a number.
      kind: `"classes"` (int32 targets) or `"number"` (float32 targets).
      fewest_rows: no table has fewer rows, unless `rows` is smaller.

    Raises:
      ValueError: if a size is too small or the kind is unknown.
    """
    _check(rows, features, num_classes, kind)
    size_key, layout_key, latent_key, target_key, show_key = jax.random.split(key, 5)
    fewest = min(fewest_rows, rows)
    # Skewed towards the padded size: the smaller sizes have buckets of their own.
    share = jax.random.uniform(size_key) ** 0.6
    num_rows = jnp.floor(fewest * jnp.exp(share * jnp.log(rows / fewest)) + 0.5)
    mask = jnp.arange(rows) < num_rows.astype(int)

    layout = columns.sample_layout(layout_key, features)
    causes = latent.sample_latent(latent_key, mask, layout.included, num_classes)
    seen = columns.discretise(layout, causes.values)
    scores = targets.sample_scores(target_key, seen, causes, layout.included, mask)
    if kind == "classes":
        y = targets.sample_classes(target_key, scores, mask)
    else:
        y = targets.sample_numbers(target_key, scores, mask)
    x, kinds = columns.show(show_key, layout, causes.values, mask)
    return Table(x=x, y=y, mask=mask, columns=kinds)


@functools.partial(
    jax.jit,
    static_argnames=(
        "num_tables",
        "rows",
        "features",
        "num_classes",
        "kind",
        "fewest_rows",
    ),
)
def sample_tables(
    key: Key,
    num_tables: int,
    *,
    rows: int,
    features: int,
    num_classes: int = 2,
    kind: str = "classes",
    fewest_rows: int = FEWEST_ROWS,
) -> Table:
    """Draw a batch of synthetic tables, as `sample_table` does each.

    Table i depends on the key and on i alone: a longer batch begins with the same
    tables.

    Returns:
      One record with a leading axis of `num_tables`.

    Raises:
      ValueError: if a size is too small or the kind is unknown.
    """
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_tables))
    sample = functools.partial(
        sample_table,
        rows=rows,
        features=features,
        num_classes=num_classes,
        kind=kind,
        fewest_rows=fewest_rows,
    )
    return jax.vmap(sample)(keys)


def _check(rows: int, features: int, num_classes: int, kind: str) -> None:
    if rows < 20 or features < 2:
        raise ValueError(
            "sample_table: needs at least 20 rows and 2 features, "
            f"got rows={rows} and features={features}."
        )
    if kind not in _KINDS:
        raise ValueError(f"sample_table: kind must be one of {_KINDS}, got {kind!r}.")
    if kind == "classes" and not 2 <= num_classes <= rows // 4:
        raise ValueError(
            f"sample_table: num_classes must be in [2, rows / 4], got {num_classes}."
        )
