"""A meta-dataset as arrays that experts learn from, for many training sets at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from jmeta.algorithms.meta_classification import additive_fit
from jmeta.data.records import MetaDataset
from jmeta.evaluation import objective
from jmeta.selection.settings import encode_settings
from jmeta.sorting import sort
from jmeta.types import Array

__all__ = ["MISSING", "Inputs", "make_inputs", "quantiles", "views"]

MISSING = -1.0
"""What stands for a missing value among quantiles."""


class Inputs(NamedTuple):
    """What experts learn from. A fit is one training set with one seed.

    Attributes:
      x: descriptions as quantiles of the fit's training tasks, `MISSING` where
        missing, constant where the fit may not use the feature.
      costs: in each view (see `views`); NaN where a candidate was not run.
      base: cost of each candidate on the average training task.
      spread: typical difference between what a candidate costs and what its base and
        the task's level say.
      train: which tasks the fit may learn from.
      families: of the tasks, in [0, tasks).
      settings: of the candidates, in [0, 1] (see `encode_settings`); without columns
        where they are not known, or where every candidate ran on every task.
      keys: one a fit; decide its draws.
    """

    x: Float[Array, "fits tasks features"]
    costs: Float[Array, "tasks candidates views"]
    base: Float[Array, "fits candidates views"]
    spread: Float[Array, "fits views"]
    train: Bool[Array, "fits tasks"]
    families: Int[Array, " tasks"]
    settings: Float[Array, "candidates columns"]
    keys: UInt[Array, " fits"]

    def residuals(self) -> Float[Array, "fits tasks outputs"]:
        """Costs above the base, in units of the spread; outputs = candidates * views.

        A candidate that was not run on a task gets the mean of those that were.
        """
        known = jnp.isfinite(self.costs)
        left = jnp.where(known, self.costs, 0.0) - self.base[:, None]
        left = jnp.where(known, left, 0.0) / self.spread[:, None, None]
        level = jnp.sum(left, axis=2) / jnp.maximum(jnp.sum(known, axis=1), 1)
        filled = jnp.where(known, left, level[:, :, None])
        return filled.reshape(*filled.shape[:2], -1)


def views(data: MetaDataset) -> np.ndarray:
    """Costs on two scales `(tasks, candidates, 2)`: what counts, and an evened one.

    The second is less ruled by the few tasks where most is at stake: the logarithm of
    a runtime, the rank among the task's candidates of anything else.
    """
    costs = objective(data)
    if data.metric.cutoff is not None:
        return np.stack([costs, np.log10(np.maximum(costs, 0) + 1.0)], axis=-1)
    below = np.sum(costs[:, :, None] > costs[:, None, :], axis=2)
    same = np.sum(costs[:, :, None] == costs[:, None, :], axis=2)
    ranks = (below + same / 2) / np.maximum(np.isfinite(costs).sum(1), 1)[:, None]
    return np.stack([costs, np.where(np.isfinite(costs), ranks, np.nan)], axis=-1)


def quantiles(
    values: Float[Array, " tasks"], train: Bool[Array, " tasks"]
) -> Float[Array, " tasks"]:
    """The share of training values below each value, ties counting half.

    `MISSING` where a value is not finite; 0.5 everywhere without training values.
    """
    seen = train & jnp.isfinite(values)
    ordered = sort(jnp.where(seen, values, jnp.inf))
    count = jnp.sum(seen)
    below = jnp.searchsorted(ordered, values, side="left", method="sort")
    upto = jnp.searchsorted(ordered, values, side="right", method="sort")
    both = jnp.minimum(below, count) + jnp.minimum(upto, count)
    share = jnp.where(count > 0, both / (2 * jnp.maximum(count, 1)), 0.5)
    return jnp.where(jnp.isfinite(values), share, MISSING)


@jax.jit
def _scale(descriptions: Array, train: Array, usable: Array) -> Array:
    def one(fit: tuple[Array, Array]) -> Array:
        x = jax.vmap(quantiles, in_axes=(1, None), out_axes=1)(descriptions, fit[0])
        return jnp.where(fit[1], x, 0.5)

    return jax.lax.map(one, (train, usable))


def _shared(base: Array, spread: Array, counts: Array, settings: Array) -> Array:
    """Mean costs, each drawn toward those of candidates with settings like its own.

    The posterior mean of a Gaussian process over settings: a candidate that ran on
    many tasks keeps its own mean, one that never ran gets what its like cost.
    """
    ran = counts > 0
    mean = jnp.sum(jnp.where(ran, base, 0.0)) / jnp.maximum(jnp.sum(ran), 1)
    above = jnp.where(ran, base - mean, 0.0)
    height = jnp.sum(above**2) / jnp.maximum(jnp.sum(ran), 1)
    gaps = jnp.abs(settings[:, None] - settings).sum(-1)
    scale = jnp.median(gaps)
    alike = jnp.exp(-gaps / jnp.where(scale > 0, scale, 1.0)) * ran
    noise = spread**2 / jnp.maximum(counts, 1) / jnp.where(height > 0, height, 1.0)
    system = jnp.where(ran[:, None], alike, 0.0) + jnp.diag(jnp.where(ran, noise, 1.0))
    return mean + alike @ (jnp.linalg.inv(system) @ above)


@jax.jit
def _centre(costs: Array, train: Array, settings: Array) -> tuple[Array, Array]:
    def one(train: Array) -> tuple[Array, Array]:
        known = jnp.isfinite(costs) & train[:, None, None]
        base, spread = jax.vmap(additive_fit, in_axes=2)(
            jnp.where(known, costs, 0.0), known
        )
        if settings.shape[1]:
            base = jax.vmap(_shared, in_axes=(0, 0, 1, None))(
                base, spread, jnp.sum(known, axis=0), settings
            )
        return base.T, spread

    return jax.lax.map(one, train)


def make_inputs(
    data: MetaDataset, train: np.ndarray, usable: np.ndarray, keys: np.ndarray
) -> Inputs:
    """What experts learn from.

    Args:
      data: at least one candidate was run on each task.
      train: `(fits, tasks)` which tasks each fit may learn from.
      usable: `(fits, features)` which features each fit may use.
      keys: `(fits,)` uint32.
    """
    # Values beyond float32 are as far away as floats get, and still in order.
    limit = float(np.finfo(np.float32).max)
    descriptions = np.clip(data.descriptions, -limit, limit).astype(np.float32)
    costs = jnp.asarray(views(data), jnp.float32)
    # Settings tell of candidates that hardly ran; where all ran everywhere they add
    # nothing but noise (measured on auto-sklearn's and PMLB's tables).
    known = np.zeros((len(data.candidates), 0))
    if data.settings is not None and np.isnan(data.costs).any():
        known = encode_settings(data.settings)
    settings = jnp.asarray(known, jnp.float32)
    base, spread = _centre(costs, jnp.asarray(train), settings)
    return Inputs(
        x=_scale(jnp.asarray(descriptions), jnp.asarray(train), jnp.asarray(usable)),
        costs=costs,
        base=base,
        spread=spread,
        train=jnp.asarray(train),
        families=jnp.asarray(data.families, jnp.int32),
        settings=settings,
        keys=jnp.asarray(keys, jnp.uint32),
    )
