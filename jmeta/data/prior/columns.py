"""How features are shown as columns: categories, rounding, skew, missing values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

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
    edges: Float[Array, "f levels-1"]
    effects: Float[Array, "f levels"]
    one_hot: Bool[Array, " f"]
    missing: Float[Array, " f"]
    indicated: Bool[Array, " f"]
    start: Int[Array, " f"]
    end: Int[Array, " f"]


def sample_layout(key: Key, features: int) -> Layout:
    """Draw what each of up to `features` features is, and lay them out."""
    keys = jax.random.split(key, 12)
    uniform = jax.random.uniform
    width = jnp.exp(uniform(keys[0]) * jnp.log(features - 1.0)) + 1.0
    # A table is all continuous, all few-valued, or mixed.
    style = jax.random.choice(
        keys[1], jnp.array([0.0, 1.0, 0.5]), p=jnp.array([0.4, 0.25, 0.35])
    )
    few = uniform(keys[2], (features,)) < style
    common = jax.random.randint(keys[3], (), 2, MOST_LEVELS + 1)
    own = jax.random.randint(keys[4], (features,), 2, MOST_LEVELS + 1)
    binary = uniform(keys[5], (features,)) < 0.3
    same = uniform(keys[6]) < 0.4
    levels = jnp.where(same, common, jnp.where(binary, 2, own))
    levels = jnp.where(few, levels, 0)

    share_key, effect_key, ordinal_key, hot_key, hot_share_key = jax.random.split(
        keys[7], 5
    )
    edges = _edges(share_key, levels)
    ordinal = uniform(ordinal_key, (features, 1)) < 0.6
    effects = jnp.where(
        ordinal,
        jnp.arange(MOST_LEVELS) / jnp.maximum(levels - 1, 1)[:, None] * 3.0 - 1.5,
        jax.random.normal(effect_key, (features, MOST_LEVELS)),
    )
    hot_share = jax.random.choice(hot_share_key, jnp.array([0.0, 0.4, 1.0]))
    one_hot = few & (levels > 2) & (uniform(hot_key, (features,)) < hot_share)
    # The first feature is always one column wide, so that a table has a column.
    one_hot = one_hot.at[0].set(False)

    some = uniform(keys[8]) < 0.25
    missing = some & (uniform(keys[9], (features,)) < 0.4)
    rate = 0.5 * uniform(keys[10], (features,)) ** 2
    missing = jnp.where(missing & ~one_hot, rate, 0.0).at[0].set(0.0)
    indicated = (missing > 0.0) & (uniform(keys[11], (features,)) < 0.9)
    end = jnp.cumsum(jnp.where(one_hot, levels, jnp.where(indicated, 2, 1)))
    start = jnp.concatenate([jnp.zeros(1, end.dtype), end[:-1]])
    return Layout(
        included=end <= jnp.floor(width).astype(int),
        levels=levels,
        edges=edges,
        effects=effects,
        one_hot=one_hot,
        missing=missing,
        indicated=indicated,
        start=start,
        end=end,
    )


def _edges(key: Key, levels: Int[Array, " f"]) -> Float[Array, "f levels-1"]:
    """Normal quantiles that cut each feature into levels of random shares."""
    even_key, share_key = jax.random.split(key)
    shape = (len(levels), MOST_LEVELS)
    even = jax.random.uniform(even_key, (len(levels), 1))
    shares = even + (1.0 - even) * jax.random.exponential(share_key, shape)
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
    keys = jax.random.split(key, 8)
    uniform = jax.random.uniform
    strength = 0.3 + uniform(keys[0], (features,))
    clipped = jnp.clip(values, -6.0, 6.0)
    forms = jnp.stack(
        [
            clipped,
            jnp.exp(strength * clipped),
            clipped**3,
            jax.scipy.stats.norm.cdf(clipped),
            jnp.maximum(clipped, 0.0),
        ]
    )
    how_many = jax.random.choice(keys[1], jnp.array([0.0, 0.3, 0.8]))
    form = jax.random.randint(keys[2], (features,), 1, len(forms))
    form = jnp.where(uniform(keys[3], (features,)) < how_many, form, 0)
    warped = jnp.take_along_axis(forms, form[None, None], axis=0)[0]

    dirty = uniform(keys[4], (features,)) < 0.1
    wild = uniform(keys[5], (rows, features)) < 0.02
    warped = jnp.where(dirty & wild, warped * 8.0, warped)
    round_key, step_key, scale_key, shift_key = jax.random.split(keys[6], 4)
    step = 10.0 ** (-1.7 + 1.7 * uniform(step_key, (features,)))
    rounded = uniform(round_key, (features,)) < 0.5
    warped = jnp.where(rounded, jnp.round(warped / step), warped)
    scale = 10.0 ** (2.0 * jax.random.normal(scale_key, (features,)))
    scale = jnp.where(rounded, 1.0, jnp.clip(scale, 1e-4, 1e4))
    return scale * (warped + 3.0 * jax.random.normal(shift_key, (features,)).round())


def _absent(
    key: Key, share: Float[Array, " f"], values: Float[Array, "n f"]
) -> Bool[Array, "n f"]:
    """Which values are missing: at random, or the more often the larger they are."""
    chance_key, slope_key, kind_key = jax.random.split(key, 3)
    chance = jax.random.uniform(chance_key, values.shape)
    slope = jax.random.normal(slope_key, share.shape)
    slope = jnp.where(jax.random.uniform(kind_key) < 0.5, slope, 0.0)
    return chance < share * 2.0 * jax.nn.sigmoid(slope * values)
