"""Learners: what can be fitted to one task, each a file of its own.

`get(name, num_classes)` makes one; `register(name, kind, factory)` adds one of yours.
"""

import functools
from collections.abc import Callable

from jmeta.base import Learner

__all__ = ["CLASSES", "NUMBER", "get", "names", "register"]

CLASSES, NUMBER = "classes", "number"
"""The kinds of target: one of some classes, or a number."""

_factories: dict[str, tuple[str, Callable[..., Learner]]] = {}


def register(name: str, kind: str, factory: Callable[..., Learner]) -> None:
    """Add a learner under a name, for scoring, meta-training and recommendation.

    Args:
      name: what it is called in results, files and on the command line.
      kind: `"classes"` or `"number"`.
      factory: `(num_classes) -> Learner` for classes, where `num_classes` is the
        padded number of classes; `() -> Learner` for a number.

    Raises:
      ValueError: if the kind is unknown or the name is taken by another factory.
    """
    if kind not in (CLASSES, NUMBER):
        raise ValueError(
            f'register: kind must be "{CLASSES}" or "{NUMBER}", got {kind!r}.'
        )
    if name in _factories and _factories[name] != (kind, factory):
        raise ValueError(f"register: the name {name!r} is taken; choose another.")
    _factories[name] = (kind, factory)


def names(kind: str) -> list[str]:
    """The names of the registered learners of one kind, in order of registration."""
    return [name for name, (its_kind, _) in _factories.items() if its_kind == kind]


@functools.cache
def _made(name: str, num_classes: int | None) -> Learner:
    kind, factory = _factories[name]
    return factory(num_classes) if kind == CLASSES else factory()


def get(name: str, num_classes: int | None = None) -> Learner:
    """The learner registered under `name`; the same object for the same arguments.

    Args:
      name: one of `names(kind)`.
      num_classes: the padded number of classes; not used for a number.

    Raises:
      ValueError: if no learner has that name, or the number of classes is missing.
    """
    if name not in _factories:
        raise ValueError(
            f"get: no learner is called {name!r}; known are {sorted(_factories)}."
        )
    kind, _ = _factories[name]
    if kind == CLASSES and (num_classes is None or num_classes < 2):
        raise ValueError(
            f"get: {name} needs num_classes of at least 2, got {num_classes}."
        )
    return _made(name, num_classes if kind == CLASSES else None)


from jmeta.learners import (  # noqa: E402
    boosted_trees,
    discriminant,
    extra_trees,
    gaussian_process,
    logistic,
    naive_bayes,
    neighbors,
    perceptron,
    ridge,
)

register("logistic", CLASSES, logistic.logistic)
register("lda", CLASSES, discriminant.lda)
register("qda", CLASSES, discriminant.qda)
register("naive_bayes", CLASSES, naive_bayes.naive_bayes)
register("knn", CLASSES, neighbors.knn)
register("gaussian_process", CLASSES, gaussian_process.gaussian_process)
register("mlp", CLASSES, perceptron.mlp)
register("ridge", NUMBER, ridge.ridge)
register("knn_regressor", NUMBER, neighbors.knn_regressor)
register(
    "gaussian_process_regressor", NUMBER, gaussian_process.gaussian_process_regressor
)
register("mlp_regressor", NUMBER, perceptron.mlp_regressor)
register("boosted_trees", CLASSES, boosted_trees.boosted_trees)
register("extra_trees", CLASSES, extra_trees.extra_trees)
register("boosted_trees_regressor", NUMBER, boosted_trees.boosted_trees_regressor)
register("extra_trees_regressor", NUMBER, extra_trees.extra_trees_regressor)
