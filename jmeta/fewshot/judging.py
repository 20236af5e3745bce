"""What a few-shot model is worth on tasks it has not seen, beside what others do.

Means are over tasks, of each the mean over its draws; where episodes draw some of many
classes, over episodes. Beside the model stand its predictions before calibration, a
control whose supports have their targets shuffled, and the floors.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import average_precision_score

from jmeta import metrics
from jmeta.data.collection import Collection, compact
from jmeta.episodes import make_bank
from jmeta.errors import InputError
from jmeta.fewshot.drawing import Draws, Plan, judging_draws, places_of, shuffled
from jmeta.fewshot.floors import Floor, floors_for, predict_floor
from jmeta.fewshot.model import Answer, FewShotModel
from jmeta.fewshot.splits import origins
from jmeta.tasks import Examples
from jmeta.types import Array

__all__ = ["COVERAGES", "METRICS", "MODEL", "judge"]

COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)
"""Shares of the queries that are to be answered, for which errors are told."""

MODEL, PLAIN, CONTROL = "model", "model, not calibrated", "model, supports shuffled"

METRICS = {
    "two": ("dauprc", "auc", "log_loss", "calibration_error"),
    "ways": ("accuracy", "log_loss", "calibration_error"),
    "number": ("r2", "rmse", "coverage"),
}
"""What is told of tasks with two classes, with more, and of numbers."""

_UNSURE = ("log_loss", "calibration_error")
"""What can be told of probabilities alone."""


@jax.jit
def _class_scores(probs: Array, y: Array, mask: Array) -> dict[str, Array]:
    def one(probs: Array, y: Array, mask: Array) -> dict[str, Array]:
        right = (jnp.argmax(probs, axis=1) == y) & mask
        return {
            "auc": metrics.auc(probs, y, mask),
            "accuracy": jnp.sum(right) / jnp.maximum(jnp.sum(mask), 1),
            "log_loss": metrics.log_loss(probs, y, mask),
            "calibration_error": metrics.calibration_error(probs, y, mask),
        }

    return jax.vmap(one)(probs, y, mask)


@jax.jit
def _number_scores(mean: Array, support: Examples, query: Examples) -> dict[str, Array]:
    def one(mean: Array, support: Examples, query: Examples) -> dict[str, Array]:
        count = jnp.maximum(jnp.sum(support.mask), 1)
        usual = jnp.sum(jnp.where(support.mask, support.y, 0.0)) / count
        level = jnp.full_like(mean, usual)
        left = jnp.square(metrics.rmse(mean, query.y, query.mask))
        total = jnp.square(metrics.rmse(level, query.y, query.mask))
        return {
            "r2": 1.0 - left / jnp.maximum(total, 1e-12),
            "rmse": jnp.sqrt(left),
        }

    return jax.vmap(one)(mean, support, query)


@jax.jit
def _by_chance(probs: Array, mask: Array) -> Array:
    """The calibration error of predictions that are calibrated, on as few rows."""

    def one(key: Array, probs: Array, mask: Array) -> Array:
        y = jax.random.categorical(key, jnp.log(probs), axis=-1)
        return metrics.calibration_error(probs, y, mask)

    keys = jax.random.split(jax.random.key(2), (8, len(probs)))
    return jnp.mean(jax.vmap(jax.vmap(one), (0, None, None))(keys, probs, mask), axis=0)


def _scores(
    told: tuple[str, ...], predicted: np.ndarray, draws: Draws
) -> dict[str, np.ndarray]:
    """Of each draw."""
    query = draws.episodes.query
    y, mask = np.asarray(query.y), np.asarray(query.mask)
    if predicted.ndim == 2:
        mean = jnp.asarray(predicted, jnp.float32)
        found = _number_scores(mean, draws.episodes.support, query)
    else:
        probs = jnp.asarray(predicted, jnp.float32)
        found = _class_scores(probs, query.y, query.mask)
    out = {name: np.asarray(values) for name, values in found.items()}
    if "dauprc" in told:
        gains = [
            average_precision_score(y[i][m], predicted[i][m, 1]) - y[i][m].mean()
            for i, m in enumerate(mask)
        ]
        out["dauprc"] = np.array(gains)
    return {name: out[name] for name in told if name in out}


def _answered(
    model: FewShotModel, answer: Answer, draws: Draws
) -> dict[str, dict[str, np.ndarray]]:
    """What abstention at each coverage leaves of each draw: the share of its queries
    that is answered, and the sum of their errors over the number of all queries."""
    query, support = draws.episodes.query, draws.episodes.support
    mask = np.asarray(query.mask)
    confidence = np.asarray(answer.confidence)
    if model.recipe.kind == "classes":
        best = np.argmax(np.asarray(answer.probs), axis=-1)
        loss = (best != np.asarray(query.y)).astype(float)
    else:
        loss = np.square(np.asarray(answer.probs) - np.asarray(query.y))
    out = {}
    for coverage in COVERAGES:
        rows = int(support.mask[0].sum())
        kept = mask & ~model.abstains(confidence, rows, coverage)
        count = mask.sum(axis=1)
        out[str(coverage)] = {
            "answered": kept.sum(axis=1) / count,
            "lost": np.where(kept, loss, 0.0).sum(axis=1) / count,
        }
    return out


def _floor(floor: Floor, form: str, classes: int, draws: Draws) -> np.ndarray:
    """A floor's scores; those of padding are 0."""
    support, query = draws.episodes.support, draws.episodes.query
    x, y, of = (np.asarray(leaf) for leaf in support)
    asked, _, mask = (np.asarray(leaf) for leaf in query)
    out = np.zeros((*mask.shape, classes) if classes else mask.shape)
    for i, m in enumerate(mask):
        out[i, m] = predict_floor(
            floor, form, x[i][of[i]], y[i][of[i]], asked[i][m], classes
        )
    return out


def _told(plan: Plan) -> tuple[str, ...]:
    if plan.kind == "number":
        return METRICS["number"]
    return METRICS["two"] if plan.ways is None else METRICS["ways"]


def _judged(
    model: FewShotModel, form: str, floors: dict[str, Floor], draws: Draws
) -> dict[str, Any]:
    """All that is told of some draws, by method, an array over the draws each."""
    told = _told(model.plan)
    number = model.recipe.kind == "number"
    query = draws.episodes.query
    answer = model.answers(draws.episodes)
    control = model.answers(shuffled(draws).episodes)
    classes = 0 if number else int(np.asarray(answer.probs).shape[-1])
    scores = functools.partial(_scores, told, draws=draws)
    out = {MODEL: scores(np.asarray(answer.probs))}
    if number:
        inside = np.abs(np.asarray(answer.probs - query.y)) <= np.asarray(answer.reach)
        mask = np.asarray(query.mask)
        share = (inside & mask).sum(axis=1) / mask.sum(axis=1)
        out[MODEL]["coverage"] = share
    else:
        chance = _by_chance(answer.probs, query.mask)
        out[MODEL]["calibration_by_chance"] = np.asarray(chance)
        out[PLAIN] = scores(np.asarray(answer.plain))
    out[CONTROL] = scores(np.asarray(control.probs))
    for name, floor in floors.items():
        found = scores(_floor(floor, form, classes, draws))
        if not floor.sure:
            found = {k: v for k, v in found.items() if k not in _UNSURE}
        out[name] = found
    return {"scores": out, "answered": _answered(model, answer, draws)}


def _plain(found: dict[str, Any], at: Any) -> dict[str, Any]:
    """Of one draw, or means over all of them."""
    return jax.tree.map(lambda values: float(np.mean(values[at])), found)


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over tasks, and their standard errors."""
    methods: dict[str, Any] = {}
    for method in rows[0]["scores"]:
        of = [row["scores"][method] for row in rows]
        methods[method] = {
            name: {
                "mean": float(np.mean([one[name] for one in of])),
                "standard_error": float(
                    np.std([one[name] for one in of], ddof=1) / len(of) ** 0.5
                )
                if len(of) > 1
                else None,
            }
            for name in of[0]
        }
    answered = {}
    for coverage in map(str, COVERAGES):
        of = [row["answered"][coverage] for row in rows]
        kept = float(np.mean([one["answered"] for one in of]))
        lost = float(np.mean([one["lost"] for one in of]))
        answered[coverage] = {
            "answered": kept,
            "error": lost / kept if kept > 0 else None,
        }
    return {"tasks": len(rows), "methods": methods, "abstention": answered}


def judge(
    model: FewShotModel,
    data: Collection,
    shots: tuple[int, ...],
    *,
    draws: int,
    floors: bool = True,
    seed: int = 0,
    report: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Judge a model on tasks it was not trained on.

    Args:
      model: that was trained.
      data: tasks of its form.
      shots: sizes of supports.
      draws: of each task and size; where episodes draw some of many classes, episodes
        of each size.
      floors: whether what others do is judged too, which takes most of the time.
      seed: decides the draws.
      report: told `(stage, done, total, numbers)`.

    Returns:
      What JSON can hold: by size of support and method, means and standard errors of
      each metric; what abstention leaves; how many tasks are of families, or classes
      among those, that the model was trained on.

    Raises:
      InputError: if the rows are of another form, or no task is large enough.
    """
    if data.form != model.recipe.form:
        raise InputError(
            f"the model predicts rows of the form {model.recipe.form}, and these are "
            f"of the form {data.form}."
        )
    bank = make_bank(compact(data))
    plan = model.plan
    counts = {shot: len(places_of(plan, bank, shot, 2)) for shot in shots}
    if missing := [shot for shot, count in counts.items() if not count]:
        raise InputError(
            f"none of the {len(data.tasks)} tasks has {missing[0]} rows for a support "
            "and more for a query, or classes enough; choose smaller --shots."
        )
    chosen = floors_for(data.form, plan.kind) if floors else {}
    total = sum(counts.values()) if plan.ways is None else draws * len(shots)
    rows: dict[int, list[dict[str, Any]]] = {shot: [] for shot in shots}
    for drawn in judging_draws(plan, bank, shots, draws, seed):
        found = _judged(model, data.form, chosen, drawn)
        if drawn.task is None:
            episodes = range(len(drawn.episodes.query.mask))
            rows[drawn.shot] += [_plain(found, at) for at in episodes]
        else:
            name = {"task": str(data.tasks[drawn.task])}
            rows[drawn.shot].append(name | _plain(found, slice(None)))
        done = sum(map(len, rows.values()))
        if report is not None:
            report("judging", done, total, {})
    seen = set(model.header.get("origins", ()))
    return {
        "model": {
            "algorithm": model.recipe.algorithm,
            "kind": plan.kind,
            "ways": plan.ways,
        },
        "metrics": list(_told(plan)),
        "draws" if plan.ways is None else "episodes": draws,
        "seed": seed,
        "seen": sum(name in seen for name in origins(data, plan.ways)),
        "shots": {str(shot): _summary(found) for shot, found in rows.items()},
        "tasks": {str(shot): found for shot, found in rows.items()},
    }
