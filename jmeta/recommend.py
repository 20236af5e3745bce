"""From one table to a recommended, fitted, calibrated model.

`recommend` describes the table, asks the meta-model, and with a budget cross-validates
the most promising candidates and shrinks what it sees toward what was expected. `fit`
trains what was recommended on all rows and calibrates it on out-of-fold predictions.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmeta import choose, learners, metrics, score
from jmeta.algorithms import standardise
from jmeta.base import Learner
from jmeta.describe import describe, names
from jmeta.metamodel import MetaModel, signs
from jmeta.tasks import Folds, Table, bucket, kfold
from jmeta.types import Array

__all__ = ["Member", "Predictor", "Recommendation", "fit", "recommend"]

NUM_FOLDS = 5
SLOTS = 32
"""Settings of one learner that one call of its compiled program can hold."""

COVERAGE = 0.9
"""Of the intervals around an expected score, and around a predicted number."""


class Member(NamedTuple):
    """One model of a recommendation: a learner, its settings, and its weight."""

    learner: str
    unit: tuple[float, ...]
    weight: float


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
    out_of_fold: np.ndarray | None = dataclasses.field(default=None, repr=False)

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


_describe = jax.jit(describe, static_argnames=("kind", "num_classes"))


@functools.partial(jax.jit, static_argnames=("num_folds",))
def _folds(seed: Array, table: Table, num_folds: int) -> Folds:
    return kfold(jax.random.key(seed), table.y, table.mask, num_folds)


@jax.jit
def _fold_scores(predictions: Array, y: Array, query: Array) -> Array:
    """Scores `(candidates, folds, scores)` of out-of-fold predictions."""
    over_folds = jax.vmap(metrics.score_all, in_axes=(None, None, 0))
    return jax.vmap(over_folds, in_axes=(0, None, None))(predictions, y, query)


@jax.jit
def _explain(
    predict: Any, start: Array, end: Array, one: Array, other: Array, column: Array
) -> Array:
    """Integrated gradients of the cost of `other` above that of `one`."""

    def advantage(description: Array) -> Array:
        costs = predict(description)[:, column]
        return costs[other] - costs[one]

    shares = (jnp.arange(64) + 0.5) / 64
    slopes = jax.vmap(lambda t: jax.grad(advantage)(start + t * (end - start)))(shares)
    return (end - start) * slopes.mean(0)


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

    @property
    def rows(self) -> int:
        return int(self.table.mask.sum())

    def learner(self, place: int) -> Learner:
        return learners.get(self.model.candidates[place].learner, self.num_classes)

    def in_units(self, cost: float) -> float:
        """A cost as a score, as people read it."""
        return float(cost) * self.scale * self.sign

    def readable(self, place: int) -> dict[str, Any]:
        learner = self.learner(place)
        return {
            "model": learner.name,
            "settings": learner.space.readable(self.units[place], self.rows),
        }


def _task(model: MetaModel, table: Table, num_classes: int, metric: str) -> _Task:
    description = _describe(table, kind=model.kind, num_classes=num_classes)[None]
    prediction = model.predict(description)
    proposals = {name: np.asarray(u) for name, u in model.propose(description).items()}
    units = [
        tuple(proposals[c.learner][0].tolist()) if c.unit is None else c.unit
        for c in model.candidates
    ]
    column = model.score_names.index(metric)
    scale = 1.0
    if metric in ("rmse", "mae"):
        scale = float(np.std(np.asarray(table.y)[np.asarray(table.mask)])) or 1.0
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


def _cross_validate(
    task: _Task, places: list[int], folds: Folds, seed: int
) -> np.ndarray:
    """Out-of-fold predictions `(places, n, ...)`, one program a learner."""
    out: dict[int, Array] = {}
    grouped = score.group([task.model.candidates[p] for p in places])
    for name, members in grouped.items():
        learner = learners.get(name, task.num_classes)
        size = len(learner.space)
        for first in range(0, len(members), SLOTS):
            some = members[first : first + SLOTS]
            slots = 1 if len(some) == 1 else SLOTS
            units = np.zeros((slots, size), np.float32)
            units[: len(some)] = [task.units[places[m]] for m in some]
            predicted = score.cross_predict(
                learner,
                jax.random.key(seed),
                jnp.asarray(units),
                jnp.asarray(len(some)),
                task.table,
                folds,
                chunk=min(slots, 4),
            )
            out |= {m: predicted[i] for i, m in enumerate(some)}
    return np.stack([np.asarray(out[m]) for m in range(len(places))])


class _Tried(NamedTuple):
    """What cross-validation of a few candidates said."""

    places: list[int]
    posterior: choose.Posterior
    members: tuple[Member, ...]
    out_of_fold: np.ndarray


def _tried(task: _Task, budget: int, use_ensemble: bool, seed: int) -> _Tried:
    reference = task.model.single_best(task.column)
    draws = jnp.asarray(task.mean[:, task.column] + task.residuals)
    budget = min(budget, len(task.units))
    places = np.asarray(choose.greedy_portfolio(draws, budget, reference)).tolist()
    folds = _folds(seed, task.table, NUM_FOLDS)
    predictions = _cross_validate(task, places, folds, seed)
    y, mask = task.table.y, task.table.mask
    observed = np.asarray(_fold_scores(jnp.asarray(predictions), y, folds.query))
    observed = observed * signs(task.model.kind)
    if task.model.kind == learners.NUMBER:
        deviation = float(np.std(np.asarray(y)[np.asarray(mask)])) or 1.0
        observed[:, :, :2] /= deviation

    def posterior(column: int) -> choose.Posterior:
        residuals = np.asarray(task.model.params["residuals"])[:, places, column]
        return choose.shrink(
            jnp.asarray(task.mean[places, column]),
            jnp.asarray(np.std(residuals - residuals[:, :1], axis=0)),
            jnp.asarray(observed[:, :, column]),
            jnp.ones(len(places), bool),
        )

    believed = posterior(task.column)
    weights = np.zeros(len(places))
    weights[int(np.argmin(believed.mean))] = 1.0
    if use_ensemble:
        loss = posterior(0)
        seen, shrunk = observed[:, :, 0].mean(1), np.asarray(loss.mean)
        if task.model.kind == learners.NUMBER:
            # Weights are judged by squared error; the loss is its root.
            seen, shrunk = (
                np.square(seen) * deviation**2,
                np.square(shrunk) * deviation**2,
            )
        weights = np.asarray(
            choose.greedy_weights(
                jnp.asarray(predictions), y, mask, jnp.asarray(shrunk - seen)
            )
        )
    members = tuple(
        Member(task.model.candidates[p].learner, task.units[p], float(w))
        for p, w in zip(places, weights)
        if w > 0
    )
    mixed = np.tensordot(weights, predictions, axes=1)
    return _Tried(places, believed, members, mixed)


def recommend(
    model: MetaModel,
    table: Table,
    *,
    num_classes: int = 2,
    budget: int = 0,
    metric: str | None = None,
    ensemble: bool | None = None,
    seed: int = 0,
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

    Raises:
      ValueError: if the metric or the budget is not possible.
    """
    metric = metric or model.score_names[0]
    if metric not in model.score_names:
        raise ValueError(
            f"recommend: metric must be one of {list(model.score_names)} for a target "
            f"of kind {model.kind!r}, got {metric!r}."
        )
    if budget < 0:
        raise ValueError(f"recommend: budget must be at least 0, got {budget}.")
    padded = bucket(num_classes, "classes")
    task = _task(model, table, padded, metric)
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
    model_name, settings = _named(task, members)
    return Recommendation(
        task={
            "rows": task.rows,
            "features": int((np.asarray(table.columns) != 0).sum()),
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
        out_of_fold=None if tried is None else tried.out_of_fold,
    )


def _named(task: _Task, members: tuple[Member, ...]) -> tuple[str, dict[str, Any]]:
    described = [
        {
            "model": m.learner,
            "settings": learners.get(m.learner, task.num_classes).space.readable(
                m.unit, task.rows
            ),
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
    spread = np.std(task.residuals, axis=0)
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
            "expected": task.in_units(cost[place]),
            "std": float(std[place]) * task.scale,
            "cross_validated": tried is not None,
        }
        for place in ordered.tolist()
    ]


def _evidence(task: _Task, tried: _Tried | None) -> dict[str, Any]:
    scaler = jax.tree.map(
        lambda leaf: leaf[0], task.model.params["classifier"]["scaler"]
    )
    z = np.asarray(standardise(scaler, jnp.asarray(task.description)))
    far = np.flatnonzero(np.abs(z) > 3.0)
    return {
        "meta_training_tasks": task.model.header.get("num_tasks"),
        "candidates": len(task.units),
        "cross_validated": 0 if tried is None else len(tried.places),
        "folds": 0 if tried is None else NUM_FOLDS,
        "unusual": [names(task.model.kind)[i] for i in far],
    }


def _explanation(
    task: _Task, place: int, reference: int, num: int = 10
) -> list[dict[str, Any]]:
    cost = task.mean[:, task.column].copy()
    cost[place] = np.inf
    other = reference if place != reference else int(np.argmin(cost))
    params = task.model.params["classifier"]
    scaler = jax.tree.map(lambda leaf: leaf[0], params["scaler"])
    effects = np.asarray(
        _explain(
            jax.tree_util.Partial(_mean_costs(task.model), params),
            scaler["centre"],
            jnp.asarray(task.description),
            place,
            other,
            task.column,
        )
    )
    order = np.argsort(-np.abs(effects), kind="stable")[:num]
    return [
        {"feature": names(task.model.kind)[i], "effect": float(effects[i]) * task.scale}
        for i in order.tolist()
    ]


@functools.cache
def _mean_costs_of(algorithm: Any) -> Any:
    return lambda params, d: algorithm.predict(params, d).mean(0)


def _mean_costs(model: MetaModel) -> Any:
    return _mean_costs_of(model.algorithm)


_fit = jax.jit(score.fit, static_argnames=("learner",))
_predict = jax.jit(score.predict, static_argnames=("learner",))
_fit_calibration = jax.jit(choose.fit_calibration)
_calibrate = jax.jit(choose.calibrate)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A recommended model, fitted on all rows and calibrated out of fold.

    Attributes:
      kind: `"classes"` or `"number"`.
      num_classes: not padded; 0 for a number.
      features: the width of the table, not padded.
      members: what is averaged.
      fitted: each member's weights, in the same order.
      calibration: of the averaged probabilities; None for a number.
      reach: half the width of a number's 90 % interval; 0 for classes.
    """

    kind: str
    num_classes: int
    features: int
    rows: int
    members: tuple[Member, ...]
    fitted: tuple[score.Fitted, ...]
    calibration: choose.Calibration | None
    reach: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities `(n, classes)`, or numbers `(n,)`, of rows as encoded.

        Args:
          x: `(n, features)` float32, encoded as the table that was fitted.
        """
        width = bucket(self.features, "features")
        limit = max(64, min(4096, 2**26 // bucket(self.rows, "rows")))
        parts = [
            self._predict_some(x[first : first + limit], width)
            for first in range(0, len(x), limit)
        ]
        if not parts:
            return np.zeros((0, self.num_classes) if self.num_classes else (0,))
        return np.concatenate(parts)

    def _predict_some(self, x: np.ndarray, width: int) -> np.ndarray:
        rows = bucket(len(x), "rows")
        padded = np.zeros((rows, width), np.float32)
        padded[: len(x), : x.shape[1]] = x
        classes = bucket(self.num_classes, "classes") if self.num_classes else None
        total = 0.0
        for member, fitted in zip(self.members, self.fitted):
            learner = learners.get(member.learner, classes)
            out = _predict(learner, fitted, jnp.asarray(padded))
            if self.kind == learners.CLASSES:
                out = jax.nn.softmax(out)
            total = total + member.weight * out
        if self.calibration is not None:
            total = _calibrate(self.calibration, total)
        out = np.asarray(total)[: len(x)]
        if self.kind == learners.NUMBER:
            return out
        out = out[:, : self.num_classes].astype(np.float64)
        return out / out.sum(axis=1, keepdims=True)


def fit(
    recommendation: Recommendation,
    table: Table,
    *,
    full: Table | None = None,
    seed: int = 0,
) -> Predictor:
    """Train what was recommended on all rows, and calibrate it.

    Args:
      recommendation: of this table.
      table: what the recommendation was made on; its out-of-fold predictions
        calibrate.
      full: all rows, where `table` is a subsample of them; None for `table`.
      seed: of folds and draws; the recommendation's, or any.
    """
    full = table if full is None else full
    kind = recommendation.task["kind"]
    num_classes = recommendation.task["classes"] or 0
    classes = bucket(num_classes, "classes") if num_classes else None
    key = jax.random.key(seed)
    members = recommendation.members
    fitted = tuple(
        _fit(learner, key, learner.space.decode(jnp.asarray(m.unit)), full, full.mask)
        for m in members
        for learner in [learners.get(m.learner, classes)]
    )
    mixed = recommendation.out_of_fold
    if mixed is None:
        folds = _folds(seed, table, NUM_FOLDS)
        mixed = np.zeros(())
        for member in members:
            learner = learners.get(member.learner, classes)
            units = jnp.asarray([member.unit], jnp.float32)
            one = score.cross_predict(
                learner, key, units, jnp.asarray(1), table, folds, chunk=1
            )
            mixed = mixed + member.weight * np.asarray(one[0])
    calibration, reach = None, 0.0
    if kind == learners.CLASSES:
        calibration = _fit_calibration(jnp.asarray(mixed), table.y, table.mask)
    else:
        mask = np.asarray(table.mask)
        errors = np.sort(np.abs(mixed - np.asarray(table.y))[mask])
        place = int(np.ceil(COVERAGE * (len(errors) + 1))) - 1
        reach = float(errors[min(place, len(errors) - 1)])
    return Predictor(
        kind=kind,
        num_classes=num_classes,
        features=int((np.asarray(table.columns) != 0).sum()),
        rows=int(full.mask.shape[0]),
        members=members,
        fitted=fitted,
        calibration=calibration,
        reach=reach,
    )
