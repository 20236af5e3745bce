"""Add a learner of your own, and score it on many tasks in one program.

python examples/own_learner.py
"""

import jax
import jax.numpy as jnp

import jmeta
from jmeta.data.prior import sample_tables
from jmeta.learners.common import ABSENT, one_hot, present
from jmeta.metrics import SCORES
from jmeta.score import score
from jmeta.tasks import kfold


def nearest_mean(num_classes: int) -> jmeta.Learner:
    """Classes by their nearest mean, shrunk toward the mean of all rows."""

    def fit(key, settings, support):
        del key  # Nothing is drawn.
        x = jnp.where(support.mask[:, None], support.x, 0.0)
        hot = one_hot(support, num_classes)
        count = jnp.maximum(hot.sum(0), 1.0)[:, None]
        overall = x.sum(0) / jnp.maximum(support.mask.sum(), 1)
        means = (1 - settings["shrinkage"]) * (hot.T @ x) / count
        return {
            "means": means + settings["shrinkage"] * overall,
            "present": present(support, num_classes),
        }

    def predict(weights, x):
        away = jnp.sum(jnp.square(x[:, None] - weights["means"]), axis=-1)
        return jnp.where(weights["present"], -0.5 * away, ABSENT)

    return jmeta.Learner(
        name="nearest_mean",
        kind="classes",
        space=jmeta.Space(shrinkage=jmeta.real(0.0, 1.0, default=0.1)),
        fit=fit,
        predict=predict,
    )


jmeta.register("nearest_mean", "classes", nearest_mean)

key = jax.random.key(0)
tables = sample_tables(key, 64, rows=128, features=8, num_classes=2)
folds = jax.vmap(kfold, in_axes=(None, 0, 0, None))(key, tables.y, tables.mask, 5)
candidates = [jmeta.Candidate("nearest_mean", (s,)) for s in (0.0, 0.3, 0.6)]
candidates.append(jmeta.Candidate("lda", (0.3,)))
scores = score(candidates, key, tables, folds, num_classes=2)
for candidate, mean in zip(candidates, scores.mean((0, 2))):
    shown = ", ".join(f"{n} {v:.3f}" for n, v in zip(SCORES["classes"], mean))
    print(f"{candidate.learner} {candidate.unit}: {shown}")
