"""The demonstration: a small meta-training, and two real clinical tables.

Held-out rows are scored with models chosen by the meta-model just trained, beside
scikit-learn's defaults and the single best candidate.
"""

import pathlib
import time
from typing import Any

import numpy as np

from jmeta import learners
from jmeta.candidates import default_candidates
from jmeta.data import builtin
from jmeta.estimators import MetaClassifierCV, MetaRegressorCV
from jmeta.metadata import Bucket
from jmeta.plans import Plan, Share
from jmeta.score import Candidate, group

__all__ = ["candidates", "compare", "plans"]


def plans() -> dict[str, Plan]:
    """A meta-training of a minute or two on two cores."""
    bucket = Bucket(256, 16, 2, 64, 192)
    plan = Plan(
        shares=(Share(bucket, 64, 16),),
        num_steps=600,
        optimizer_steps=300,
        through_steps=20,
        batch=16,
    )
    return {learners.CLASSES: plan, learners.NUMBER: plan}


_LEARNERS = {
    learners.CLASSES: (
        "logistic",
        "lda",
        "naive_bayes",
        "knn",
        "gaussian_process",
        "boosted_trees",
    ),
    learners.NUMBER: (
        "ridge",
        "knn_regressor",
        "gaussian_process_regressor",
        "boosted_trees_regressor",
    ),
}


def candidates() -> dict[str, tuple[Candidate, ...]]:
    """Some learners at two settings each, and at the meta-optimizer's proposal."""
    chosen = {}
    for kind, names in _LEARNERS.items():
        every = default_candidates(kind)
        places = [
            place
            for name, members in group(every).items()
            for place in (*members[:-1][:2], members[-1])
            if name in names
        ]
        chosen[kind] = tuple(every[place] for place in places)
    return chosen


def _peers(kind: str) -> dict[str, Any]:
    from sklearn import ensemble, linear_model, neighbors, svm
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == learners.CLASSES:
        return {
            "LogisticRegression": make_pipeline(
                StandardScaler(), linear_model.LogisticRegression()
            ),
            "KNeighbors": make_pipeline(
                StandardScaler(), neighbors.KNeighborsClassifier()
            ),
            "RandomForest": ensemble.RandomForestClassifier(random_state=0),
            "HistGradientBoosting": ensemble.HistGradientBoostingClassifier(),
        }
    return {
        "Ridge": make_pipeline(StandardScaler(), linear_model.Ridge()),
        "SVR": make_pipeline(StandardScaler(), svm.SVR()),
        "RandomForest": ensemble.RandomForestRegressor(random_state=0),
        "HistGradientBoosting": ensemble.HistGradientBoostingRegressor(),
    }


def _judged(model: Any, kind: str, x: Any, y: np.ndarray) -> dict[str, float]:
    from sklearn import metrics

    if kind == learners.CLASSES:
        probabilities = model.predict_proba(x)
        return {
            "log_loss": metrics.log_loss(y, probabilities),
            "auc": metrics.roc_auc_score(y == model.classes_[1], probabilities[:, 1]),
        }
    predicted = model.predict(x)
    return {
        "rmse": float(metrics.root_mean_squared_error(y, predicted)),
        "r2": float(metrics.r2_score(y, predicted)),
    }


def compare(
    models: dict[str, Any], path: pathlib.Path, seed: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Fit and score every method on 70 % / 30 % of each table's rows.

    Args:
      models: meta-models by kind.
      path: where they are saved.
      seed: of the splits and draws.

    Returns:
      One row a table and method; the zero-shot recommendation of each table.
    """
    from sklearn.model_selection import train_test_split

    rows, recommendations = [], {}
    for name in ("breast_cancer", "diabetes"):
        x, y, kind = builtin.load(name)
        classes = kind == learners.CLASSES
        x_fit, x_test, y_fit, y_test = train_test_split(
            x, y, test_size=0.3, random_state=seed, stratify=y if classes else None
        )
        estimator = MetaClassifierCV if classes else MetaRegressorCV
        meta = {"model": str(path), "random_state": seed}
        methods = {
            "jmeta, no tries": estimator(**meta),
            "jmeta, 8 tries": estimator(budget=8, **meta),
            "single best candidate": estimator(budget=1, **meta),
            **_peers(kind),
        }
        for method, model in methods.items():
            begin = time.perf_counter()
            model.fit(x_fit, y_fit)
            scores = _judged(model, kind, x_test, np.asarray(y_test))
            seconds = time.perf_counter() - begin
            rows.append({"table": name, "method": method, **scores, "seconds": seconds})
            if method == "jmeta, no tries":
                recommendations[name] = model.recommendation_.to_json()
    return rows, recommendations
