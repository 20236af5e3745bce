"""Gradient-boosted oblivious trees, for classes and for a number.

Each round grows one tree: for more than two classes its leaves hold one value a
class, so that classes share the structure. Splits are scored by first-order gains
and leaves take a Newton step.

Source: Friedman, 2001, https://doi.org/10.1214/aos/1013203451; trees, scores and
leaves as in Prokhorenkova et al., 2018, https://arxiv.org/abs/1706.09516.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.base import Learner
from jmeta.learners.common import ABSENT, clean, one_hot
from jmeta.learners.oblivious import (
    Trees,
    batch_max,
    cut_points,
    grow,
    leaf_of,
    passed,
)
from jmeta.spaces import Space, integer, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings

__all__ = ["BoostedTrees", "boosted_trees", "boosted_trees_regressor"]

NUM_CUTS = 16
MAX_DEPTH = 6
MAX_ROUNDS = 128
SKETCH = 4
"""Outputs that are looked at when a split is searched; the leaves hold all."""


class BoostedTrees(NamedTuple):
    """A sum of trees.

    Attributes:
      base: the output before the first tree.
      trees: one a round, leaves already scaled by the rate; zero past `rounds`.
      present: which classes the support holds; all of one output for a number.
    """

    base: Float[Array, " outputs"]
    trees: Trees
    present: Bool[Array, " classes"]


def boosted_space() -> Space:
    """The hyperparameters of boosted trees, for classes and numbers alike."""
    return Space(
        rounds=integer(8, MAX_ROUNDS, default=100, log=True),
        rate=real(0.02, 0.5, default=0.1, log=True),
        depth=integer(1, MAX_DEPTH, default=4),
        l2=real(0.1, 30.0, default=3.0, log=True),
        rows=real(0.4, 1.0, default=0.6),
        columns=real(0.2, 1.0, default=0.8),
    )


def _score(l2: Array) -> Callable[[Array], Array]:
    """How good nodes are whose sums are the gradients of each output and a weight."""

    def score(sums: Array) -> Array:
        gradients, weight = sums[:, :-1], sums[:, -1]
        return jnp.sum(jnp.square(gradients), axis=1) / (jnp.maximum(weight, 0) + l2)

    return score


def _sketch(
    key: Key,
    gradient: Float[Array, "outputs n"],
    present: Bool[Array, " outputs"],
) -> Float[Array, "few n"]:
    """The outputs that are present; if they are many, random combinations of them.

    The combinations' squares have the same mean as those of all outputs, and so has
    a split's gain, at the cost of searching with `SKETCH` outputs.

    Source: Iosipoi and Vakhrushev, 2022, https://arxiv.org/abs/2211.12858.
    """
    outputs = gradient.shape[0]
    if outputs <= SKETCH:
        return gradient
    place = jnp.cumsum(present) - 1
    each = present[:, None] & (place[:, None] == jnp.arange(SKETCH))
    signs = jax.random.rademacher(key, (outputs, SKETCH), gradient.dtype)
    few = jnp.sum(present) <= SKETCH
    mix = jnp.where(few, each.astype(gradient.dtype), signs / SKETCH**0.5)
    return jnp.matmul(mix.T, gradient, precision=jax.lax.Precision.HIGHEST)


def boost(
    key: Key,
    settings: Settings,
    x: Float[Array, "n features"],
    mask: Bool[Array, " n"],
    base: Float[Array, " outputs"],
    present: Bool[Array, " outputs"],
    slopes: Callable[[Array], tuple[Array, Array]],
) -> Trees:
    """Add trees that each take a step down the loss whose slopes are given.

    Args:
      key: decides which rows and columns each round sees.
      settings: of `boosted_space`.
      x: features; finite everywhere.
      mask: which rows count.
      base: the output to start from.
      present: which outputs belong to something that the support holds.
      slopes: `(outputs, n) -> (gradient, curvature)`, both `(outputs, n)`.
    """
    num_rows, num_features = x.shape
    num_outputs = base.shape[0]
    settings = {name: jnp.asarray(v, x.dtype) for name, v in settings.items()}
    cuts = cut_points(x, mask, NUM_CUTS)
    code = passed(x, cuts)
    varies = jnp.any((x != 0) & mask[:, None], axis=0)
    score = _score(settings["l2"])

    def body(i: Array, carry: tuple[Array, Array, Array]):
        outputs, columns, leaves = carry
        row_key, column_key = jax.random.split(jax.random.fold_in(key, i))
        kept = mask & (
            jax.random.uniform(row_key, (num_rows,), x.dtype) < settings["rows"]
        )
        draw = jax.random.uniform(column_key, (num_features,), x.dtype)
        lowest = jnp.min(jnp.where(varies, draw, 1.0))
        usable = varies & (draw <= jnp.maximum(settings["columns"], lowest))
        gradient, curvature = slopes(outputs)
        gradient = jnp.where(kept, gradient, 0.0)
        curvature = jnp.where(kept, curvature, 0.0)
        weight = kept.astype(x.dtype)[None]
        seen = _sketch(jax.random.fold_in(column_key, 1), gradient, present)
        grown = grow(
            x,
            cuts,
            code,
            jnp.concatenate([seen, weight]),
            usable,
            settings["depth"],
            score,
            MAX_DEPTH,
        )
        hot = (grown.leaf == jnp.arange(2**MAX_DEPTH)[:, None]).astype(x.dtype)
        total = jnp.einsum(
            "ln,pn->lp",
            hot,
            jnp.concatenate([gradient, curvature]),
            precision=jax.lax.Precision.HIGHEST,
        )
        step = settings["rate"] * (i < settings["rounds"])
        value = (
            -step * total[:, :num_outputs] / (total[:, num_outputs:] + settings["l2"])
        )
        outputs = outputs + jnp.take(value, grown.leaf, axis=0).T
        columns = jax.lax.dynamic_update_index_in_dim(columns, grown.column, i, 0)
        leaves = jax.lax.dynamic_update_index_in_dim(leaves, value, i, 0)
        return outputs, columns, leaves

    _, columns, leaves = jax.lax.fori_loop(
        0,
        batch_max(settings["rounds"]).astype(int),
        body,
        (
            jnp.broadcast_to(base[:, None], (num_outputs, num_rows)),
            jnp.full((MAX_ROUNDS, MAX_DEPTH), -1),
            jnp.zeros((MAX_ROUNDS, 2**MAX_DEPTH, num_outputs), x.dtype),
        ),
    )
    chosen = jnp.maximum(columns, 0)
    return Trees(
        feature=chosen // NUM_CUTS,
        threshold=jnp.where(columns < 0, jnp.inf, cuts.reshape(-1)[chosen]),
        leaf=leaves,
    )


def raw_outputs(
    base: Float[Array, " outputs"], trees: Trees, x: Float[Array, "n features"]
) -> Float[Array, "n outputs"]:
    """The base plus what each tree adds."""
    leaf = leaf_of(trees.feature, trees.threshold, x)
    return base + jnp.sum(trees.leaf[jnp.arange(leaf.shape[1]), leaf], axis=1)


def boosted_trees(num_classes: int) -> Learner:
    """Gradient-boosted oblivious trees for classes, on the log loss.

    Args:
      num_classes: the padded number of classes; two share a single output.
    """

    def fit(key: Key, settings: Settings, support: Examples) -> BoostedTrees:
        support = clean(support)
        hot = one_hot(support, num_classes)
        count = jnp.sum(hot, axis=0)
        present = count > 0
        prior = jnp.log(count + 0.5)
        if num_classes == 2:
            base, target, share = prior[1:] - prior[:1], hot[:, 1:].T, 1.0
        else:
            base, target = jnp.where(present, prior, ABSENT), hot.T
            # Outputs only count up to a constant; so two classes step as one output.
            held = jnp.maximum(jnp.sum(present), 2)
            share = (held - 1) / held

        def slopes(outputs: Array) -> tuple[Array, Array]:
            if num_classes == 2:
                p = jax.nn.sigmoid(outputs)
            else:
                p = jax.nn.softmax(outputs, axis=0)
            return share * (p - target), p * (1 - p)

        trees = boost(
            key, settings, support.x, support.mask, base, present[-len(base) :], slopes
        )
        return BoostedTrees(base=base, trees=trees, present=present)

    def predict(
        weights: BoostedTrees, x: Float[Array, "n features"]
    ) -> Float[Array, "n classes"]:
        logits = raw_outputs(weights.base, weights.trees, x)
        if num_classes == 2:
            logits = logits * jnp.asarray([-0.5, 0.5], logits.dtype)
        return jnp.where(weights.present, logits, ABSENT)

    return Learner(
        name="boosted_trees",
        kind="classes",
        space=boosted_space(),
        fit=fit,
        predict=predict,
        uneven=True,
    )


def boosted_trees_regressor() -> Learner:
    """Gradient-boosted oblivious trees for a number, on the squared error."""

    def fit(key: Key, settings: Settings, support: Examples) -> BoostedTrees:
        support = clean(support)
        target = support.y.astype(support.x.dtype)[None]
        one = jnp.ones(1, bool)
        base = jnp.sum(target, axis=1) / jnp.maximum(jnp.sum(support.mask), 1)

        def slopes(outputs: Array) -> tuple[Array, Array]:
            return outputs - target, jnp.ones_like(outputs)

        trees = boost(key, settings, support.x, support.mask, base, one, slopes)
        return BoostedTrees(base=base, trees=trees, present=one)

    def predict(
        weights: BoostedTrees, x: Float[Array, "n features"]
    ) -> Float[Array, " n"]:
        return raw_outputs(weights.base, weights.trees, x)[:, 0]

    return Learner(
        name="boosted_trees_regressor",
        kind="number",
        space=boosted_space(),
        fit=fit,
        predict=predict,
        uneven=True,
    )
