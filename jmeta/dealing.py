"""Which rows, and how many: draws without replacement, and uneven shares."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.types import Array, Key

__all__ = ["distinct", "uneven_counts"]

_UNEVEN = 3.0
"""Deviation of the normal numbers whose softmax deals the rows at imbalance 1."""


def distinct(
    key: Key, size: Int[Array, " ways"], count: int
) -> Int[Array, "count ways"]:
    """The first of a random order of 0, 1, ..., size - 1, for each of the sizes.

    The shuffle of Fisher and Yates, which remembers only what it moved: as long as it
    is deep, whatever the size. What is beyond the size is at least the size.
    """
    draws = jax.random.uniform(key, (count, len(size)))
    steps = jnp.arange(count)[:, None]

    def body(step: Array, kept: tuple[Array, Array, Array]) -> Any:
        places, moved, order = kept

        def lying_at(place: Array) -> Array:
            last = jnp.max(jnp.where(places == place, steps, -1), axis=0)
            there = jnp.take_along_axis(moved, jnp.maximum(last, 0)[None], axis=0)[0]
            return jnp.where(last >= 0, there, place)

        left = jnp.maximum(size - step, 1)
        drawn = jnp.minimum((draws[step] * left).astype(jnp.int32), left - 1)
        place = step.astype(jnp.int32) + drawn
        order = order.at[step].set(lying_at(place))
        moved = moved.at[step].set(lying_at(jnp.full_like(place, step)))
        return places.at[step].set(place), moved, order

    none = jnp.full(draws.shape, -1, jnp.int32)
    return jax.lax.fori_loop(0, count, body, (none, none, none))[2]


def uneven_counts(
    key: Key,
    there: Bool[Array, " ways"],
    room: Int[Array, " ways"],
    total: Int[Array, ""],
    imbalance: float | Float[Array, ""],
    most: int,
) -> Int[Array, " ways"]:
    """How many of `total` rows each class gets: one, and a share of what is left.

    Shares are rounded as seats in a parliament are, by the rule of Webster and
    Sainte-Lague, under which no class gets more than there is room for.
    """
    steep = _UNEVEN * jax.random.normal(key, there.shape)
    steep = jax.nn.softmax(jnp.where(there, steep, -jnp.inf))
    share = (1.0 - imbalance) / jnp.sum(there) + imbalance * steep
    # Above 0, so that what others have no room for is dealt to the smallest share.
    share = jnp.maximum(share, 1e-6)[:, None]
    seat = jnp.arange(most - 1)
    turn = jnp.where(
        there[:, None] & (seat < room[:, None] - 1), (seat + 0.5) / share, jnp.inf
    )
    order = jnp.argsort(turn.ravel(), stable=True)
    rank = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(len(order)))
    dealt = (rank.reshape(turn.shape) < total - jnp.sum(there)) & jnp.isfinite(turn)
    return there + jnp.sum(dealt, axis=1)
