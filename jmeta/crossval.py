"""Cross-validation of a few models on one table, which also fits them to all rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import learners, score
from jmeta.tasks import Folds, Table, kfold
from jmeta.types import Array

__all__ = ["NUM_FOLDS", "cross_folds", "cross_validate"]

NUM_FOLDS = 5
SLOTS = 32
"""Settings of one learner that one call of its compiled program can hold."""


@functools.partial(jax.jit, static_argnames=("num_folds",))
def cross_folds(seed: Array | int, table: Table, num_folds: int = NUM_FOLDS) -> Folds:
    """The folds in which a recommendation cross-validates."""
    return kfold(jax.random.key(seed), table.y, table.mask, num_folds)


def cross_validate(
    models: list[tuple[str, tuple[float, ...]]],
    table: Table,
    num_classes: int,
    folds: Folds,
    seed: int,
) -> tuple[np.ndarray, list[score.Fitted]]:
    """Cross-validate models, each a learner and its unit vector, on some folds.

    Returns:
      Out-of-fold probabilities or numbers `(models, n, ...)`, and each model fitted
      to all rows.
    """
    out: dict[int, Array] = {}
    fitted: dict[int, score.Fitted] = {}
    grouped = score.group([score.Candidate(*model) for model in models])
    for name, places in grouped.items():
        learner = learners.get(name, num_classes)
        for first in range(0, len(places), SLOTS):
            some = places[first : first + SLOTS]
            units = np.zeros((SLOTS, len(learner.space)), np.float32)
            units[: len(some)] = [models[place][1] for place in some]
            predicted, whole = score.cross_fit(
                learner,
                jax.random.key(seed),
                jnp.asarray(units),
                jnp.asarray(len(some)),
                table,
                folds,
            )
            # See `jmeta.score.score` for why.
            jax.block_until_ready(predicted)
            for slot, place in enumerate(some):
                out[place] = predicted[slot]
                fitted[place] = jax.tree.map(lambda leaf, s=slot: leaf[s], whole)
    every = range(len(models))
    return np.stack([np.asarray(out[p]) for p in every]), [fitted[p] for p in every]
