"""The candidates that meta-models choose among: each learner at several settings.

Beside the fixed settings, every learner appears once with the settings that the
meta-optimizer proposes for the task.
"""

import itertools
from typing import Any

import numpy as np

from jmeta import learners
from jmeta.score import Candidate

__all__ = ["candidates_of", "default_candidates"]


def _grid(**options: list[Any]) -> list[dict[str, Any]]:
    return [
        dict(zip(options, values)) for values in itertools.product(*options.values())
    ]


_BOOSTED = [
    {},
    {"rate": 0.05, "depth": 3},
    {"rate": 0.05, "depth": 6, "columns": 0.5, "rows": 0.6},
    {"rate": 0.1, "depth": 1},
    {"rate": 0.1, "depth": 2},
    {"rate": 0.2, "depth": 3, "rounds": 128},
    {"rate": 0.3, "depth": 6, "rounds": 128, "l2": 0.5},
    {"rate": 0.1, "depth": 6, "rounds": 128, "l2": 1.0},
    {"rate": 0.06, "depth": 4, "rounds": 40, "l2": 10.0},
    {"rate": 0.05, "depth": 2, "rounds": 60, "columns": 0.4},
    {"rate": 0.1, "depth": 5, "columns": 0.3, "rows": 0.7},
    {"rate": 0.25, "depth": 4, "rounds": 30},
]
_EXTRA = [
    {},
    {"depth": 8, "candidates": 32, "smoothing": 0.3},
    {"depth": 8, "candidates": 6, "smoothing": 0.3},
    {"depth": 8, "candidates": 2, "smoothing": 1.0},
    {"depth": 5, "candidates": 12, "smoothing": 3.0},
    {"depth": 3, "candidates": 12, "smoothing": 3.0},
    {"depth": 8, "candidates": 32, "smoothing": 0.05},
]
_KERNEL = {"lengthscale": [0.3, 1.0, 3.0], "kernel": ["rbf", "matern52"]}

_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "logistic": _grid(penalty=[0.01, 0.3, 3.0, 30.0, 200.0]),
    "lda": _grid(shrinkage=[0.01, 0.1, 0.4]),
    "qda": _grid(shrinkage=[0.02, 0.3], pooling=[0.0, 0.5]),
    "naive_bayes": _grid(smoothing=[0.001, 0.1, 1.0]),
    "knn": _grid(
        neighbors=[3, 8, 24], weighting=["uniform", "distance"], smoothing=[1.0]
    ),
    "gaussian_process": _grid(amplitude=[0.7, 3.0], **_KERNEL),
    "mlp": _grid(learning_rate=[0.005, 0.02], weight_decay=[0.1, 3.0]),
    "boosted_trees": _BOOSTED,
    "extra_trees": _EXTRA,
    "ridge": _grid(penalty=[0.01, 1.0, 10.0, 100.0, 1000.0]),
    "knn_regressor": _grid(neighbors=[4, 12, 32], weighting=["uniform", "distance"]),
    "gaussian_process_regressor": _grid(noise=[0.02, 0.2, 1.0], **_KERNEL),
    "mlp_regressor": _grid(learning_rate=[0.005, 0.02], weight_decay=[0.1, 3.0]),
    "boosted_trees_regressor": _BOOSTED,
    "extra_trees_regressor": _EXTRA,
}


def candidates_of(
    name: str, settings: list[dict[str, Any]], *, proposed: bool = True
) -> list[Candidate]:
    """One learner at some settings, and with the meta-optimizer's.

    Args:
      name: of a registered learner.
      settings: by name; what is left out takes its default.
      proposed: whether to add the one whose settings are proposed for each task.

    Raises:
      ValueError: if a setting is not in the learner's space.
    """
    space = learners.get(name, 2).space
    units = [np.asarray(space.encode(some)).tolist() for some in settings]
    fixed = [Candidate(learner=name, unit=tuple(unit)) for unit in units]
    return fixed + ([Candidate(learner=name, unit=None)] if proposed else [])


def default_candidates(kind: str) -> tuple[Candidate, ...]:
    """All registered learners of one kind; one of yours enters with its defaults."""
    return tuple(
        candidate
        for name in learners.names(kind)
        for candidate in candidates_of(name, _SETTINGS.get(name, [{}]))
    )
