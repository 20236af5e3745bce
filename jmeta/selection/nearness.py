"""How near new tasks are to known ones, and whether anything is known of such tasks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jmeta.data.records import MetaDataset
from jmeta.floors import scaled_quantiles

__all__ = ["Nearness", "nearness", "outside"]

USUAL = 0.95
"""Share of known tasks that are nearer to another family than a far task is."""


class Nearness(NamedTuple):
    """Distances: mean differences in quantiles of the known tasks, in [0, 1].

    Attributes:
      away: from every new task to every known one.
      usual: the largest distance from a known task to the nearest one of another
        family, but for the few that lie far out; infinite with one family only.
    """

    away: Float[np.ndarray, "new tasks"]
    usual: float


def nearness(
    data: MetaDataset,
    descriptions: Float[np.ndarray, "new features"],
    used: Bool[np.ndarray, " features"],
) -> Nearness:
    """Distances in the descriptions that are used; missing ones lie in the middle."""
    from scipy.spatial.distance import cdist  # Slow to import.

    whole = np.concatenate([data.descriptions, descriptions])
    known = np.arange(len(whole)) < len(data.tasks)
    scaled = scaled_quantiles(whole, known)[:, used] / max(used.sum(), 1)
    among = cdist(scaled[known], scaled[known], "cityblock")
    among[data.families[:, None] == data.families] = np.inf
    nearest = among.min(axis=1)
    usual = np.quantile(nearest, USUAL) if np.isfinite(nearest).all() else np.inf
    return Nearness(
        away=cdist(scaled[~known], scaled[known], "cityblock"), usual=float(usual)
    )


def outside(
    data: MetaDataset,
    descriptions: Float[np.ndarray, "new features"],
    used: Bool[np.ndarray, " features"],
) -> Bool[np.ndarray, "new features"]:
    """Which values lie beyond those of all known tasks."""
    low = np.fmin.reduce(data.descriptions, axis=0)
    high = np.fmax.reduce(data.descriptions, axis=0)
    return used & ((descriptions < low) | (descriptions > high))
