"""Extremely randomised oblivious trees, for classes and for a number.

Every level of a tree draws a few candidate splits, a random column at a random
threshold, and keeps the best. Leaves are shrunk towards the nodes above them, which
gives also the leaves that no row reached a value, and the trees are averaged.

Source: Geurts, Ernst and Wehenkel, 2006, https://doi.org/10.1007/s10994-006-6226-1;
shrinkage after Agarwal et al., 2022, https://arxiv.org/abs/2202.00858.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.base import Learner
from jmeta.learners.common import ABSENT, clean, one_hot, present
from jmeta.learners.oblivious import Trees, batch_max, leaf_of
from jmeta.spaces import Space, integer, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings

__all__ = ["ExtraTrees", "extra_trees", "extra_trees_regressor"]

NUM_TREES = 100
MAX_DEPTH = 7
MAX_CANDIDATES = 16
CHUNK = 10
"""Trees that grow side by side; what they need stays in the cache."""


class ExtraTrees(NamedTuple):
    """An average of trees whose leaves hold class probabilities, or means."""

    trees: Trees
    present: Bool[Array, " outputs"]


def extra_space() -> Space:
    """The hyperparameters of extremely randomised trees."""
    return Space(
        depth=integer(1, MAX_DEPTH, default=7),
        candidates=integer(1, MAX_CANDIDATES, default=12, log=True),
        smoothing=real(0.03, 30.0, default=1.0, log=True),
        rows=real(0.4, 1.0, default=1.0),
    )


class _Rows(NamedTuple):
    """What all levels of one tree share."""

    x: Array
    payload: Array  # (outputs + 1, n): targets, then weights; zero if not drawn.
    low: Array
    high: Array
    place: Array  # (features,): how many columns vary, up to each.


def _purity(
    sums: Float[Array, "leaves sums candidates"],
) -> Float[Array, " candidates"]:
    """The squared error removed by nodes with such sums, over all leaves."""
    weight = sums[:, -1]
    squares = jnp.sum(jnp.square(sums[:, :-1]), axis=1)
    return jnp.sum(squares / jnp.where(weight > 0, weight, 1.0), axis=0)


def _candidates(draws: Array, rows: _Rows) -> tuple[Array, Array, Array]:
    """Turn draws in [0, 1) into `(feature, threshold, above)` of columns that vary."""
    nth = jnp.floor(draws[:, 0] * rows.place[-1]).astype(int) + 1
    feature = jnp.sum(rows.place < nth[:, None], axis=1)
    feature = jnp.minimum(feature, rows.x.shape[1] - 1)
    low, high = rows.low[feature], rows.high[feature]
    threshold = low + draws[:, 1] * (high - low)
    pick = jax.nn.one_hot(feature, rows.x.shape[1], dtype=rows.x.dtype)
    # A product, since gathering rows one by one is slow; exact at this precision.
    seen = jnp.einsum("cf,nf->cn", pick, rows.x, precision=jax.lax.Precision.HIGHEST)
    return feature, threshold, (seen > threshold[:, None]).astype(rows.x.dtype)


def _level(
    draws: Array, settings: Settings, rows: _Rows, index: int, leaf: Array, value: Array
) -> tuple[Array, Array, Array, Array]:
    """Split all `2**index` leaves once.

    Returns:
      `(leaf, value, feature, threshold)`: where the rows are, the shrunk value of
      each child, and the split.
    """
    feature, threshold, above = _candidates(draws, rows)
    hot = (leaf == jnp.arange(2**index)[:, None]).astype(rows.x.dtype)
    payload = rows.payload[:, None]
    sums = jnp.einsum(
        "ln,pcn->lpc",
        hot,
        jnp.concatenate([above * payload, payload], axis=1),
        precision=jax.lax.Precision.HIGHEST,
    )
    right, total = sums[:, :, :-1], sums[:, :, -1:]
    tried = jnp.arange(MAX_CANDIDATES) < settings["candidates"]
    gain = jnp.where(tried, _purity(right) + _purity(total - right), -jnp.inf)
    best, parent = jnp.max(gain), jnp.squeeze(_purity(total))
    tolerance = 100 * jnp.finfo(rows.x.dtype).eps
    chosen = jnp.argmax(gain >= best - tolerance * jnp.abs(best))
    splits = (index < settings["depth"]) & (best > parent + tolerance * jnp.abs(parent))
    picked = jnp.take(right, chosen, axis=2)
    children = jnp.concatenate([total[:, :, 0] - picked, picked])
    parents = jnp.concatenate([value, value])
    smoothing = settings["smoothing"]
    shrunk = (children[:, :-1] + smoothing * parents) / (children[:, -1:] + smoothing)
    bit = (jnp.take(above, chosen, axis=0) > 0) & splits
    return (
        leaf + bit * 2**index,
        jnp.where(splits, shrunk, parents),
        jnp.take(feature, chosen),
        jnp.where(splits, jnp.take(threshold, chosen), jnp.inf),
    )


def _tree(
    key: Key,
    settings: Settings,
    x: Float[Array, "n features"],
    payload: Float[Array, "sums n"],
    low: Float[Array, " features"],
    high: Float[Array, " features"],
) -> Trees:
    """Grow one tree; `payload` holds targets and, last, weights."""
    row_key, split_key = jax.random.split(key)
    kept = jax.random.uniform(row_key, x.shape[:1], x.dtype) < settings["rows"]
    place = jnp.cumsum(high > low)
    rows = _Rows(x=x, payload=payload * kept, low=low, high=high, place=place)
    draws = jax.random.uniform(split_key, (MAX_DEPTH, MAX_CANDIDATES, 2), x.dtype)
    deepest = batch_max(settings["depth"])

    def level(index: int, leaf: Array, value: Array):
        leaf, value, feature, threshold = _level(
            draws[index], settings, rows, index, leaf, value
        )
        left = MAX_DEPTH - index - 1
        if left == 0:
            return value, ((feature, threshold),)

        def deeper(leaf: Array, value: Array):
            return level(index + 1, leaf, value)

        def stop(leaf: Array, value: Array):
            del leaf
            none = (jnp.zeros_like(feature), jnp.full_like(threshold, jnp.inf))
            return jnp.tile(value, (2**left, 1)), (none,) * left

        value, below = jax.lax.cond(deepest > index + 1, deeper, stop, leaf, value)
        return value, ((feature, threshold), *below)

    total = jnp.sum(rows.payload, axis=1)
    root = total[:-1] / jnp.maximum(total[-1], 1)
    value, splits = level(0, jnp.zeros(x.shape[0], int), root[None])
    features, thresholds = zip(*splits)
    return Trees(
        feature=jnp.stack(features), threshold=jnp.stack(thresholds), leaf=value
    )


def forest(
    key: Key,
    settings: Settings,
    x: Float[Array, "n features"],
    targets: Float[Array, "outputs n"],
    mask: Bool[Array, " n"],
) -> Trees:
    """Grow `NUM_TREES` trees, each from a key of its own.

    Args:
      key: decides every tree.
      settings: of `extra_space`.
      x: features; finite everywhere.
      targets: what leaves average; zero outside the mask.
      mask: which rows count.
    """
    settings = {name: jnp.asarray(v, x.dtype) for name, v in settings.items()}
    low = jnp.min(jnp.where(mask[:, None], x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(mask[:, None], x, -jnp.inf), axis=0)
    held = jnp.any(mask)
    low, high = jnp.where(held, low, 0.0), jnp.where(held, high, 0.0)
    payload = jnp.concatenate([targets, mask.astype(x.dtype)[None]])

    def one(i: Array) -> Trees:
        return _tree(jax.random.fold_in(key, i), settings, x, payload, low, high)

    return jax.lax.map(one, jnp.arange(NUM_TREES), batch_size=CHUNK)


def averaged(trees: Trees, x: Float[Array, "n features"]) -> Float[Array, "n outputs"]:
    """The mean of the trees' leaves."""
    leaf = leaf_of(trees.feature, trees.threshold, x)
    return jnp.mean(trees.leaf[jnp.arange(leaf.shape[1]), leaf], axis=1)


def extra_trees(num_classes: int) -> Learner:
    """Extremely randomised oblivious trees for classes.

    Args:
      num_classes: the padded number of classes.
    """

    def fit(key: Key, settings: Settings, support: Examples) -> ExtraTrees:
        support = clean(support)
        targets = one_hot(support, num_classes).T
        trees = forest(key, settings, support.x, targets, support.mask)
        return ExtraTrees(trees=trees, present=present(support, num_classes))

    def predict(
        weights: ExtraTrees, x: Float[Array, "n features"]
    ) -> Float[Array, "n classes"]:
        p = averaged(weights.trees, x)
        return jnp.where(weights.present, jnp.log(jnp.maximum(p, 1e-6)), ABSENT)

    return Learner(
        name="extra_trees",
        kind="classes",
        space=extra_space(),
        fit=fit,
        predict=predict,
        uneven=True,
    )


def extra_trees_regressor() -> Learner:
    """Extremely randomised oblivious trees for a number."""

    def fit(key: Key, settings: Settings, support: Examples) -> ExtraTrees:
        support = clean(support)
        target = support.y.astype(support.x.dtype)
        mean = jnp.sum(target) / jnp.maximum(jnp.sum(support.mask), 1)
        centred = jnp.where(support.mask, target - mean, 0.0)
        trees = forest(key, settings, support.x, centred[None], support.mask)
        trees = trees._replace(leaf=trees.leaf + mean)
        return ExtraTrees(trees=trees, present=jnp.ones(1, bool))

    def predict(
        weights: ExtraTrees, x: Float[Array, "n features"]
    ) -> Float[Array, " n"]:
        return averaged(weights.trees, x)[:, 0]

    return Learner(
        name="extra_trees_regressor",
        kind="number",
        space=extra_space(),
        fit=fit,
        predict=predict,
        uneven=True,
    )
