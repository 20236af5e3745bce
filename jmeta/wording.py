"""A recommendation in words, tables and drawings: the parts of its report."""

import math
from collections.abc import Mapping
from typing import Any

from jmeta.metrics import HIGHER_IS_BETTER
from jmeta.page import Facts, Items, Mark, Table, Text, numbers
from jmeta.recommendation import COVERAGE

__all__ = ["choice", "evidence", "explanation", "plain", "ranked", "task", "words"]

_NAMES = {"auc": "AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R²"}


def words(name: str) -> str:
    """A name from the program as words."""
    return _NAMES.get(name, name.replace("_", " "))


def plain(value: Any) -> str:
    """Settings, lists and numbers in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)


def _members(recommendation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that are fitted, with their weights."""
    chosen = recommendation["recommendation"]
    if chosen["model"] == "ensemble" and "members" in chosen["settings"]:
        return list(chosen["settings"]["members"])
    return [{"model": chosen["model"], "settings": chosen["settings"], "weight": 1.0}]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["model"], one["settings"]) == (other["model"], other["settings"])


def task(recommendation: Mapping[str, Any]) -> str:
    """The size of the table and what is predicted."""
    about = recommendation["task"]
    classes = about.get("classes")
    target = "a number to predict" if about["kind"] == "number" else "classes"
    target = target if classes is None else f"{classes:,} classes"
    return f"{about['rows']:,} rows, {about['features']:,} features, {target}"


def _why(recommendation: Mapping[str, Any]) -> str:
    """The choice beside the single best candidate, in one sentence."""
    best = recommendation["single_best"]
    named = f"{words(best['model'])} ({plain(best['settings'])})"
    if recommendation["abstained"]:
        return (
            "It abstained: no candidate was surely better on this table than the one "
            "that is best on average over the meta-training tasks (the single best), "
            f"{named}, so that one is recommended."
        )
    members = _members(recommendation)
    if len(members) == 1 and not _same(members[0], best):
        return (
            "It did not abstain: for this table it is preferred to the candidate that "
            "is best on average over the meta-training tasks (the single best), "
            f"{named}."
        )
    return (
        "It did not abstain. The candidate that is best on average over the "
        f"meta-training tasks (the single best) is {named}."
    )


def choice(recommendation: Mapping[str, Any]) -> list[Any]:
    """What is recommended, and what to expect of it."""
    members = _members(recommendation)
    expected = recommendation["recommendation"]["expected"]
    metric = words(expected["metric"])
    better = "higher" if expected["metric"] in HIGHER_IS_BETTER else "lower"
    value, low, high = numbers([expected[name] for name in ("value", "low", "high")])
    told = f"{better} is better"
    if expected["low"] is not None and expected["high"] is not None:
        told = f"{COVERAGE:.0%} interval {low} to {high}; {told}"
    several = len(members) > 1
    model = f"{len(members)} models, averaged" if several else members[0]["model"]
    settings = "" if several else plain(members[0]["settings"])
    what = "a weighted average of " if several else ""
    what += " and ".join(dict.fromkeys(words(m["model"]) for m in members))
    with_settings = f", with {settings}" if settings else ""
    abstained = recommendation["abstained"]
    blocks: list[Any] = [
        Facts(
            (
                ("Recommended", words(model), settings),
                (f"Expected {metric}", value, told),
                (
                    "Abstained to the single best",
                    "yes" if abstained else "no",
                    "nothing was surely better" if abstained else "",
                ),
            )
        ),
        Text(
            f"For this table ({task(recommendation)}), jmeta recommends "
            f"{what}{with_settings}. The {metric} to expect on rows that it has not "
            f"seen is {value} ({told})."
            + " That is what its leading candidate alone is expected to reach."
            * several
        ),
        Text(_why(recommendation), note=bool(abstained)),
    ]
    if several:
        rows = tuple((m["model"], plain(m["settings"]), m["weight"]) for m in members)
        columns = ("model", "settings", "weight")
        blocks.append(Table("What is averaged, by weight.", columns, rows))
    return blocks


def explanation(recommendation: Mapping[str, Any]) -> list[Any]:
    """Which parts of the description moved the choice, as bars."""
    effects = [(e["feature"], e["effect"]) for e in recommendation["explanation"]]
    if not effects:
        return [Text("No part of the description moved the choice.")]
    metric = words(recommendation["recommendation"]["expected"]["metric"])
    told = (
        f"Effects in units of {metric}: how far each part of this table's description, "
        "compared with the average meta-training task, speaks for the choice (above "
        "0) or against it (below 0), beside the single best candidate or, where that "
        "is the choice, the runner-up."
    )
    marks = tuple(Mark(min(0.0, effect), max(0.0, effect)) for _, effect in effects)
    columns = ("part of the description", "effect")
    return [Table(told, columns, tuple(effects), drawn="against / for", marks=marks)]


def _role(entry: Mapping[str, Any], recommendation: Mapping[str, Any]) -> str:
    members, roles = _members(recommendation), []
    if any(_same(entry, member) for member in members):
        roles.append("recommended" if len(members) == 1 else "averaged")
    if _same(entry, recommendation["single_best"]):
        roles.append("single best")
    return ", ".join(roles)


def ranked(recommendation: Mapping[str, Any], num: int) -> list[Any]:
    """The first candidates, with what is expected of them as dots and whiskers."""
    ranking = recommendation["ranking"]
    if not ranking:
        return [Text("No candidates were ranked for this table.")]
    scored = recommendation["recommendation"]["expected"]["metric"]
    metric, floor = words(scored), -math.inf if scored == "r2" else 0.0
    rows, marks, strong = [], [], set()
    for place, entry in enumerate(ranking):
        role = _role(entry, recommendation)
        if place >= num and not role:
            continue
        if "recommended" in role or "averaged" in role:
            strong.add(len(rows))
        value, std = entry["expected"], entry["std"]
        rows.append(
            (place + 1, entry["model"], plain(entry["settings"]), role, value, std)
        )
        if value is None or std is None:
            marks.append(None)
        else:
            marks.append(Mark(max(value - std, floor), value + std, value))
    drawn = [mark for mark in marks if mark is not None] or [Mark(0.0, 0.0)]
    low, high = numbers([min(m.low for m in drawn), max(m.high for m in drawn)])
    tried = all(entry.get("cross_validated") for entry in ranking)
    how = "cross-validated" if tried else "not tried on this table"
    return [
        Table(
            f"The first {min(num, len(ranking))} of {len(ranking)} candidates ({how}), "
            "best first, and those with a role. The drawing shows what is expected, "
            "and one standard deviation to each side.",
            ("rank", "model", "settings", "role", f"expected {metric}", "std"),
            tuple(rows),
            strong=frozenset(strong),
            drawn=f"from {low} to {high}",
            marks=tuple(marks),
        )
    ]


def evidence(recommendation: Mapping[str, Any]) -> list[Any]:
    """What the choice rests on, in sentences."""
    found = dict(recommendation["evidence"])
    metric = words(recommendation["recommendation"]["expected"]["metric"])
    tasks = found.pop("meta_training_tasks", None)
    candidates = found.pop("candidates", None)
    told = []
    if tasks is not None and candidates is not None:
        told.append(
            f"The meta-model knows {candidates:,} candidates from {tasks:,} "
            "meta-training tasks."
        )
    tried, folds = found.pop("cross_validated", 0), found.pop("folds", 0)
    told.append(
        f"{tried:,} candidates were cross-validated on this table in {folds} folds, "
        "and what was seen was shrunk toward what the meta-model expected."
        if tried
        else "No candidate was tried on this table; with a budget (--budget 8) the "
        "most promising ones are cross-validated."
    )
    gain = found.pop("expected_gain", None)
    probability = found.pop("probability_of_gain", None)
    if gain:
        chance = (
            "" if probability is None else f", with a probability of {probability:.0%}"
        )
        told.append(
            "From the description alone, the best candidate is expected to gain "
            f"{numbers([gain])[0]} in {metric} over the single best one{chance}."
        )
    elif gain is not None:
        told.append("From the description alone, the single best candidate leads.")
    unusual = found.pop("unusual", [])
    told += [f"{words(name)}: {plain(value)}." for name, value in found.items()]
    if not unusual:
        told.append("Nothing about this table is unusual for the meta-model.")
        return [Items(tuple(told))]
    return [
        Items(tuple(told)),
        Text(
            "Parts of this table's description are too far from what the meta-model "
            f"knows: {plain(unusual)}. Trust its expectations less, and what was "
            "cross-validated more.",
            note=True,
        ),
    ]
