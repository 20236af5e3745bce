"""From one table to a recommendation: which model, which settings, how sure.

`recommend` describes the table, asks the meta-model, and with a budget cross-validates
the most promising candidates and shrinks what it sees toward what was expected.
`jmeta.predictor` fits what it recommends.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import choose, explain, learners, metrics
from jmeta.base import Learner
from jmeta.crossval import NUM_FOLDS, cross_folds, cross_validate
from jmeta.describe import describe, names
from jmeta.errors import InputError
from jmeta.metamodel import MetaModel, signs
from jmeta.recommendation import (
    COVERAGE,
    Member,
    Recommendation,
    Trained,
    named,
    num_features,
)
from jmeta.tasks import Table, bucket
from jmeta.types import Array

__all__ = ["describe_table", "recommend"]

EXPLAINED = 10
"""Features that an explanation names."""

TRUST, SOFTNESS, LEAST_WEIGHT = 5.0, 0.05, 0.01
"""Of an ensemble: how many rows the meta-model's expectations are worth, how much
costlier a candidate is expected to be where it counts e times less, and the weight
below which a member is left out."""


_describe = jax.jit(describe, static_argnames=("kind", "num_classes"))


def describe_table(table: Table, kind: str, num_classes: int) -> np.ndarray:
    """The description `(meta,)` of one table; classes are padded to their bucket."""
    padded = bucket(num_classes, "classes")
    return np.asarray(_describe(table, kind=kind, num_classes=padded))


@jax.jit
def _fold_scores(predictions: Array, y: Array, query: Array) -> Array:
    """Scores `(candidates, folds, scores)` of out-of-fold predictions."""
    over_folds = jax.vmap(metrics.score_all, in_axes=(None, None, 0))
    return jax.vmap(over_folds, in_axes=(0, None, None))(predictions, y, query)


@dataclasses.dataclass(frozen=True)
class _Task:
    """One table on its way through a recommendation."""

    model: MetaModel
    table: Table
    num_classes: int
    column: int
    scale: float
    description: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    units: list[tuple[float, ...]]

    @property
    def residuals(self) -> np.ndarray:
        return np.asarray(self.model.params["residuals"])[:, :, self.column]

    @property
    def sign(self) -> float:
        return float(signs(self.model.kind)[self.column])

    @functools.cached_property
    def rows(self) -> int:
        return int(self.table.mask.sum())

    def learner(self, place: int) -> Learner:
        return learners.get(self.model.candidates[place].learner, self.num_classes)

    def in_units(self, cost: float | np.floating) -> float:
        """A cost as a score, as people read it."""
        return float(cost) * self.scale * self.sign

    def readable(self, place: int) -> dict[str, Any]:
        learner = self.learner(place)
        return {
            "model": learner.name,
            "settings": learner.space.readable(self.units[place], self.rows),
        }


def _task(
    model: MetaModel, table: Table, num_classes: int, metric: str, unit: float
) -> _Task:
    description = jnp.asarray(describe_table(table, model.kind, num_classes))[None]
    prediction = model.predict(description)
    proposals = {name: np.asarray(u) for name, u in model.propose(description).items()}
    units = [
        tuple(proposals[c.learner][0].tolist()) if c.unit is None else c.unit
        for c in model.candidates
    ]
    column = model.score_names.index(metric)
    scale = 1.0
    if metric in ("rmse", "mae"):
        scale = _deviation(table) * unit
    return _Task(
        model=model,
        table=table,
        num_classes=num_classes,
        column=column,
        scale=scale,
        description=np.asarray(description[0]),
        mean=np.asarray(prediction.mean[0]),
        std=np.asarray(prediction.std[0]),
        units=units,
    )


def _deviation(table: Table) -> float:
    return float(np.std(np.asarray(table.y)[np.asarray(table.mask)])) or 1.0


def _zero_shot(task: _Task) -> tuple[int, bool, dict[str, float]]:
    """The chosen place, whether that is an abstention, and the expected gain."""
    mean, residuals = task.mean[:, task.column], task.residuals
    reference = task.model.single_best(task.column)
    best = int(np.argmin(mean))
    draws = mean + residuals
    gains = draws[:, reference] - draws[:, best]
    evidence = {
        "expected_gain": float(mean[reference] - mean[best]) * task.scale,
        "probability_of_gain": float(np.mean(gains > 0)) if best != reference else 0.0,
    }
    sure = float(task.model.params["sure"][task.column])
    if best == reference or evidence["probability_of_gain"] < sure:
        return reference, True, evidence
    return best, False, evidence


@jax.jit
def _weights(predictions: Array, y: Array, mask: Array, expected: Array) -> Array:
    """The ensemble's weights; what is expected of a member is worth `TRUST` rows."""
    prior = TRUST * jax.nn.softmax(-expected / SOFTNESS)
    weights = choose.mixture_weights(predictions, y, mask, prior)
    least = jnp.minimum(LEAST_WEIGHT, jnp.max(weights))
    weights = jnp.where(weights < least, 0.0, weights)
    return weights / jnp.sum(weights)


class _Tried(NamedTuple):
    """What cross-validation of a few candidates said."""

    places: list[int]
    posterior: choose.Posterior
    members: tuple[Member, ...]
    trained: Trained


def _tried(task: _Task, budget: int, use_ensemble: bool, seed: int) -> _Tried:
    reference = task.model.single_best(task.column)
    draws = jnp.asarray(task.mean[:, task.column] + task.residuals)
    budget = min(budget, len(task.units))
    places = np.asarray(choose.greedy_portfolio(draws, budget, reference)).tolist()
    folds = cross_folds(seed, task.table)
    tried = [(task.model.candidates[p].learner, task.units[p]) for p in places]
    predictions, fitted = cross_validate(
        tried, task.table, task.num_classes, folds, seed
    )
    y, mask = task.table.y, task.table.mask
    observed = np.asarray(_fold_scores(jnp.asarray(predictions), y, folds.query))
    observed = observed * signs(task.model.kind)
    if task.model.kind == learners.NUMBER:
        observed[:, :, :2] /= _deviation(task.table)

    residuals = task.residuals[:, places]
    believed = choose.shrink(
        jnp.asarray(task.mean[places, task.column]),
        jnp.asarray(np.std(residuals - residuals[:, :1], axis=0)),
        jnp.asarray(observed[:, :, task.column]),
        jnp.ones(len(places), bool),
    )
    if use_ensemble:
        expected = task.mean[places, 0]
        weights = _weights(jnp.asarray(predictions), y, mask, jnp.asarray(expected))
        weights = np.asarray(weights)
    else:
        weights = np.zeros(len(places))
        weights[int(np.argmin(believed.mean))] = 1.0
    chosen = np.flatnonzero(weights)
    return _Tried(
        places=places,
        posterior=believed,
        members=tuple(Member(*tried[i], float(weights[i])) for i in chosen),
        trained=Trained(
            out_of_fold=np.tensordot(weights, predictions, axes=1),
            known=np.asarray(mask),
            fitted=tuple(jax.device_get([fitted[i] for i in chosen])),
        ),
    )


def recommend(
    model: MetaModel,
    table: Table,
    *,
    num_classes: int = 2,
    budget: int = 0,
    metric: str | None = None,
    ensemble: bool | None = None,
    seed: int = 0,
    unit: float = 1.0,
) -> Recommendation:
    """Say which model with which settings to use on a table.

    Args:
      model: the meta-model of the table's kind of target.
      table: padded to its bucket; every row of the mask is labelled.
      num_classes: the number of classes, not padded; not used for a number.
      budget: how many candidates to cross-validate; 0 for none.
      metric: one of `jmeta.metrics.SCORES` of the kind; None for its first.
      ensemble: whether to average the candidates that were tried, which needs a
        budget; None for yes where there is a budget.
      seed: decides folds and draws.
      unit: of a number: what the table's target was divided by, so that errors are
        told in its own unit.

    Raises:
      InputError: if the metric or the budget is not possible.
    """
    metric = metric or model.score_names[0]
    if metric not in model.score_names:
        raise InputError(
            f"recommend: metric must be one of {list(model.score_names)} for a target "
            f"of kind {model.kind!r}, got {metric!r}."
        )
    if budget < 0:
        raise InputError(f"recommend: budget must be at least 0, got {budget}.")
    padded = bucket(num_classes, "classes")
    task = _task(model, table, padded, metric, unit)
    reference = model.single_best(task.column)
    chosen, abstained, evidence = _zero_shot(task)
    tried = None
    if budget:
        use_ensemble = ensemble is None or ensemble
        tried = _tried(task, max(budget, 1), use_ensemble, seed)
        members = tried.members
        place = tried.places[int(np.argmin(tried.posterior.mean))]
        abstained = len(members) == 1 and place == reference
    else:
        place = chosen
        members = (Member(model.candidates[place].learner, task.units[place], 1.0),)
    evidence |= _evidence(task, tried)
    model_name, settings = named(members, task.rows)
    return Recommendation(
        task={
            "rows": task.rows,
            "features": num_features(table),
            "kind": model.kind,
            "classes": num_classes if model.kind == learners.CLASSES else None,
        },
        members=members,
        model=model_name,
        settings=settings,
        expected=_expected(task, place, tried, metric),
        ranking=_ranking(task, tried),
        abstained=abstained,
        single_best=task.readable(reference),
        evidence=evidence,
        explanation=_explanation(task, place, reference),
        meta_model=model.provenance,
        trained=None if tried is None else tried.trained,
    )


def _expected(
    task: _Task, place: int, tried: _Tried | None, metric: str
) -> dict[str, Any]:
    tail = (1.0 - COVERAGE) / 2
    if tried is None:
        value = task.mean[place, task.column]
        low, high = value + np.quantile(task.residuals[:, place], [tail, 1.0 - tail])
    else:
        index = tried.places.index(place)
        value = float(tried.posterior.mean[index])
        reach = 1.645 * float(tried.posterior.std[index])
        low, high = value - reach, value + reach
    ends = sorted(task.in_units(end) for end in (low, high))
    floor = -np.inf if metric == "r2" else 0.0
    top = 1.0 if metric not in ("log_loss", "brier", "rmse", "mae") else np.inf
    value, low, high = np.clip([task.in_units(value), *ends], floor, top).tolist()
    return {"metric": metric, "value": value, "low": low, "high": high}


def _ranking(task: _Task, tried: _Tried | None) -> list[dict[str, Any]]:
    cost = task.mean[:, task.column].copy()
    # Half the distance of quantiles, since a few tasks have enormous errors.
    low, high = np.quantile(task.residuals, [0.16, 0.84], axis=0)
    spread = (high - low) / 2
    std = np.hypot(task.std[:, task.column], spread)
    places = np.arange(len(cost))
    if tried is not None:
        places = np.array(tried.places)
        cost[places] = np.asarray(tried.posterior.mean)
        std[places] = np.asarray(tried.posterior.std)
    ordered = places[np.argsort(cost[places], kind="stable")]
    return [
        task.readable(place)
        | {
            "expected": task.in_units(float(cost[place])),
            "std": float(std[place]) * task.scale,
            "cross_validated": tried is not None,
        }
        for place in ordered.tolist()
    ]


def _evidence(task: _Task, tried: _Tried | None) -> dict[str, Any]:
    far = explain.unusual(task.model, task.description)
    return {
        "meta_training_tasks": task.model.header.get("num_tasks"),
        "candidates": len(task.units),
        "cross_validated": 0 if tried is None else len(tried.places),
        "folds": 0 if tried is None else NUM_FOLDS,
        "unusual": [names(task.model.kind)[i] for i in far],
    }


def _explanation(task: _Task, place: int, reference: int) -> list[dict[str, Any]]:
    """Effects on the lead over the single best, or over the runner-up to it."""
    cost = task.mean[:, task.column].copy()
    cost[place] = np.inf
    other = reference if place != reference else int(np.argmin(cost))
    effects = explain.attributions(
        task.model, task.description, place, other, task.column
    )
    order = np.argsort(-np.abs(effects), kind="stable")[:EXPLAINED]
    return [
        {"feature": names(task.model.kind)[i], "effect": float(effects[i]) * task.scale}
        for i in order.tolist()
    ]
