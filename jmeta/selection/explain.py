"""Recommendations for new tasks from a meta-dataset, and what they rest on."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jmeta.data.records import MetaDataset
from jmeta.evaluation import by_regret, objective
from jmeta.selection.answers import Answers, Report, answers
from jmeta.selection.attribution import varying
from jmeta.selection.nearness import Nearness, nearness, outside
from jmeta.selection.selector import feature_sets

__all__ = ["advise", "unit_of"]

NEAREST = 3
"""Of how many families the nearest task is told."""

ENDS, ENOUGH = (0.05, 0.95), 19


class _Scale(NamedTuple):
    """How costs are told: `sign` turns them into scores, if higher was better."""

    unit: str
    sign: int
    low: float
    high: float


def unit_of(data: MetaDataset) -> str:
    """What costs are told in: "regret", "PAR10 seconds", or the metric's name."""
    if by_regret(data):
        return "regret"
    return data.metric.name if data.metric.cutoff is None else "PAR10 seconds"


def _scale_of(data: MetaDataset) -> _Scale:
    if by_regret(data):
        return _Scale(unit_of(data), 1, 0.0, 1.0)
    if data.metric.cutoff is not None:
        return _Scale(unit_of(data), 1, 0.0, 10 * data.metric.cutoff)
    sign = -1 if data.metric.maximize else 1
    return _Scale(unit_of(data), sign, -math.inf, math.inf)


def _told(scale: _Scale, value: float, errors: np.ndarray) -> dict[str, float]:
    """An expected cost with the interval that errors made before leave it.

    As many of those errors as there are, and one more, make the ends: so that they
    hold for the next one. Fewer than `ENOUGH` of them say nothing about the ends.
    """
    low, high = -math.inf, math.inf
    if len(errors) >= ENOUGH:
        low, high = np.quantile(value + errors, ENDS, method="weibull")
    ends = np.clip([value, low, high], scale.low, scale.high) * scale.sign
    return {
        "value": float(ends[0]),
        "low": float(ends[1:].min()),
        "high": float(ends[1:].max()),
    }


def _chance(ahead: float, errors: np.ndarray) -> float | None:
    """How probably the choice costs less than the single best, ties counting half.

    Args:
      ahead: its expected lead.
      errors: `(tasks, 2)` of both, made on the same tasks; NaN where one did not run.
    """
    leads = ahead + errors[:, 1] - errors[:, 0]
    leads = leads[~np.isnan(leads)]
    if not len(leads):
        return None
    return float(np.mean((leads > 0) + 0.5 * (leads == 0)))


class _Known(NamedTuple):
    """What is known of the old tasks, for all that is told of a new one.

    Attributes:
      costs: `(tasks, candidates)`, NaN where not run.
      errors: the same: of what was expected.
      at_choice: `(tasks,)` errors of what was chosen there.
      used: which descriptions are used.
    """

    costs: np.ndarray
    errors: np.ndarray
    at_choice: np.ndarray
    used: np.ndarray


def _known(data: MetaDataset, found: Answers) -> _Known:
    errors = np.where(np.isfinite(data.costs), found.errors, np.nan)
    at_choice = errors[np.arange(len(errors)), found.chosen]
    used = found.usable & (not found.abstained)
    used[np.setdiff1d(np.arange(len(used)), varying(data.descriptions))] = False
    return _Known(objective(data), errors, at_choice[~np.isnan(at_choice)], used)


def _neighbors(
    data: MetaDataset, scale: _Scale, known: _Known, away: np.ndarray, cast: list[int]
) -> list[dict[str, Any]]:
    """The nearest task of each of the nearest families, and what was best there.

    Args:
      away: from the new task to each known one.
      cast: places of the choice and of the single best.
    """
    order = np.argsort(away, kind="stable")
    _, first = np.unique(data.families[order], return_index=True)
    rows = []
    for place in order[np.sort(first)[:NEAREST]].tolist():
        mates = np.flatnonzero(data.families == data.families[place])
        best = int(np.nanargmin(known.costs[place]))
        choice, single, lowest = known.costs[place, [*cast, best]] * scale.sign
        rows.append(
            {
                "task": data.tasks[place],
                "distance": float(away[place]),
                "family": [data.tasks[m] for m in mates.tolist() if m != place],
                "best": data.candidates[best],
                "cost": {
                    "choice": float(choice),
                    "single_best": float(single),
                    "best": float(lowest),
                },
            }
        )
    return rows


def _reasons(
    data: MetaDataset, known: _Known, values: np.ndarray, effects: np.ndarray
) -> list[dict[str, Any]]:
    """Descriptions that are used, by the size of their effect."""
    places = np.flatnonzero(known.used)
    return [
        {
            "description": data.features[place],
            "value": float(values[place]),
            "effect": float(effects[place]),
        }
        for place in places[np.argsort(-np.abs(effects[places]), kind="stable")]
    ]


def _settings(data: MetaDataset, place: int) -> dict[str, Any]:
    """Those that the candidate has."""
    if data.settings is None:
        return {}
    row = data.settings.iloc[place].to_dict()
    return {str(name): value for name, value in row.items() if value is not None}


def _advice(
    data: MetaDataset,
    name: str,
    values: np.ndarray,
    found: Answers,
    row: int,
    known: _Known,
    near: Nearness,
) -> dict[str, Any]:
    """All that is told of one new task."""
    scale, names = _scale_of(data), data.candidates
    choice, single = int(found.order[row, 0]), int(found.reference)
    seconds = float(found.seconds[row])
    charge = 0.0 if data.metric.cutoff is None else seconds
    expected, errors = found.expected[row], known.errors
    alone = errors[:, single][~np.isnan(errors[:, single])]
    ahead = float(expected[single] - expected[choice]) - charge
    away = near.away[row]
    beyond = outside(data, values[None], known.used)[0]
    return {
        "task": name,
        "choice": names[choice],
        "settings": _settings(data, choice),
        "set": [names[place] for place in found.order[row].tolist()],
        "expected": {
            "choice": _told(scale, float(expected[choice]) + charge, known.at_choice),
            "single_best": _told(scale, float(expected[single]), alone),
        },
        "probability_better": (
            None if choice == single else _chance(ahead, errors[:, [choice, single]])
        ),
        "compared_with": names[int(found.other[row])],
        "lead": float(found.lead[row]),
        "lead_on_typical_task": float(found.typical[row]),
        "attributions": _reasons(data, known, values, found.effects[row]),
        "nearest": _neighbors(data, scale, known, away, [choice, single]),
        "distance": float(away.min()),
        "far": bool(away.min() > near.usual),
        "outside": [data.features[place] for place in np.flatnonzero(beyond)],
    }


def _steps(data: MetaDataset, found: Answers) -> list[dict[str, Any]]:
    """The steps that are computed, and their mean seconds."""
    if found.abstained:
        return []
    sets = feature_sets(data)
    taken = next(one for one in sets if (one.usable == found.usable).all())
    seconds = data.group_costs.mean(axis=0)
    return [
        {"step": data.groups[place].name, "seconds": float(seconds[place])}
        for place in taken.steps
    ]


def advise(
    data: MetaDataset,
    names: Sequence[str],
    descriptions: Float[np.ndarray, "new features"],
    *,
    size: int = 5,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, Any]:
    """Choose candidates for new tasks, and say why and how surely, as plain data.

    The fit learns from all known tasks. Expected costs come with the interval (5 to
    95 %) that errors on known tasks leave, each made without having learnt from the
    task's family: of the choice by what was chosen there, of the single best by the
    single best's. Where costs are runtimes, the choice's include the descriptions'.

    Attributions are in units of the lead: what the choice is expected to cost less
    than the single best, or where that is the choice than the runner-up. They add up
    to the lead on this task less the lead on the typical one, which has the median of
    every description; a fit that abstained uses none and gives none.

    Args:
      data: the meta-dataset.
      names: of the new tasks, at least one.
      descriptions: of the new tasks, NaN where missing.
      size: of the sets to try; all candidates if there are fewer.
      seed: decides the fit's draws and the orders of the attributions.
      report: told how far it is.

    Returns:
      Of the fit `name`, `unit`, `higher_is_better`, sizes, `single_best`, whether it
      `abstained`, its `gain` over the single best on known tasks with the `error` of
      that, the `descriptions` it uses with the `seconds` of their steps, and the
      `usual_distance` beyond which a task is `far`; then a record for each of `tasks`.

    Raises:
      ValueError: if there is no new task, or shapes do not fit.
    """
    if not len(names) or descriptions.shape != (len(names), len(data.features)):
        raise ValueError(
            f"advise: {len(names)} names and descriptions of shape "
            f"{descriptions.shape} do not fit; give a row for each of at least one "
            f"name, with {len(data.features)} columns."
        )
    size = min(size, len(data.candidates))
    found = answers(data, descriptions, size, seed, report)
    known = _known(data, found)
    near = nearness(data, descriptions, known.used | found.abstained)
    return {
        "name": data.name,
        "unit": unit_of(data),
        "higher_is_better": _scale_of(data).sign < 0,
        "known_tasks": len(data.tasks),
        "candidates": len(data.candidates),
        "single_best": data.candidates[int(found.reference)],
        "abstained": bool(found.abstained),
        "gain": {"mean": float(found.gain[0]), "error": float(found.gain[1])},
        "descriptions": {
            "used": [data.features[place] for place in np.flatnonzero(known.used)],
            "of": len(data.features),
            "steps": _steps(data, found),
        },
        "usual_distance": near.usual,
        "tasks": [
            _advice(data, name, values, found, row, known, near)
            for row, (name, values) in enumerate(zip(names, descriptions))
        ],
    }
