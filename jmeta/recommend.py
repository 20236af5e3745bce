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

from jmeta import choose, explain, learners, metrics, score
from jmeta.base import Learner
from jmeta.describe import describe, names
from jmeta.errors import InputError
from jmeta.metamodel import MetaModel, signs
from jmeta.tasks import PADDING, Folds, Table, bucket, kfold
from jmeta.types import Array

__all__ = [
    "COVERAGE",
    "Member",
    "Recommendation",
    "cross_folds",
    "describe_table",
    "recommend",
]

NUM_FOLDS = 5
SLOTS = 32
"""Settings of one learner that one call of its compiled program can hold."""

EXPLAINED = 10
"""Features that an explanation names."""

COVERAGE = 0.9
"""Of the intervals around an expected score, and around a predicted number."""

TRUST, SOFTNESS, LEAST_WEIGHT = 5.0, 0.05, 0.01
"""Of an ensemble: how many rows the meta-model's expectations are worth, how much
costlier a candidate is expected to be where it counts e times less, and the weight
below which a member is left out."""


class Member(NamedTuple):
    """One model of a recommendation: a learner, its settings, and its weight."""

    learner: str
    unit: tuple[float, ...]
    weight: float


class Trained(NamedTuple):
    """What trying candidates already yields of fitting them.

    Attributes:
      out_of_fold: the members' averaged predictions of the rows.
      known: the rows that are predicted, each by a fit that did not see it.
      fitted: the members, each fitted to all rows.
    """

    out_of_fold: np.ndarray
    known: np.ndarray
    fitted: tuple[score.Fitted, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recommendation:
    """What to use on one task, and why.

    Attributes:
      task: rows, features, kind, classes.
      members: what is fitted; one, or an ensemble whose weights sum to 1.
      model, settings: the one member's, or "ensemble" and its members.
      expected: metric, value, and the ends `low` and `high` of its 90 % interval.
      ranking: candidates, best first: model, settings, expected, std, cross_validated.
      abstained: whether no candidate was surely better than the single best.
      single_best: the candidate that is best on average over the meta-training tasks.
      evidence: what the choice rests on.
      explanation: which parts of the description moved the choice, largest first:
        the effect is in units of the metric, positive where it speaks for the choice.
      meta_model: name, version, trained_on.
      trained: what trying candidates already yields of fitting them; not shown.
    """

    task: dict[str, Any]
    members: tuple[Member, ...]
    model: str
    settings: dict[str, Any]
    expected: dict[str, Any]
    ranking: list[dict[str, Any]]
    abstained: bool
    single_best: dict[str, Any]
    evidence: dict[str, Any]
    explanation: list[dict[str, Any]]
    meta_model: dict[str, Any]
    trained: Trained | None = dataclasses.field(default=None, repr=False)

    def transferred(self, table: Table, num_classes: int) -> "Recommendation":
        """The same models for another table, as cross-validation asks for them."""
        task = self.task | {
            "rows": int(table.mask.sum()),
            "features": _features(table),
            "classes": num_classes if self.task["kind"] == learners.CLASSES else None,
        }
        return dataclasses.replace(self, task=task, trained=None)

    def to_json(self) -> dict[str, Any]:
        """The recommendation as plain data, as `--json` prints it."""
        return {
            "task": self.task,
            "recommendation": {
                "model": self.model,
                "settings": self.settings,
                "expected": self.expected,
            },
            "ranking": self.ranking,
            "abstained": self.abstained,
            "single_best": self.single_best,
            "evidence": self.evidence,
            "explanation": self.explanation,
            "meta_model": self.meta_model,
        }


def _features(table: Table) -> int:
    return int((np.asarray(table.columns) != PADDING).sum())


_describe = jax.jit(describe, static_argnames=("kind", "num_classes"))


def describe_table(table: Table, kind: str, num_classes: int) -> np.ndarray:
    """The description `(meta,)` of one table; classes are padded to their bucket."""
    padded = bucket(num_classes, "classes")
    return np.asarray(_describe(table, kind=kind, num_classes=padded))


@functools.partial(jax.jit, static_argnames=("num_folds",))
def cross_folds(seed: Array | int, table: Table, num_folds: int = NUM_FOLDS) -> Folds:
    """The folds in which a recommendation cross-validates."""
    return kfold(jax.random.key(seed), table.y, table.mask, num_folds)


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
    model_name, settings = _named(members, task.rows)
    return Recommendation(
        task={
            "rows": task.rows,
            "features": _features(table),
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
        meta_model={k: model.header.get(k) for k in ("name", "version", "trained_on")},
        trained=None if tried is None else tried.trained,
    )


def always(model: MetaModel, metric: str | None = None) -> Recommendation:
    """The recommendation of one who has seen no table: the single best candidate."""
    metric = metric or model.score_names[0]
    column = model.score_names.index(metric)
    place = model.single_best(column)
    candidate = model.candidates[place]
    member = Member(candidate.learner, candidate.unit or (), 1.0)
    name, settings = _named((member,), None)
    typical = np.asarray(model.params["typical"])[place, column]
    value = float(typical * signs(model.kind)[column])
    return Recommendation(
        task={"rows": 0, "features": 0, "kind": model.kind, "classes": None},
        members=(member,),
        model=name,
        settings=settings,
        expected={"metric": metric, "value": value, "low": None, "high": None},
        ranking=[],
        abstained=True,
        single_best={"model": name, "settings": settings},
        evidence={},
        explanation=[],
        meta_model={k: model.header.get(k) for k in ("name", "version", "trained_on")},
    )


def _named(
    members: tuple[Member, ...], num_rows: int | None
) -> tuple[str, dict[str, Any]]:
    described = [
        {
            "model": m.learner,
            "settings": learners.get(m.learner, 2).space.readable(m.unit, num_rows),
            "weight": round(m.weight, 4),
        }
        for m in members
    ]
    if len(described) == 1:
        return described[0]["model"], described[0]["settings"]
    ordered = sorted(described, key=lambda member: -member["weight"])
    return "ensemble", {"members": ordered}


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
