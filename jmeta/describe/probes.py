"""Probes: what a learner loses at a few settings, by cross-validation on few rows.

Landmarks say how well quick learners do; a probe says in which direction a learner's
settings should go. For learners that are solved it tells the slopes too, the derivative
of the cross-validated loss through the fits, which cost about as much as a fit and say
more than a further fit would.

Source of the derivative of cross-validation: Bengio, 2000, Gradient-based optimization
of hyperparameters, https://doi.org/10.1162/089976600300015187.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta import learners, metrics
from jmeta.base import Learner
from jmeta.describe import landmarks
from jmeta.learners.common import active, clean, one_hot
from jmeta.tasks import Examples, Folds, Table, kfold, prepare
from jmeta.types import Array, Key

__all__ = [
    "MOST_ROWS",
    "PROBES",
    "SIZES",
    "Probed",
    "columns_for",
    "lowest",
    "probe",
    "probe_names",
    "probes",
]

NUM_FOLDS = 3
MOST_ROWS = 256
"""Of larger tables that many rows are drawn."""


class Probed(NamedTuple):
    """Where a learner is probed.

    Attributes:
      places: settings; those that are not named are the defaults.
      slopes: whether its slopes are told too.
      beside: learners whose probes its settings depend on, beside its own.
    """

    places: tuple[dict[str, float | str], ...]
    slopes: bool = False
    beside: tuple[str, ...] = ("logistic",)


PROBES = {
    "logistic": Probed(
        ({"penalty": 0.003}, {"penalty": 0.3}, {"penalty": 60.0}), slopes=True
    ),
    "gaussian_process": Probed(
        (
            {"lengthscale": 1.0},
            {"lengthscale": 0.4, "amplitude": 10.0, "kernel": "matern52"},
            {"lengthscale": 3.0, "amplitude": 10.0, "kernel": "rbf"},
        ),
        slopes=True,
    ),
    "mlp": Probed(
        (
            {"learning_rate": 0.03, "weight_decay": 1.0, "label_smoothing": 0.03},
            {"learning_rate": 0.03, "weight_decay": 0.01, "label_smoothing": 0.0},
            {"learning_rate": 0.003, "weight_decay": 0.1, "label_smoothing": 0.0},
        ),
        beside=("logistic", "gaussian_process"),
    ),
    "boosted_trees": Probed(
        (
            {"rate": 0.3, "depth": 4, "rounds": 128, "l2": 1.0, "columns": 0.8},
            {"rate": 0.3, "depth": 2, "rounds": 50, "l2": 10.0, "columns": 0.8},
        ),
        beside=("logistic", "gaussian_process"),
    ),
}
"""The learners that can be probed, in the order of the description."""

SIZES = ("log_rows", "log_columns", "log_rows_per_column", "log_classes", "entropy")
"""What is told beside the probes: of all rows, and the target's entropy in nats."""

_SLOPE = 30.0
"""Slopes of 1 / 30 nat over the unit cube are told from none; large are squashed."""
_WORST = 5.0
"""Losses are cut here, in nats."""


def probe(
    learner: Learner,
    unit: Float[Array, " size"],
    key: Key,
    examples: Examples,
    folds: Folds,
    *,
    slopes: bool = True,
) -> Float[Array, " numbers"]:
    """The cross-validated log loss at some settings, and its slopes, squashed.

    Args:
      learner: of classes.
      unit: where, in the unit cube.
      key: of the fits.
      examples: prepared rows.
      folds: of these rows.
      slopes: whether they are wanted; the learner must be differentiable then.
    """

    def of_fold(unit: Array, support: Bool[Array, " n"], query: Array) -> Array:
        settings = learner.space.decode(unit)
        logits = landmarks.predicted_by(learner, settings, key, examples, support)
        return metrics.log_loss(jax.nn.softmax(logits), examples.y, query)

    def mean(unit: Array) -> Array:
        over_folds = jax.vmap(of_fold, in_axes=(None, 0, 0))
        return jnp.mean(over_folds(unit, folds.support, folds.query))

    if not slopes:
        return mean(unit)[None]
    loss, slope = jax.value_and_grad(mean)(unit)
    return jnp.concatenate([loss[None], jnp.arcsinh(_SLOPE * slope)])


def _names(name: str) -> list[str]:
    out = []
    for place in PROBES[name].places:
        where = ",".join(
            f"{k}={v if isinstance(v, str) else format(v, 'g')}"
            for k, v in place.items()
        )
        told = ["log_loss"]
        if PROBES[name].slopes:
            told += [f"slope_{one}" for one in learners.get(name, 2).space.names]
        out += [f"{name}({where})_{one}" for one in told]
    return out


def probe_names() -> tuple[str, ...]:
    """The names of the numbers of `probes`, in order."""
    return (*SIZES, *(one for name in PROBES for one in _names(name)))


def columns_for(learner: str) -> tuple[int, ...]:
    """The places in `probes` that a learner's settings depend on, and no others.

    Those of the sizes, of its own probes and of the learners beside it, so that what
    is said of other learners need not be known.
    """
    wanted = {learner, *PROBES[learner].beside}
    seen = {*SIZES, *(one for name in wanted for one in _names(name))}
    return tuple(i for i, one in enumerate(probe_names()) if one in seen)


def probes(
    table: Table,
    key: Key | None = None,
    *,
    num_classes: int,
    num_rows: Int[Array, ""] | None = None,
    of: Sequence[str] = tuple(PROBES),
) -> Float[Array, " numbers"]:
    """Sizes and probes of a classification table: a description for settings.

    Few numbers, and close to what is asked. They do not depend on padding.

    Args:
      table: without a task axis; `vmap` for a batch.
      key: decides which rows are drawn, the folds and the fits; None means always the
        same.
      num_classes: the padded number of classes, at least 2.
      num_rows: how many there are, where `table` holds a few of them alone; None for
        those of the table.
      of: the learners whose settings are wanted. What none of them depends on is not
        computed, and is NaN; all else is finite.
    """
    key = jax.random.key(0) if key is None else key
    row_key, fold_key, fit_key = jax.random.split(key, 3)
    x = prepare(table.x, table.columns, table.mask)
    examples = clean(Examples(x=x, y=table.y, mask=table.mask))
    rows = jnp.sum(table.mask) if num_rows is None else num_rows
    told, last = [_sizes(examples, rows, num_classes)], jnp.zeros(())
    examples = landmarks.some_rows(row_key, examples, MOST_ROWS)
    folds = kfold(fold_key, examples.y, examples.mask, NUM_FOLDS)
    wanted = {name for one in of for name in (one, *PROBES[one].beside)}
    for name, (places, slopes, _) in PROBES.items():
        if name not in wanted:
            told.append(jnp.full(len(_names(name)), jnp.nan))
            continue
        learner = learners.get(name, num_classes)
        units = jnp.stack([learner.space.encode(place) for place in places])
        # One learner after another, for the reason that `landmarks` gives.
        units = units + jnp.where(last < -1e30, 1.0, 0.0)

        def one(
            unit: Array, learner: Learner = learner, slopes: bool = slopes
        ) -> Array:
            found = probe(learner, unit, fit_key, examples, folds, slopes=slopes)
            worst = jnp.zeros_like(found).at[0].set(_WORST)
            found = jnp.where(jnp.isfinite(found), found, worst)
            return found.at[0].min(_WORST)

        found = jax.lax.map(one, units) if learner.uneven else jax.vmap(one)(units)
        told.append(found.ravel())
        last = told[-1][0]
    return jnp.concatenate(told).astype(jnp.float32)


def lowest(told: Float[Array, " numbers"]) -> dict[str, Float[Array, "1"]]:
    """Where the probes put the lowest loss of each learner with one setting.

    In the unit cube: the lowest point of the curve through the losses with the slopes
    that were told, cubic between two places and straight outside.

    Args:
      told: what `probes` gives.
    """
    names, out = probe_names(), {}
    for name, (places, slopes, _) in PROBES.items():
        space = learners.get(name, 2).space
        if len(space) > 1 or not slopes:
            continue
        u = jnp.concatenate([space.encode(place) for place in places])
        first = names.index(_names(name)[0])
        loss, slope = told[first : first + 2 * len(u)].reshape(-1, 2).T
        at = jnp.linspace(0.0, 1.0, 257)
        height = _curve(u, loss, jnp.sinh(slope) / _SLOPE, at)
        out[name] = at[jnp.argmin(height)][None]
    return out


def _curve(u: Array, loss: Array, slope: Array, at: Array) -> Array:
    """The cubic Hermite interpolant; straight beyond the first and the last place."""
    left = jnp.clip(jnp.searchsorted(u, at, side="right") - 1, 0, len(u) - 2)
    width = u[left + 1] - u[left]
    inside = jnp.clip(at, u[0], u[-1])
    s = (inside - u[left]) / width
    height = (
        loss[left] * (1 + 2 * s) * (1 - s) ** 2
        + loss[left + 1] * s**2 * (3 - 2 * s)
        + width * s * (1 - s) * (slope[left] * (1 - s) - slope[left + 1] * s)
    )
    end = jnp.where(at < u[0], slope[0], slope[-1])
    return height + end * (at - inside)


def _sizes(examples: Examples, rows: Array, num_classes: int) -> Array:
    count = jnp.sum(one_hot(examples, num_classes), axis=0)
    share = count / jnp.maximum(jnp.sum(count), 1)
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1.0)))
    logs = [
        jnp.log(jnp.maximum(number, 1).astype(share.dtype))
        for number in (rows, jnp.sum(active(examples.x)), jnp.sum(count > 0))
    ]
    return jnp.stack([*logs[:2], logs[0] - logs[1], logs[2], entropy])
