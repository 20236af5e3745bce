"""What several learners share: masked records, one-hot targets, absent classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.tasks import Examples
from jmeta.types import Array

__all__ = ["ABSENT", "active", "class_logits", "clean", "one_hot", "present"]

ABSENT = -40.0
"""The logit of a class that the support does not hold, where others are near 0.

Finite, so that gradients and products stay finite; softmax makes it 4e-18."""


def clean(support: Examples) -> Examples:
    """The same record with zeros in the rows that are padding."""
    rows = jnp.expand_dims(support.mask, range(1, support.x.ndim))
    return Examples(
        x=jnp.where(rows, support.x, 0.0),
        y=jnp.where(support.mask, support.y, 0).astype(support.y.dtype),
        mask=support.mask,
    )


def one_hot(support: Examples, num_classes: int) -> Float[Array, "n classes"]:
    """One-hot classes of the rows in the mask, zeros elsewhere; in x's precision."""
    hot = jax.nn.one_hot(support.y, num_classes, dtype=support.x.dtype)
    return jnp.where(support.mask[:, None], hot, 0.0)


def present(support: Examples, num_classes: int) -> Bool[Array, " classes"]:
    """Which classes have at least one row in the support."""
    return jnp.any(one_hot(support, num_classes) > 0, axis=0)


def active(x: Float[Array, "n features"]) -> Bool[Array, " features"]:
    """Which columns of a cleaned table are not all zero, so neither padding nor
    constant."""
    return jnp.any(x != 0, axis=0)


def class_logits(
    scores: Float[Array, "n classes"], present: Bool[Array, " classes"]
) -> Float[Array, "n classes"]:
    """Log probabilities over the classes present, and `ABSENT` for the others.

    Normalising first keeps the best class near 0, however extreme the scores, so
    that an absent class is never the likeliest.
    """
    # Finite where -inf would do, so that no gradient is inf - inf.
    low = jnp.asarray(-1e30, scores.dtype)
    logits = jax.nn.log_softmax(jnp.where(present, scores, low), axis=-1)
    return jnp.where(present, logits, ABSENT)
