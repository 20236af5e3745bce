"""How features are shown as columns: categories, rounding, skew, missing values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.data.prior.draw import between, one_of, whole
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER, PADDING
from jmeta.types import Array, Key

__all__ = ["MOST_LEVELS", "Layout", "discretise", "sample_layout", "show"]

MOST_LEVELS = 8
"""The largest number of values of a categorical or few-valued feature."""


class Layout(NamedTuple):
    """What kind of column each feature becomes, and where it stands.

    Attributes:
      included: which features are part of the table at all.
      levels: the number of values of a few-valued feature, 0 for a continuous one.
      edges: where a standard normal value moves on to the next level, ascending.
      effects: what each level means to the target.
      one_hot: which features are shown as one column a level.
      missing: the share of values that are missing.
      indicated: which features have a column that says what is missing.
      start: the column at which a feature begins.
      end: the column before which it ends.
    """

    included: Bool[Array, " f"]
    levels: Int[Array, " f"]
    edges: Float[Array, "f edges"]
    effects: Float[Array, "f levels"]
    one_hot: Bool[Array, " f"]
    missing: Float[Array, " f"]
    indicated: Bool[Array, " f"]
    start: Int[Array, " f"]
    end: Int[Array, " f"]


def sample_layout(key: Key, features: int) -> Layout:
    """Draw what each of up to `features` features is, and lay them out."""
    table_key, feature_key, effect_key = jax.random.split(key, 3)
    u = jax.random.uniform(table_key, (6,))
    each = jax.random.uniform(feature_key, (features, 8 + MOST_LEVELS))
    width = 2.0 * jnp.exp(u[0] ** 0.6 * jnp.log((features + 0.99) / 2.0))
    # A table is all continuous, all few-valued, or mixed.
    style = one_of(u[1], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5])
    few = each[:, 0] < style
    common = whole(u[2], 2, MOST_LEVELS)
    own = jnp.where(each[:, 1] < 0.3, 2, whole(each[:, 2], 2, MOST_LEVELS))
    levels = jnp.where(few, jnp.where(u[3] < 0.4, common, own), 0)

    ordinal = each[:, 3, None] < 0.6
    effects = jnp.where(
        ordinal,
        jnp.arange(MOST_LEVELS) / jnp.maximum(levels - 1, 1)[:, None] * 3.0 - 1.5,
        jax.random.normal(effect_key, (features, MOST_LEVELS)),
    )
    hot_share = one_of(u[4], [0.0, 0.4, 1.0])
    one_hot = few & (levels > 2) & (each[:, 4] < hot_share)
    # The first feature is always one column wide, so that a table has a column.
    one_hot = one_hot.at[0].set(False)

    missing = (u[5] < 0.25) & (each[:, 5] < 0.4) & ~one_hot
    missing = jnp.where(missing, 0.5 * each[:, 6] ** 2, 0.0).at[0].set(0.0)
    indicated = (missing > 0.0) & (each[:, 7] < 0.9)
    end = jnp.cumsum(jnp.where(one_hot, levels, jnp.where(indicated, 2, 1)))
    start = jnp.concatenate([jnp.zeros(1, end.dtype), end[:-1]])
    return Layout(
        included=end <= jnp.floor(width).astype(int),
        levels=levels,
        edges=_edges(each[:, 8:], levels),
        effects=effects,
        one_hot=one_hot,
        missing=missing,
        indicated=indicated,
        start=start,
        end=end,
    )


def _edges(u: Float[Array, "f shares"], levels: Int[Array, " f"]) -> Array:
    """Normal quantiles that cut each feature into levels of random shares."""
    even = u[:, :1]
    shares = even - (1.0 - even) * jnp.log1p(-u)
    shares = jnp.where(jnp.arange(MOST_LEVELS) < levels[:, None], shares, 0.0)
    total = jnp.maximum(jnp.sum(shares, axis=1, keepdims=True), 1e-6)
    cumulative = jnp.cumsum(shares, axis=1) / total
    inner = jnp.arange(1, MOST_LEVELS) < levels[:, None]
    quantiles = jax.scipy.special.ndtri(jnp.clip(cumulative[:, :-1], 1e-4, 1 - 1e-4))
    return jnp.where(inner, quantiles, jnp.inf)


def _codes(layout: Layout, values: Float[Array, "n f"]) -> Int[Array, "n f"]:
    return jnp.sum(values[:, :, None] > layout.edges, axis=-1)


def discretise(layout: Layout, values: Float[Array, "n f"]) -> Float[Array, "n f"]:
    """What the target may depend on: few-valued features by the effect of a level."""
    codes = _codes(layout, values)
    effect = jnp.take_along_axis(layout.effects, codes.T, axis=1).T
    return jnp.where(layout.levels > 0, effect, values)


def show(
    key: Key, layout: Layout, values: Float[Array, "n f"], mask: Bool[Array, " n"]
) -> tuple[Float[Array, "n f"], Int[Array, " f"]]:
    """The columns that a reader of the table sees, and what each is."""
    warp_key, missing_key = jax.random.split(key)
    codes = _codes(layout, values)
    numbers = jnp.where(layout.levels > 0, codes, _warp(warp_key, values))
    absent = _absent(missing_key, layout.missing, values)

    features = values.shape[1]
    position = jnp.arange(features)
    owner = jnp.sum(layout.end[:, None] <= position, axis=0)
    owner = jnp.minimum(owner, features - 1)
    offset = position - layout.start[owner]
    hot = layout.one_hot[owner]
    said = layout.indicated[owner] & (offset == 1)
    x = jnp.where(
        hot,
        codes[:, owner] == offset,
        jnp.where(
            said,
            absent[:, owner],
            jnp.where(absent[:, owner], jnp.nan, numbers[:, owner]),
        ),
    )
    kinds = jnp.where(hot, CATEGORY, jnp.where(said, INDICATOR, NUMBER))
    there = layout.included[owner] & (position < layout.end[-1])
    kinds = jnp.where(there, kinds, PADDING)
    x = jnp.where(there & mask[:, None], x, 0.0)
    return x, kinds.astype(jnp.int32)


def _warp(key: Key, values: Float[Array, "n f"]) -> Float[Array, "n f"]:
    """Skew, round and rescale continuous features, each in its own way."""
    rows, features = values.shape
    table_key, feature_key, wild_key = jax.random.split(key, 3)
    u = jax.random.uniform(table_key, ())
    each = jax.random.uniform(feature_key, (features, 8))
    clipped = jnp.clip(values, -6.0, 6.0)
    forms = jnp.stack(
        [
            clipped,
            jnp.exp((0.3 + each[:, 0]) * clipped),
            clipped**3,
            jax.nn.sigmoid(1.7 * clipped),
            jnp.maximum(clipped, 0.0),
        ]
    )
    form = whole(each[:, 1], 1, len(forms) - 1)
    form = jnp.where(each[:, 2] < one_of(u, [0.0, 0.3, 0.8]), form, 0)
    warped = jnp.take_along_axis(forms, form[None, None], axis=0)[0]

    wild = jax.random.uniform(wild_key, (rows, features)) < 0.02
    warped = jnp.where((each[:, 3] < 0.1) & wild, warped * 8.0, warped)
    rounded = each[:, 4] < 0.5
    step = 10.0 ** between(each[:, 5], -1.7, 0.0)
    warped = jnp.where(rounded, jnp.round(warped / step), warped)
    scale = jnp.where(rounded, 1.0, 10.0 ** between(each[:, 6], -3.0, 4.0))
    return scale * (warped + whole(each[:, 7], -5, 5))


def _absent(
    key: Key, share: Float[Array, " f"], values: Float[Array, "n f"]
) -> Bool[Array, "n f"]:
    """Which values are missing: at random, or the more often the larger they are."""
    chance_key, slope_key = jax.random.split(key)
    chance = jax.random.uniform(chance_key, values.shape)
    slope = between(jax.random.uniform(slope_key, share.shape), -3.0, 3.0)
    slope = jnp.where(jnp.abs(slope) < 1.5, 0.0, slope)
    return chance < share * 2.0 * jax.nn.sigmoid(slope * values)
