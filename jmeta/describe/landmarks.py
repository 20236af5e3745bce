"""Landmarks: how well quick learners do on the table, by cross-validation.

Source of the idea: Pfahringer, Bensusan and Giraud-Carrier, 2000, "Meta-learning by
landmarking various learning algorithms", ICML.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta import learners, metrics
from jmeta.base import Learner
from jmeta.describe.view import View, ratio
from jmeta.tasks import Examples, Folds, kfold
from jmeta.types import Array, Key, Settings

__all__ = [
    "CLASSES",
    "MOST_ROWS",
    "NUMBER",
    "NUM_FOLDS",
    "predicted_by",
    "scores",
    "some_rows",
]

NUM_FOLDS = 3
MOST_ROWS = 512
"""Larger tables are judged on that many of their rows, drawn at random."""

_WORST = 2.0

_TREES = {"rounds": 10.0, "rate": 0.4, "depth": 2.0, "rows": 1.0, "columns": 1.0}
_LEARNERS: dict[str, dict[str, dict[str, float]]] = {
    "classes": {
        "logistic": {},
        "qda": {"shrinkage": 0.5, "pooling": 0.2},
        "naive_bayes": {},
        "knn": {},
        "gaussian_process": {},
        "boosted_trees": _TREES,
    },
    "number": {
        "ridge": {},
        "knn_regressor": {},
        "gaussian_process_regressor": {},
        "boosted_trees_regressor": _TREES,
    },
}

CLASSES = tuple(
    f"{name}_{score}" for name in _LEARNERS["classes"] for score in ("log_loss", "auc")
)
NUMBER = tuple(f"{name}_error" for name in _LEARNERS["number"])


def scores(key: Key, v: View, kind: str, num_classes: int) -> dict[str, Array]:
    """Score each quick learner on predictions of rows that it was not fitted to.

    The log loss is in units of the target's entropy and the error in units of the
    target's deviation, each at most 2; 1 is what knowing only the target's
    distribution achieves. The area under the curve is the mean over classes.
    Features are scaled once, on all rows: that lets nothing through of the target.
    """
    row_key, fold_key, fit_key = jax.random.split(key, 3)
    examples = some_rows(row_key, _examples(v, kind), MOST_ROWS)
    folds = kfold(fold_key, examples.y, examples.mask, NUM_FOLDS)
    values = {}
    last = jnp.zeros(())
    for name, settings in _LEARNERS[kind].items():
        # One learner after another: always false, but the compiler cannot know. Run
        # side by side, their linear algebra waits for threads that wait for it, and
        # the program hangs (XLA on two CPU cores, jaxlib 0.10.2).
        examples = examples._replace(x=jnp.where(last < 0, 0.0, examples.x))
        learner = learners.get(name, num_classes if kind == "classes" else None)
        out = _predicted(learner, settings, fit_key, examples, folds)
        if kind == "classes":
            probs = jax.nn.softmax(out)
            loss = metrics.log_loss(probs, examples.y, examples.mask)
            prior = ratio(jnp.sum(v.target, axis=0), v.rows)
            entropy = -jnp.sum(prior * jnp.log(jnp.where(prior > 0, prior, 1.0)))
            values[f"{name}_log_loss"] = jnp.clip(ratio(loss, entropy), 0.0, _WORST)
            last = values[f"{name}_log_loss"]
            values[f"{name}_auc"] = metrics.auc(probs, examples.y, examples.mask)
        else:
            error = metrics.rmse(out, examples.y, examples.mask)
            last = values[f"{name}_error"] = jnp.clip(error, 0.0, _WORST)
    return values


def _examples(v: View, kind: str) -> Examples:
    y = jnp.argmax(v.target, axis=1) if kind == "classes" else v.target[:, 0]
    # A product with the identity, which is exact, writes the features to memory. Else
    # all that led to them is computed again for every cut point of every fold (XLA on
    # CPU, which drops optimisation barriers before it fuses).
    identity = jnp.eye(v.z.shape[1], dtype=v.z.dtype)
    x = jnp.matmul(v.z, identity, precision=jax.lax.Precision.HIGHEST)
    return Examples(x=x, y=y, mask=v.mask)


def some_rows(key: Key, examples: Examples, most: int) -> Examples:
    """At most so many rows, in the order in which they stand."""
    if len(examples.mask) <= most:
        return examples
    draw = jax.random.uniform(key, examples.mask.shape)
    drawn = jnp.argsort(jnp.where(examples.mask, draw, 2.0))[:most]
    return jax.tree.map(lambda leaf: leaf[jnp.sort(drawn)], examples)


def predicted_by(
    learner: Learner,
    settings: Settings,
    key: Key,
    examples: Examples,
    support: Bool[Array, " n"],
) -> Float[Array, "n *classes"]:
    """All rows' predictions by the fit to some; columns constant on these are zero."""
    kept = jnp.where(support[:, None], examples.x, jnp.nan)
    varies = jnp.nanmax(kept, axis=0) > jnp.nanmin(kept, axis=0)
    x = jnp.where(varies, examples.x, 0.0)
    weights = learner.fit(key, settings, Examples(x=x, y=examples.y, mask=support))
    return learner.predict(weights, x)


def _predicted(
    learner: Learner,
    settings: dict[str, float],
    key: Key,
    examples: Examples,
    folds: Folds,
) -> Float[Array, "n *classes"]:
    """Each row's prediction by the fit that did not see it."""
    decoded = learner.space.decode(learner.space.encode(settings))
    out = jax.vmap(
        lambda support: predicted_by(learner, decoded, key, examples, support)
    )(folds.support)
    fold = jnp.argmax(folds.query, axis=0)
    return jnp.take_along_axis(
        out, fold.reshape((1, -1) + (1,) * (out.ndim - 2)), axis=0
    )[0]
