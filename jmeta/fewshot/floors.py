"""What is done today without learning across tasks, to stand beside what is learnt.

A floor sees the support of one task and predicts its query, on the host.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jmeta.data.molecules import NUM_BITS

__all__ = ["Floor", "floors_for", "predict_floor", "shared_entries"]


class Floor(NamedTuple):
    """One way to predict.

    Attributes:
      predict: `(x, y, query, classes) -> scores (m, classes)`, higher for likelier
        classes, or means `(m,)`; `x` and `query` as rows of features.
      sure: whether scores are probabilities.
    """

    predict: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
    sure: bool = True


def _dense(x: np.ndarray) -> np.ndarray:
    """Fingerprints written out, without descriptors: `(n, slots, 2) -> (n, bits)`."""
    out = np.zeros((len(x), NUM_BITS + 1), np.float32)
    rows = np.broadcast_to(np.arange(len(x))[:, None], x.shape[:2])
    np.add.at(out, (rows, x[..., 0].astype(int)), x[..., 1])
    return out[:, :NUM_BITS]


def _features(form: str, x: np.ndarray) -> np.ndarray:
    return _dense(x) if form == "fingerprint" else x.reshape(len(x), -1)


def shared_entries(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tanimoto's similarity of which entries there are, `(n, m)`."""
    a, b = (a > 0).astype(np.float32), (b > 0).astype(np.float32)
    product = a @ b.T
    return product / np.maximum(a.sum(1)[:, None] + b.sum(1) - product, 1.0)


def _closeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minus the Euclidean distance."""
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * a @ b.T
    return -np.sqrt(np.maximum(squared, 0.0))


def _nearest(
    alike: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]:
    """How much nearer the nearest row of each class is than those of all."""

    def predict(
        x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int
    ) -> np.ndarray:
        near = alike(query, x)
        out = np.full((len(query), classes), near.min() - 1.0)
        for label in np.unique(y):
            out[:, label] = near[:, y == label].max(1)
        return out - out.mean(axis=1, keepdims=True)

    return predict


def _neighbours(
    alike: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]:
    """The mean of the five nearest rows."""

    def predict(
        x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int
    ) -> np.ndarray:
        del classes
        order = np.argsort(-alike(query, x), axis=1, kind="stable")[:, :5]
        return y[order].mean(axis=1)

    return predict


def _of_classes(model: object, y: np.ndarray, query: np.ndarray, classes: int):
    """Probabilities from a fitted model of scikit-learn, by class."""
    out = np.zeros((len(query), classes))
    out[:, np.unique(y)] = model.predict_proba(query)  # pyright: ignore
    return out


def _logistic(
    x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int
) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=200).fit(x, y)
    return _of_classes(model, y, query, classes)


def _forest(
    x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int
) -> np.ndarray:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    if classes:
        model = RandomForestClassifier(100, n_jobs=1, random_state=0).fit(x, y)
        return _of_classes(model, y, query, classes)
    return RandomForestRegressor(100, n_jobs=1, random_state=0).fit(x, y).predict(query)


def _ridge(x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int) -> np.ndarray:
    from sklearn.linear_model import Ridge

    del classes
    return Ridge(alpha=1.0).fit(x, y).predict(query)


def _logs(predict: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """On logarithms of one plus counts."""

    def transformed(
        x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int
    ) -> np.ndarray:
        return predict(np.log1p(x), y, np.log1p(query), classes)

    return transformed


def floors_for(form: str, kind: str) -> dict[str, Floor]:
    """By name, what is done with such rows and targets."""
    molecules = form == "fingerprint"
    alike = shared_entries if molecules else _closeness
    near = "tanimoto" if molecules else "nearest"
    scaled = _logs if molecules else lambda predict: predict
    if kind == "number":
        return {
            near: Floor(_neighbours(alike)),
            "ridge": Floor(scaled(_ridge)),
            "forest": Floor(_forest),
        }
    found = {
        near: Floor(_nearest(alike), sure=False),
        "logistic": Floor(scaled(_logistic)),
    }
    # Images have too many pixels for trees to be what anybody would use.
    return found if form == "image" else found | {"forest": Floor(_forest)}


def predict_floor(
    floor: Floor,
    form: str,
    x: np.ndarray,
    y: np.ndarray,
    query: np.ndarray,
    classes: int,
) -> np.ndarray:
    """What a floor says of the query of one task.

    Args:
      floor: of `floors_for`.
      form: of the rows.
      x, y: of the support, without padding.
      query: its rows.
      classes: how many a task has; 0 for numbers.

    Returns:
      Scores `(m, classes)`, or means `(m,)`. A support with one class alone leaves
      nothing to tell apart.
    """
    if classes and len(np.unique(y)) < 2:
        return np.full((len(query), classes), 1.0 / classes)
    return floor.predict(_features(form, x), y, _features(form, query), classes)
