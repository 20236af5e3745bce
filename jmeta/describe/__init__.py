"""Descriptions of tasks: a fixed, versioned list of numbers about a table."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.describe import correlation, information, landmarks, simple
from jmeta.describe.schema import SCHEMA_VERSION, groups, names
from jmeta.describe.view import view
from jmeta.tasks import Table
from jmeta.types import Array, Key

__all__ = ["SCHEMA_VERSION", "describe", "groups", "names"]


def describe(
    table: Table,
    key: Key | None = None,
    *,
    kind: str = "classes",
    num_classes: int = 2,
) -> Float[Array, " meta"]:
    """Describe one table by the numbers that `names(kind)` lists.

    All are finite, free of the columns' units, and do not depend on padding. What is
    undefined for a table (a moment of no columns) is 0. Apart from the landmarks,
    whose folds follow the order of the rows, they do not depend on the order of rows,
    columns or classes.

    Args:
      table: without a task axis; `vmap` for a batch.
      key: decides the landmarks' folds; None means always the same.
      kind: `"classes"` or `"number"`.
      num_classes: the padded number of classes, at least 2; not used for a number.

    Raises:
      ValueError: if the kind is unknown or `num_classes` is below 2.
    """
    order = names(kind)
    if kind == "classes" and num_classes < 2:
        raise ValueError(
            f"describe: num_classes must be at least 2, got {num_classes}."
        )
    key = jax.random.key(0) if key is None else key
    v = view(table, kind, num_classes)
    values = {
        **simple.size(v),
        **(simple.balance(v) if kind == "classes" else simple.spread(v)),
        **simple.missing(v),
        **simple.moments(v),
        **correlation.correlation(v),
        **correlation.target(v),
        **information.information(v),
        **landmarks.scores(key, v, kind, num_classes),
    }
    described = jnp.stack([jnp.asarray(values[name], jnp.float32) for name in order])
    return jnp.where(jnp.isfinite(described), described, 0.0)
