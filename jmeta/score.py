"""Scoring: fit and judge many settings on many folds of many tables at once.

`cross_fit` is the engine's inner loop: one learner, all settings, all folds of one
table. `score` adds the task axis, and runs one compiled program per learner and bucket.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta import learners, metrics
from jmeta.base import Learner
from jmeta.tasks import Examples, Folds, Scaling, Table, apply_scaling, fit_scaling
from jmeta.types import Array, Key, Settings, Weights

__all__ = [
    "Candidate",
    "Fitted",
    "cross_fit",
    "fit",
    "group",
    "predict",
    "predict_folds",
    "score",
]


class Candidate(NamedTuple):
    """A model that can be recommended: a learner with its settings.

    Attributes:
      learner: the name it is registered under.
      unit: its settings as a vector in the unit cube; None where the meta-optimizer
        proposes them for each task.
    """

    learner: str
    unit: tuple[float, ...] | None


class Fitted(NamedTuple):
    """A learner fitted to a support, with what turns raw rows into its inputs.

    Attributes:
      weights: the learner's own.
      scaling: of the features.
      centre, scale: of the target; 0 and 1 for classes.
    """

    weights: Weights
    scaling: Scaling
    centre: Array
    scale: Array


def fit(
    learner: Learner,
    key: Key,
    settings: Settings,
    table: Table,
    support: Bool[Array, " n"],
) -> Fitted:
    """Fit one learner with one setting to the support rows of one table.

    Features are imputed and scaled, and a numeric target is standardised, with
    statistics of the support rows alone.
    """
    support = support & table.mask
    scaling = fit_scaling(table.x, table.columns, support)
    x = apply_scaling(scaling, table.x)
    centre, scale = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
    y = table.y
    if learner.kind == learners.NUMBER:
        count = jnp.maximum(jnp.sum(support), 1)
        centre = jnp.sum(jnp.where(support, y, 0.0)) / count
        away = jnp.where(support, y - centre, 0.0)
        largest = jnp.max(jnp.abs(away))
        unit = jnp.where(largest > 0, largest, 1.0)
        scale = unit * jnp.sqrt(jnp.sum(jnp.square(away / unit)) / count)
        scale = jnp.where(scale > 0, scale, 1.0)
        y = (y - centre) / scale
    weights = learner.fit(key, settings, Examples(x=x, y=y, mask=support))
    return Fitted(weights=weights, scaling=scaling, centre=centre, scale=scale)


def predict(
    learner: Learner, fitted: Fitted, x: Float[Array, "m features"]
) -> Float[Array, "m *classes"]:
    """Predict rows as a `Table` holds them: logits, or numbers in the target's unit."""
    out = learner.predict(fitted.weights, apply_scaling(fitted.scaling, x))
    if learner.kind == learners.NUMBER:
        return out * fitted.scale + fitted.centre
    return out


def predict_folds(
    learner: Learner,
    key: Key,
    units: Float[Array, "settings size"],
    table: Table,
    supports: Bool[Array, "folds n"],
) -> Float[Array, "folds settings n *classes"]:
    """Fit every setting on every support, and predict all rows of the table.

    What does not depend on the settings (preparing, binning, distances) is computed
    once a fold.
    """
    settings = learner.space.decode(units)

    def one(support: Array, setting: Settings) -> Array:
        fitted = fit(learner, key, setting, table, support)
        return predict(learner, fitted, table.x)

    over_settings = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(over_settings, in_axes=(0, None))(supports, settings)


@functools.partial(jax.jit, static_argnames=("learner",))
def cross_fit(
    learner: Learner,
    key: Key,
    units: Float[Array, "slots size"],
    num_units: Int[Array, ""],
    table: Table,
    folds: Folds,
) -> tuple[Float[Array, "slots n *classes"], Fitted]:
    """Cross-validate the first `num_units` settings on a table, and fit all rows.

    Every row is predicted by the fold in whose query it is. The fit to all rows is
    one more fold. One compiled program serves any number of settings up to the
    slots, and computes only those, all folds of one at once.

    Args:
      learner: whose settings they are.
      key: for the learners that draw.
      units: settings in the unit cube; the slots beyond `num_units` are padding.
      num_units: how many are real.
      table: one table.
      folds: its splits.

    Returns:
      Out-of-fold probabilities, or numbers: zeros in the slots that are padding and
      in rows that no fold queries. And what is fitted to all rows, each leaf with a
      leading axis of slots, zeros in the padding.
    """
    supports = jnp.concatenate([folds.support, table.mask[None]])

    def one(index: Array | int) -> tuple[Array, Fitted]:
        settings = learner.space.decode(units[index])
        fitted = jax.vmap(lambda support: fit(learner, key, settings, table, support))(
            supports
        )
        split = jax.tree.map(lambda leaf: leaf[:-1], fitted)
        out = jax.vmap(lambda f: predict(learner, f, table.x))(split)
        if learner.kind == learners.CLASSES:
            out = jax.nn.softmax(out)
        query = folds.query if out.ndim == 2 else folds.query[..., None]
        whole = jax.tree.map(lambda leaf: leaf[-1], fitted)
        return jnp.sum(jnp.where(query, out, 0.0), axis=0), whole

    slots = units.shape[0]
    nothing = jax.tree.map(
        lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype),
        jax.eval_shape(one, 0),
    )

    def body(index: Array, done: Any) -> Any:
        return jax.tree.map(lambda a, b: a.at[index].set(b), done, one(index))

    return jax.lax.fori_loop(0, num_units, body, nothing)


@functools.partial(jax.jit, static_argnames=("learner", "chunk"))
def _score_learner(
    learner: Learner, key: Key, units: Array, tables: Table, folds: Folds, chunk: int
) -> Array:
    """Scores `(tasks, settings, folds, scores)` of units `(tasks, settings, size)`."""
    number = jnp.arange(tables.mask.shape[0])

    def one(each: tuple[Array, Array, Table, Folds]) -> Array:
        number, own, table, split = each
        task_key = jax.random.fold_in(key, number)
        out = predict_folds(learner, task_key, own, table, split.support)
        if learner.kind == learners.CLASSES:
            out = jax.nn.softmax(out)
        over_settings = jax.vmap(metrics.score_all, in_axes=(0, None, None))
        scores = jax.vmap(over_settings, in_axes=(0, None, 0))
        return jnp.moveaxis(scores(out, table.y, split.query), 0, 1)

    def all_tasks(units: Array) -> Array:
        return jax.lax.map(one, (number, units, tables, folds), batch_size=chunk)

    if not learner.uneven:
        return all_tasks(units)
    alone = jnp.moveaxis(units, 1, 0)[:, :, None]
    return jnp.moveaxis(jax.lax.map(all_tasks, alone)[:, :, 0], 0, 1)


def group(candidates: Sequence[Candidate]) -> dict[str, list[int]]:
    """The places of each learner's candidates, learners in order of appearance."""
    places: dict[str, list[int]] = {}
    for place, candidate in enumerate(candidates):
        places.setdefault(candidate.learner, []).append(place)
    return places


def score(
    candidates: Sequence[Candidate],
    key: Key,
    tables: Table,
    folds: Folds,
    *,
    num_classes: int | None = None,
    proposals: dict[str, Float[Array, "tasks size"]] | None = None,
    chunk: int | None = None,
) -> Float[Array, "tasks candidates folds scores"]:
    """Cross-validate every candidate on every table, folds as masks.

    Args:
      candidates: what to score; those of one learner share one compiled program.
      key: for the learners that draw; a candidate's draws do not depend on the others.
      tables: a batch with a leading task axis.
      folds: a batch of splits, `(tasks, folds, n)`.
      num_classes: the padded number of classes; None for numbers.
      proposals: by learner, the meta-optimizer's unit vectors, for the candidates
        whose `unit` is None.
      chunk: tables fitted at a time, which bounds memory; None chooses by size.

    Returns:
      The scores in the order of `jmeta.metrics.SCORES`.
    """
    if chunk is None:
        chunk = max(1, min(8, 4096 // tables.mask.shape[1]))
    # Each learner's program ends before the next begins: two at a time can hang on
    # a CPU, for the reason that `jmeta.describe.landmarks` gives.
    columns: dict[int, Array] = {}
    num_tasks = tables.mask.shape[0]
    for name, places in group(candidates).items():
        learner = learners.get(name, num_classes)
        units = [_units(candidates[p], num_tasks, proposals) for p in places]
        scores = _score_learner(
            learner,
            key,
            jnp.stack(units, axis=1).astype(tables.x.dtype),
            tables,
            folds,
            chunk,
        )
        jax.block_until_ready(scores)
        columns |= {p: scores[:, i] for i, p in enumerate(places)}
    return jnp.stack([columns[p] for p in range(len(candidates))], axis=1)


def _units(
    candidate: Candidate, num_tasks: int, proposals: dict[str, Array] | None
) -> Array:
    """A candidate's unit vector on each task, `(tasks, size)`."""
    if candidate.unit is not None:
        unit = jnp.asarray(candidate.unit)
        return jnp.broadcast_to(unit, (num_tasks, unit.size))
    if proposals is None or candidate.learner not in proposals:
        raise ValueError(
            f"score: candidate {candidate.learner!r} has no settings of its own; pass "
            "the meta-optimizer's proposals for it."
        )
    return proposals[candidate.learner]
