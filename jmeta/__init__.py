"""jmeta: learning across tasks in JAX.

Which model and which settings to use on a new task, learnt from other tasks and
through the training itself. Names are imported when they are first used, so that
`import jmeta` touches neither JAX nor a device.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmeta.base import InnerLearner, Learner, MetaAlgorithm, Network
    from jmeta.build_estimators import build_with
    from jmeta.errors import InputError
    from jmeta.estimators import MetaClassifierCV, MetaRegressorCV
    from jmeta.learners import register
    from jmeta.metamodel import load
    from jmeta.recommendation import Recommendation
    from jmeta.score import Candidate
    from jmeta.spaces import Space, choice, integer, real
    from jmeta.tasks import Examples, Folds, Table, Task

__version__ = "0.1.0"

_HOME = {
    "Candidate": "score",
    "Examples": "tasks",
    "Folds": "tasks",
    "InnerLearner": "base",
    "InputError": "errors",
    "Learner": "base",
    "MetaAlgorithm": "base",
    "MetaClassifierCV": "estimators",
    "MetaRegressorCV": "estimators",
    "Network": "base",
    "Recommendation": "recommendation",
    "Space": "spaces",
    "Table": "tasks",
    "Task": "tasks",
    "build_with": "build_estimators",
    "choice": "spaces",
    "integer": "spaces",
    "load": "metamodel",
    "real": "spaces",
    "register": "learners",
}

__all__ = [
    "Candidate",
    "Examples",
    "Folds",
    "InnerLearner",
    "InputError",
    "Learner",
    "MetaAlgorithm",
    "MetaClassifierCV",
    "MetaRegressorCV",
    "Network",
    "Recommendation",
    "Space",
    "Table",
    "Task",
    "build_with",
    "choice",
    "integer",
    "load",
    "real",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jmeta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"jmeta.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
