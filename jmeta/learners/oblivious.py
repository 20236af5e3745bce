"""Oblivious trees as matrix products: cut points, growth, leaves.

All nodes of one level of an oblivious tree share one split, so that a tree of depth d
is d (feature, threshold) pairs and 2^d leaf values, and row i falls into the leaf whose
bits are `x[i, feature] > threshold`. The search for a level's split is one product,
(one-hot leaf * gradient) @ (row > cut), and a forest of searches is a batched one.

Source: Prokhorenkova et al., 2018, https://arxiv.org/abs/1706.09516 (CatBoost), whose
trees these are; the histograms of one child by subtraction as in LightGBM.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Num

from jmeta.sorting import sort
from jmeta.types import Array

__all__ = ["Grown", "Trees", "batch_max", "cut_points", "grow", "leaf_of", "passed"]


class Trees(NamedTuple):
    """Oblivious trees: bit d of a row's leaf is `x[feature[d]] > threshold[d]`.

    Attributes:
      feature: which column each level looks at.
      threshold: in the units of the column; infinite where a level does not split.
      leaf: the value of each leaf.
    """

    feature: Int[Array, "*trees depth"]
    threshold: Float[Array, "*trees depth"]
    leaf: Float[Array, "*trees leaves outputs"]


class Grown(NamedTuple):
    """The structure of one tree and where the rows fell.

    Attributes:
      column: the cut of each level, as an index into features * cuts; -1 for none.
      leaf: the leaf of each row.
    """

    column: Int[Array, " depth"]
    leaf: Int[Array, " n"]


@jax.custom_batching.custom_vmap
def batch_max(value: Array) -> Array:
    """The largest value under all surrounding `vmap`s, the same for each of them.

    Bounds loops and guards branches that only some fits of a batch need, so that
    they stay loops and branches instead of becoming selects. A bound only: results
    must not depend on it.
    """
    return value


@batch_max.def_vmap
def _batch_max_rule(
    axis_size: int, in_batched: list[bool], value: Array
) -> tuple[Array, bool]:
    del axis_size
    return batch_max(jnp.max(value, axis=0) if in_batched[0] else value), False


def cut_points(
    x: Float[Array, "n features"], mask: Bool[Array, " n"], num_cuts: int
) -> Float[Array, "features cuts"]:
    """Cut points between the quantiles of the rows in the mask, ascending.

    A cut lies halfway between two neighbouring values, so that `x > cut` separates
    them; cuts repeat where values do.
    """
    values = sort(jnp.where(mask[:, None], x, jnp.inf))
    count = jnp.sum(mask)
    place = (jnp.arange(1, num_cuts + 1) * count) // (num_cuts + 1)
    last = jnp.maximum(count - 1, 0)
    low = values[jnp.clip(place - 1, 0, last)]
    high = values[jnp.clip(place, 0, last)]
    cuts = low + 0.5 * (high - low)
    return jnp.where(count > 0, cuts, 0.0).T


def passed(
    x: Float[Array, "n features"], cuts: Float[Array, "features cuts"]
) -> Float[Array, "n features*cuts"]:
    """One where a row lies above a cut, else zero: the thermometer code of the rows."""
    above = x[:, :, None] > cuts
    return above.reshape(x.shape[0], -1).astype(x.dtype)


def grow(
    x: Float[Array, "n features"],
    cuts: Float[Array, "features cuts"],
    code: Float[Array, "n features*cuts"],
    payload: Float[Array, "sums n"],
    usable: Bool[Array, " features"],
    depth: Num[Array, ""],
    score: Callable[[Array], Array],
    max_depth: int,
) -> Grown:
    """Grow one oblivious tree, level by level, by the largest total gain.

    Args:
      code: one where a row is on the right of a candidate split, else zero.
      payload: what is summed in each node, gradients and weights; zero in rows that
        do not count.
      usable: which candidates may be chosen.
      depth: how many levels, at most `max_depth`; deeper ones do not split.
      score: `(leaves, sums, columns) -> (leaves, columns)`: how good a node with
        such sums is. A split's gain is the children's score less the parents'.
      max_depth: the static number of levels.

    Returns:
      The chosen candidates and the rows' leaves. A level at which nothing gains has
      no split. Of equally good candidates the first is taken, so that more columns
      behind the others change nothing.
    """
    tolerance = 100 * jnp.finfo(code.dtype).eps
    deepest = batch_max(depth)
    num_cuts = cuts.shape[1]
    usable = jnp.repeat(usable, num_cuts)
    by_feature = x.T

    def sums_right(leaf: Array, first: int, num: int) -> tuple[Array, Array]:
        hot = leaf == jnp.arange(first, first + num)[:, None]
        nodes = jnp.where(hot[:, None, :], payload, 0.0)
        right = jnp.einsum(
            "lpn,nc->lpc", nodes, code, precision=jax.lax.Precision.HIGHEST
        )
        return right, jnp.sum(nodes, axis=-1)

    def level(index: int, leaf: Array, right: Array, total: Array):
        parent = score(total[:, :, None])
        gain = jnp.sum(score(right) + score(total[:, :, None] - right) - parent, axis=0)
        gain = jnp.where(usable & (index < depth), gain, -jnp.inf)
        best = jnp.max(gain)
        enough = tolerance * (1.0 + jnp.abs(jnp.sum(parent)))
        column = jnp.argmax(gain >= best - tolerance * jnp.abs(best))
        splits = best > enough
        seen = jnp.take(by_feature, column // num_cuts, axis=0)
        bit = (seen > jnp.take(cuts.reshape(-1), column)) & splits
        column = jnp.where(splits, column, -1)
        leaf = leaf + bit * 2**index
        if index + 1 == max_depth:
            return leaf, (column,)

        def deeper(leaf: Array, right: Array, total: Array):
            num = 2**index
            new_right, new_total = sums_right(leaf, num, num)
            return level(
                index + 1,
                leaf,
                jnp.concatenate([right - new_right, new_right]),
                jnp.concatenate([total - new_total, new_total]),
            )

        def stop(leaf: Array, right: Array, total: Array):
            return leaf, (jnp.full_like(column, -1),) * (max_depth - index - 1)

        leaf, columns = jax.lax.cond(
            deepest > index + 1, deeper, stop, leaf, right, total
        )
        return leaf, (column, *columns)

    leaf = jnp.zeros(code.shape[0], int)
    leaf, columns = level(0, leaf, *sums_right(leaf, 0, 1))
    return Grown(column=jnp.stack(columns), leaf=leaf)


def leaf_of(
    feature: Int[Array, "*trees depth"],
    threshold: Float[Array, "*trees depth"],
    x: Float[Array, "n features"],
) -> Int[Array, "n *trees"]:
    """The leaf of each row in each tree."""
    above = jnp.take(x, feature, axis=1) > threshold
    return jnp.sum(above * 2 ** jnp.arange(feature.shape[-1]), axis=-1)
