"""How much each description moved a prediction: Shapley values, by sampled orders.

Descriptions join one after another, from the typical task to the one explained; what
each raised the prediction by, on average over orders, is its effect. In every order
these add up to the difference between both tasks, so they do on average.

Sources: Strumbelj and Kononenko, 2014, https://doi.org/10.1007/s10115-013-0679-x; every
order with its reverse, Mitchell et al., 2022, https://arxiv.org/abs/2104.12199.
"""

import numpy as np
from jaxtyping import Float, Int

__all__ = ["draw_ranks", "effects", "paths", "typical_task", "varying"]


def typical_task(
    descriptions: Float[np.ndarray, "tasks features"],
) -> Float[np.ndarray, " features"]:
    """The median of every description, missing where most tasks miss it."""
    missing = np.isnan(descriptions)
    known = np.where(missing.all(axis=0), 0.0, descriptions)
    return np.where(missing.mean(axis=0) > 0.5, np.nan, np.nanmedian(known, axis=0))


def varying(
    descriptions: Float[np.ndarray, "tasks features"],
) -> Int[np.ndarray, " players"]:
    """Places of the descriptions that differ between tasks; fits ignore the others."""
    first, missing = descriptions[0], np.isnan(descriptions)
    same = (descriptions == first) | (missing & missing[0])
    return np.flatnonzero(~same.all(axis=0))


def draw_ranks(
    num_players: int, num_pairs: int, seed: int
) -> Int[np.ndarray, "orders players"]:
    """When each player joins, in some orders and the reverse of each."""
    ordered = np.tile(np.arange(num_players), (num_pairs, 1))
    ranks = np.random.default_rng(seed).permuted(ordered, axis=1)
    return np.concatenate([ranks, num_players - 1 - ranks])


def paths(
    tasks: Float[np.ndarray, "*batch features"],
    typical: Float[np.ndarray, " features"],
    players: Int[np.ndarray, " players"],
    ranks: Int[np.ndarray, "orders players"],
) -> Float[np.ndarray, "*batch orders steps features"]:
    """Descriptions on the way from the typical task to each task, without both ends."""
    joined = ranks[:, None] < np.arange(1, max(len(players), 1))[:, None]
    shape = *tasks.shape[:-1], *joined.shape[:2], len(typical)
    made = np.broadcast_to(typical, shape).copy()
    own = tasks[..., None, None, players]
    made[..., players] = np.where(joined, own, typical[players])
    return made


def effects(
    values: Float[np.ndarray, "*batch orders places"],
    ranks: Int[np.ndarray, "orders players"],
) -> Float[np.ndarray, "*batch players"]:
    """What each player raised the value by as it joined, on average over the orders.

    Args:
      values: at the typical task, on the way, and at the task itself.
      ranks: as `draw_ranks` gives them.
    """
    raised = np.diff(values, axis=-1)
    ranks = np.broadcast_to(ranks, (*raised.shape[:-1], ranks.shape[1]))
    return np.take_along_axis(raised, ranks, axis=-1).mean(axis=-2)
