"""Probes: how a learner's loss changes with its settings, by cross-validation.

Landmarks say how well quick learners do; a probe says in which direction their
settings should go: the cross-validated loss at a few settings and its derivative,
taken through the fits. For learners that are solved, a derivative costs about as much
as a fit, and says more about the best settings than a further fit would.

Source of the derivative of cross-validation: Bengio, 2000, Gradient-based optimization
of hyperparameters, https://doi.org/10.1162/089976600300015187.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta import learners, metrics
from jmeta.base import Learner
from jmeta.describe import landmarks
from jmeta.learners.common import active, clean, one_hot
from jmeta.tasks import Examples, Folds, Table, kfold, prepare
from jmeta.types import Array, Key

__all__ = ["MOST_ROWS", "PROBES", "SIZES", "probe", "probe_names", "probes"]

NUM_FOLDS = 3
MOST_ROWS = 256
"""Of larger tables that many rows are drawn."""

PROBES: dict[str, tuple[dict[str, float], ...]] = {
    "logistic": ({"penalty": 0.03}, {"penalty": 2.0}, {"penalty": 60.0}),
    "gaussian_process": ({"lengthscale": 1.0},),
}
"""Where the learners are probed; the other settings are the defaults."""

SIZES = ("log_rows", "log_columns", "log_rows_per_column", "log_classes", "entropy")
"""What is told beside the probes: of all rows, and the target's entropy in nats."""

_SLOPE = 30.0
"""Slopes of 1 / 30 nat over the unit cube are told from none; large are squashed."""


def probe(
    learner: Learner,
    unit: Float[Array, " size"],
    key: Key,
    examples: Examples,
    folds: Folds,
) -> Float[Array, " one_more"]:
    """The cross-validated log loss at some settings and its slopes, squashed.

    Args:
      learner: of classes, differentiable in its settings.
      unit: where, in the unit cube.
      key: of the fits.
      examples: prepared rows.
      folds: of these rows.
    """

    def of_fold(unit: Array, support: Bool[Array, " n"], query: Array) -> Array:
        settings = learner.space.decode(unit)
        logits = landmarks.predicted_by(learner, settings, key, examples, support)
        return metrics.log_loss(jax.nn.softmax(logits), examples.y, query)

    def mean(unit: Array) -> Array:
        over_folds = jax.vmap(of_fold, in_axes=(None, 0, 0))
        return jnp.mean(over_folds(unit, folds.support, folds.query))

    loss, slopes = jax.value_and_grad(mean)(unit)
    return jnp.concatenate([loss[None], jnp.arcsinh(_SLOPE * slopes)])


def probe_names() -> tuple[str, ...]:
    """The names of the numbers of `probes`, in order."""
    out = [*SIZES]
    for name, places in PROBES.items():
        space = learners.get(name, 2).space
        for place in places:
            where = ",".join(f"{k}={v:g}" for k, v in place.items())
            out += [f"{name}({where})_log_loss"]
            out += [f"{name}({where})_slope_{setting}" for setting in space.names]
    return tuple(out)


def probes(
    table: Table,
    key: Key | None = None,
    *,
    num_classes: int,
    num_rows: Int[Array, ""] | None = None,
) -> Float[Array, " numbers"]:
    """Sizes and probes of a classification table: a description for settings.

    Few numbers, and close to what is asked: over the tables of PMLB a network that
    reads these alone chooses better settings than one that reads more. All are finite
    and do not depend on padding.

    Args:
      table: without a task axis; `vmap` for a batch.
      key: decides which rows are drawn and the folds; None means always the same.
      num_classes: the padded number of classes, at least 2.
      num_rows: how many there are, where `table` holds a few of them alone; None for
        those of the table.
    """
    key = jax.random.key(0) if key is None else key
    row_key, fold_key, fit_key = jax.random.split(key, 3)
    x = prepare(table.x, table.columns, table.mask)
    examples = clean(Examples(x=x, y=table.y, mask=table.mask))
    rows = jnp.sum(table.mask) if num_rows is None else num_rows
    sizes = _sizes(examples, rows, num_classes)
    examples = landmarks.some_rows(row_key, examples, MOST_ROWS)
    folds = kfold(fold_key, examples.y, examples.mask, NUM_FOLDS)
    told, last = [], jnp.zeros(())
    for name, places in PROBES.items():
        learner = learners.get(name, num_classes)
        units = jnp.stack([learner.space.encode(place) for place in places])
        # One learner after another, for the reason that `landmarks` gives.
        units = units + jnp.where(last < -1e30, 1.0, 0.0)
        over_places = jax.vmap(probe, in_axes=(None, 0, None, None, None))
        told.append(over_places(learner, units, fit_key, examples, folds).ravel())
        last = told[-1][0]
    out = jnp.concatenate([sizes, *told]).astype(jnp.float32)
    return jnp.where(jnp.isfinite(out), out, 0.0)


def _sizes(examples: Examples, rows: Array, num_classes: int) -> Array:
    count = jnp.sum(one_hot(examples, num_classes), axis=0)
    share = count / jnp.maximum(jnp.sum(count), 1)
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1.0)))
    logs = [
        jnp.log(jnp.maximum(number, 1).astype(share.dtype))
        for number in (rows, jnp.sum(active(examples.x)), jnp.sum(count > 0))
    ]
    return jnp.stack([*logs[:2], logs[0] - logs[1], logs[2], entropy])
