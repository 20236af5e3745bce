"""A meta-dataset as arrays that experts learn from, for many training sets at once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

__all__ = [
    "FITS",
    "MISSING",
    "QUICK",
    "Inputs",
    "by_fits",
    "chunked",
    "make_inputs",
    "quantiles",
    "views",
]

MISSING = -1.0
"""What stands for a missing value among quantiles."""


class Inputs(NamedTuple):
    """What the experts of one fit learn from: one training set with one seed.

    Many fits are the same record, with a leading axis in the leaves that `FITS` marks.

    Attributes:
      x: descriptions as quantiles of the training tasks, `MISSING` where missing,
        constant where the fit may not use the feature.
      costs: in each view (see `views`); NaN where a candidate was not run.
      base: cost of each candidate on the average training task.
      spread: typical difference between what a candidate costs and what its base and
        the task's level say.
      train: which tasks the fit may learn from.
      families: of the tasks, in [0, tasks).
      members: places of each family's tasks with costs, `tasks` as padding.
      gaps: places of the features that are missing on a task with costs.
      settings: of the candidates, in [0, 1] (see `encode_settings`); without columns
        where they are not known, or where every candidate ran on every task.
      key: decides the fit's draws.
    """

    x: Float[Array, "*fits tasks features"]
    costs: Float[Array, "tasks candidates views"]
    base: Float[Array, "*fits candidates views"]
    spread: Float[Array, "*fits views"]
    train: Bool[Array, "*fits tasks"]
    families: Int[Array, " tasks"]
    members: Int[Array, "families size"]
    gaps: Int[Array, " missing"]
    settings: Float[Array, "candidates columns"]
    key: UInt[Array, "*fits"]

    def using(self, usable: Bool[np.ndarray, "fits features"]) -> "Inputs":
        """The same fits, without the features that they may not use."""
        return self._replace(x=jnp.where(usable[:, None], self.x, 0.5))

    def of(self, fits: Int[np.ndarray, " n"]) -> "Inputs":
        """Some of the fits, in this order; a fit may come more than once."""
        return self._replace(**{name: getattr(self, name)[fits] for name in _MAPPED})

    def residuals(self) -> Float[Array, "tasks outputs"]:
        """Costs of one fit above its base, in units of the spread.

        A candidate that was not run on a task gets the mean of those that were.
        Outputs are candidates times views.
        """
        known = jnp.isfinite(self.costs)
        left = jnp.where(known, self.costs - self.base, 0.0) / self.spread
        level = jnp.sum(left, axis=1) / jnp.maximum(jnp.sum(known, axis=1), 1)
        filled = jnp.where(known, left, level[:, None])
        return filled.reshape(len(filled), -1)


_MAPPED = ("x", "base", "spread", "train", "key")

FITS: Any = Inputs._make(0 if name in _MAPPED else None for name in Inputs._fields)
"""Which leaves have an axis of fits, as `jax.vmap` is told; the others are shared."""


QUICK: dict[str, Any] = {"xla_backend_optimization_level": 1}
"""A program serves one meta-dataset: it compiles in half the time, and runs as fast."""


def chunked(program: Callable[..., Any], arrays: Sequence[Any], size: int) -> Any:
    """Run a program on rows of arrays, `size` at a time, as host arrays.

    More rows are more calls of the same compiled program; the last chunk is filled by
    repetition. Chunks wait for each other: batched linear algebra of two programs at
    once can hang on a CPU.
    """
    count = len(arrays[0])
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(jax.device_get(program(*(array[rows] for array in arrays))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def by_fits(program: Callable[..., Any], inputs: Inputs, *each: Any) -> Any:
    """Run `program(inputs, *each)` on a few fits at a time; see `chunked`."""

    def some(*arrays: Any) -> Any:
        fits = dict(zip(_MAPPED, arrays))
        return program(inputs._replace(**fits), *arrays[len(_MAPPED) :])

    arrays = [np.asarray(getattr(inputs, name)) for name in _MAPPED]
    return chunked(some, [*arrays, *each], fits_at_once())


def fits_at_once() -> int:
    """How many fits one call of a program trains."""
    return 2 if jax.default_backend() == "cpu" else 16


def views(data: MetaDataset) -> np.ndarray:
    """Costs on two scales `(tasks, candidates, 2)`: what counts, and an evened one.

    The second is less ruled by the few tasks where most is at stake: the logarithm of
    a runtime, the rank among the task's candidates of anything else.
    """
    costs = objective(data)
    if data.metric.cutoff is not None:
        return np.stack([costs, np.log10(np.maximum(costs, 0) + 1.0)], axis=-1)
    from scipy.stats import rankdata  # Slow to import.

    ran = np.maximum(np.isfinite(costs).sum(axis=1, keepdims=True), 1)
    ranks = (rankdata(costs, axis=1, nan_policy="omit") - 0.5) / ran
    return np.stack([costs, ranks], axis=-1)


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
def _prepare(
    costs: Array,
    settings: Array,
    descriptions: Array,
    train: Array,
) -> tuple[Array, Array, Array]:
    """`x`, `base` and `spread` of some fits."""

    def one(descriptions: Array, train: Array) -> tuple[Array, Array, Array]:
        x = jax.vmap(quantiles, in_axes=(1, None), out_axes=1)(descriptions, train)
        low = jnp.min(jnp.where(train[:, None], x, jnp.inf), axis=0)
        high = jnp.max(jnp.where(train[:, None], x, -jnp.inf), axis=0)
        # Nothing is learnt of features that are the same on all training tasks, nor
        # of missing ones that are there on all of them: these stand in the middle.
        tells = (low < high) & ((x != MISSING) | (low == MISSING))
        x = jnp.where(tells, x, 0.5)
        known = jnp.isfinite(costs) & train[:, None, None]
        base, spread = jax.vmap(additive_fit, in_axes=2)(
            jnp.where(known, costs, 0.0), known
        )
        if settings.shape[1]:
            base = jax.vmap(_shared, in_axes=(0, 0, 1, None))(
                base, spread, jnp.sum(known, axis=0), settings
            )
        return x, base.T, spread

    return jax.vmap(one)(descriptions, train)


def _members(families: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`(families, size)` places of the known tasks; `tasks` as padding."""
    order = known[np.argsort(families[known], kind="stable")]
    _, starts, counts = np.unique(
        families[order], return_index=True, return_counts=True
    )
    place = starts[:, None] + np.arange(counts.max())
    inside = np.arange(counts.max()) < counts[:, None]
    return np.where(inside, order[np.minimum(place, len(order) - 1)], len(families))


def make_inputs(
    data: MetaDataset,
    train: np.ndarray,
    keys: np.ndarray,
    descriptions: Float[np.ndarray, "fits tasks features"] | None = None,
) -> Inputs:
    """What experts learn from.

    Args:
      data: at least one candidate was run on each task that a fit may learn from.
      train: `(fits, tasks)` which tasks each fit may learn from.
      keys: `(fits,)` uint32.
      descriptions: what each fit sees of the tasks, in place of the data's own.
    """
    # Values beyond float32 are as far away as floats get, and still in order.
    limit = float(np.finfo(np.float32).max)
    described = data.descriptions if descriptions is None else descriptions
    described = np.clip(described, -limit, limit).astype(np.float32)
    described = np.broadcast_to(described, (len(train), *described.shape[-2:]))
    costs = jnp.asarray(views(data), jnp.float32)
    # Settings tell of candidates that hardly ran; where all ran everywhere they add
    # nothing but noise (measured on auto-sklearn's and PMLB's tables).
    known = np.zeros((len(data.candidates), 0))
    ran = np.isfinite(data.costs)
    known_tasks = np.flatnonzero(ran.any(axis=1))
    if data.settings is not None and not ran[known_tasks].all():
        known = encode_settings(data.settings)
    missing = ~np.isfinite(described[:, known_tasks]).all(axis=(0, 1))
    settings = jnp.asarray(known, jnp.float32)
    prepare = functools.partial(_prepare, costs, settings)
    x, base, spread = chunked(prepare, (described, train), fits_at_once())
    return Inputs(
        x=jnp.asarray(x),
        costs=costs,
        base=jnp.asarray(base),
        spread=jnp.asarray(spread),
        train=jnp.asarray(train),
        families=jnp.asarray(data.families, jnp.int32),
        members=jnp.asarray(_members(data.families, known_tasks), jnp.int32),
        gaps=jnp.asarray(np.flatnonzero(missing), jnp.int32),
        settings=settings,
        key=jnp.asarray(keys, jnp.uint32),
    )
