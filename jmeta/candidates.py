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
    {"columns": 0.4, "l2": 1.0},
    {"rate": 0.15},
    {"columns": 0.4, "rounds": 50},
    {"depth": 3, "columns": 0.4, "l2": 1.0},
    {"depth": 2, "columns": 0.4, "rate": 0.2},
    {"depth": 2, "rate": 0.06, "rounds": 60},
    {"depth": 1, "rate": 0.1},
    {"depth": 6, "rate": 0.05},
    {"depth": 5, "rate": 0.2, "rounds": 128, "l2": 0.5, "rows": 0.8},
]
_EXTRA = [
    {},
    {"candidates": 4},
    {"candidates": 16, "smoothing": 0.1},
    {"candidates": 8, "rows": 0.6, "smoothing": 0.3},
    {"depth": 5, "candidates": 8},
    {"depth": 3, "candidates": 12},
]
_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "logistic": _grid(penalty=[2.0, 0.02, 0.3, 15.0, 150.0]),
    "lda": _grid(shrinkage=[0.3, 0.03, 0.8]),
    "qda": _grid(shrinkage=[0.3, 0.03], pooling=[0.6, 0.1]),
    "naive_bayes": _grid(smoothing=[1.0, 0.1, 0.001]),
    "knn": _grid(neighbors=[10, 3, 30], weighting=["uniform", "distance"]),
    "gaussian_process": [
        *_grid(lengthscale=[1.0, 0.4, 3.0], amplitude=[4.0, 1.0]),
        {"lengthscale": 1.0, "amplitude": 3.0, "kernel": "rbf"},
    ],
    "mlp": _grid(learning_rate=[0.003, 0.01], weight_decay=[3.0, 0.3]),
    "boosted_trees": _BOOSTED,
    "extra_trees": _EXTRA,
    "ridge": _grid(penalty=[1.0, 0.01, 10.0, 100.0, 1000.0]),
    "knn_regressor": _grid(neighbors=[12, 4, 32], weighting=["uniform", "distance"]),
    "gaussian_process_regressor": [
        *_grid(lengthscale=[1.0, 0.4, 3.0], noise=[0.1, 1.0]),
        {"lengthscale": 1.0, "noise": 0.1, "kernel": "rbf"},
    ],
    "mlp_regressor": _grid(learning_rate=[0.003, 0.01], weight_decay=[3.0, 0.3]),
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
