"""Standardising task descriptions with statistics of the training tasks."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.types import Array

__all__ = ["fit_scaler", "standardise", "unstandardise"]

LIMIT = 4.0
"""Standardised features are squashed smoothly into (-LIMIT, LIMIT)."""


def fit_scaler(
    descriptions: Float[Array, "tasks meta"],
    mask: Bool[Array, " tasks"] | None = None,
) -> dict[str, Float[Array, " meta"]]:
    """The centre and scale of each feature, robust to outliers.

    The centre is the median; the scale is the interquartile range, or the mean
    absolute deviation where that is zero, as a standard deviation. A feature that
    is constant or always missing gets the scale 0, and is ignored.

    Args:
      descriptions: NaN or infinite where a feature is missing.
      mask: False on tasks that are padding; None for none.
    """
    seen = jnp.isfinite(descriptions)
    if mask is not None:
        seen = seen & mask[:, None]
    values = jnp.where(seen, descriptions, jnp.nan)
    count = jnp.maximum(jnp.sum(seen, axis=0), 1)
    # Sorted once; a median of each quartile in turn would sort three times.
    quartiles = jnp.nanquantile(values, jnp.array([0.25, 0.5, 0.75]), axis=0)
    low, centre, high = jnp.nan_to_num(quartiles)
    away = jnp.sum(jnp.where(seen, jnp.abs(descriptions - centre), 0.0), axis=0)
    away = 1.2533 * away / count
    spread = (high - low) / 1.349
    scale = jnp.where(spread > 1e-3 * away, spread, away)
    tiny = 1e-6 * jnp.abs(centre)
    return {"centre": centre, "scale": jnp.where(scale > tiny, scale, 0.0)}


def standardise(
    scaler: dict[str, Float[Array, " meta"]], description: Float[Array, "*tasks meta"]
) -> Float[Array, "*tasks meta"]:
    """Descriptions without units, in (-LIMIT, LIMIT); 0 where missing or ignored.

    The scaler is never trained: no gradient flows into it.
    """
    centre, scale = jax.lax.stop_gradient((scaler["centre"], scaler["scale"]))
    known = jnp.isfinite(description) & (scale > 0)
    z = jnp.where(known, description - centre, 0.0) / jnp.where(scale > 0, scale, 1.0)
    z = jnp.clip(z, -1e15, 1e15)  # The square of a huge number is infinite.
    return z / jnp.sqrt(1.0 + jnp.square(z / LIMIT))


def unstandardise(
    scaler: dict[str, Float[Array, " meta"]], z: Float[Array, "*tasks meta"]
) -> Float[Array, "*tasks meta"]:
    """The descriptions that `standardise` turns into `z`; the centre where ignored."""
    centre, scale = jax.lax.stop_gradient((scaler["centre"], scaler["scale"]))
    left = jnp.maximum(1.0 - jnp.square(z / LIMIT), 1e-6)
    return centre + scale * z / jnp.sqrt(left)
