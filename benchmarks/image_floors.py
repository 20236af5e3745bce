"""What needs no training across tasks, to be run on the episodes that judge.

A floor sees one episode: pictures `(n, height, width, channels)` of the support in
[0, 1], their classes, and the query. It says a class for each of the query.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

__all__ = ["FLOORS", "hausdorff", "nearest_by_hausdorff"]


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _nearest(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    return y[cdist(_flat(query), _flat(x)).argmin(axis=1)]


def _logistic(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    model = LogisticRegression(max_iter=200).fit(_flat(x), y)
    return model.predict(_flat(query))


FLOORS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "nearest_pixels": _nearest,
    "logistic_pixels": _logistic,
}
"""All of them, by name."""


def hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    """The modified distance of Hausdorff between sets of points, `(n, 2)` each.

    The mean distance of a point to the nearest of the other set, in the worse of the
    two directions. Both sets are centred beforehand.

    Source: Dubuisson and Jain, 1994, https://doi.org/10.1109/ICPR.1994.576361; as the
    baseline of https://github.com/brendenlake/omniglot.
    """
    apart = cdist(a - a.mean(axis=0), b - b.mean(axis=0))
    return float(max(apart.min(axis=1).mean(), apart.min(axis=0).mean()))


def nearest_by_hausdorff(support: np.ndarray, query: np.ndarray) -> np.ndarray:
    """For each picture `(height, width)` of the query, the nearest of the support.

    Points are the pixels brighter than half.
    """
    points = [np.argwhere(x > 127).astype(float) for x in support]
    asked = [np.argwhere(x > 127).astype(float) for x in query]
    apart = [[hausdorff(item, known) for known in points] for item in asked]
    return np.argmin(apart, axis=1)
