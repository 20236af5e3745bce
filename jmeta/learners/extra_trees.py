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
MAX_DEPTH = 8
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
        candidates=integer(1, MAX_CANDIDATES, default=8, log=True),
        smoothing=real(0.03, 30.0, default=1.0, log=True),
        rows=real(0.4, 1.0, default=1.0),
    )


def _tree(
    key: Key,
    settings: Settings,
    x: Float[Array, "n features"],
    targets: Float[Array, "outputs n"],
    weight: Float[Array, " n"],
    low: Float[Array, " features"],
    high: Float[Array, " features"],
) -> Trees:
    """Grow one tree; `targets` are zero where `weight` is."""
    num_outputs, num_rows = targets.shape
    row_key, split_key = jax.random.split(key)
    kept = jax.random.uniform(row_key, (num_rows,), x.dtype) < settings["rows"]
    payload = jnp.concatenate([targets, weight[None]]) * kept
    varies = high > low
    place = jnp.cumsum(varies)
    smoothing, depth = settings["smoothing"], settings["depth"]
    tolerance = 100 * jnp.finfo(x.dtype).eps
    deepest = batch_max(depth)

    def purity(sums: Array) -> Array:
        weight = sums[:, -1]
        return jnp.sum(jnp.square(sums[:, :-1]), axis=1) / jnp.where(
            weight > 0, weight, 1.0
        )

    def level(index: int, leaf: Array, value: Array):
        draws = jax.random.uniform(
            jax.random.fold_in(split_key, index), (MAX_CANDIDATES, 2), x.dtype
        )
        nth = jnp.floor(draws[:, 0] * place[-1]).astype(int) + 1
        feature = jnp.sum(place < nth[:, None], axis=1)
        feature = jnp.minimum(feature, x.shape[1] - 1)
        pick = jax.nn.one_hot(feature, x.shape[1], dtype=x.dtype)
        threshold = low[feature] + draws[:, 1] * (high - low)[feature]
        seen = jnp.einsum("cf,nf->cn", pick, x, precision=jax.lax.Precision.HIGHEST)
        above = (seen > threshold[:, None]).astype(x.dtype)
        num = 2**index
        hot = (leaf == jnp.arange(num)[:, None]).astype(x.dtype)
        stacked = jnp.concatenate([above[None] * payload[:, None], payload[:, None]], 1)
        sums = jnp.einsum(
            "ln,pcn->lpc", hot, stacked, precision=jax.lax.Precision.HIGHEST
        )
        right, total = sums[:, :, :-1], sums[:, :, -1:]
        gain = jnp.sum(purity(right) + purity(total - right), axis=0)
        tried = jnp.arange(MAX_CANDIDATES) < settings["candidates"]
        gain = jnp.where(tried, gain, -jnp.inf)
        best = jnp.max(gain)
        column = jnp.argmax(gain >= best - tolerance * jnp.abs(best))
        parent = jnp.sum(purity(total))
        splits = (index < depth) & (best > parent + tolerance * jnp.abs(parent))
        bit = (jnp.take(above, column, axis=0) > 0) & splits
        chosen = jnp.where(splits, jnp.take(threshold, column), jnp.inf)
        leaf = leaf + bit * num
        picked = jnp.where(splits, jnp.take(right, column, axis=2), 0.0)
        children = jnp.concatenate([total[:, :, 0] - picked, picked])
        above_value = jnp.concatenate([value, value])
        shrunk = (children[:, :-1] + smoothing * above_value) / (
            children[:, -1:] + smoothing
        )
        value = jnp.where(splits, shrunk, above_value)
        here = (jnp.take(feature, column), chosen)
        if index + 1 == MAX_DEPTH:
            return value, (here,)

        def deeper(leaf: Array, value: Array):
            return level(index + 1, leaf, value)

        def stop(leaf: Array, value: Array):
            rest = MAX_DEPTH - index - 1
            return jnp.tile(value, (2**rest, 1)), (
                (jnp.zeros_like(here[0]), jnp.full_like(chosen, jnp.inf)),
            ) * rest

        value, below = jax.lax.cond(deepest > index + 1, deeper, stop, leaf, value)
        return value, (here, *below)

    total = jnp.sum(payload, axis=1)
    root = total[:-1] / jnp.maximum(total[-1], 1)
    value, splits = level(0, jnp.zeros(num_rows, int), root[None])
    features, thresholds = zip(*splits)
    return Trees(jnp.stack(features), jnp.stack(thresholds), value)


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
    weight = mask.astype(x.dtype)

    def one(i: Array) -> Trees:
        return _tree(
            jax.random.fold_in(key, i), settings, x, targets, weight, low, high
        )

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

    return Learner("extra_trees", "classes", extra_space(), fit, predict)


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

    return Learner("extra_trees_regressor", "number", extra_space(), fit, predict)
