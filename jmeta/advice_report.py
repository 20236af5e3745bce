"""What `jmeta select` says: sentences and a page."""

import math
import os
from collections.abc import Mapping
from typing import Any

from jmeta.page import Facts, Items, Mark, Section, Table, Text, numbers, write_report
from jmeta.wording import plain

__all__ = [
    "about",
    "advice_report",
    "neighbours",
    "reasons",
    "sureness",
    "warnings",
]

_MOST = 25
"""How many descriptions' effects are drawn."""


def _amount(told: Mapping[str, Any]) -> str:
    """A value with its interval."""
    value, low, high = numbers([told[name] for name in ("value", "low", "high")])
    return f"{value} (90 % interval {low} to {high})"


def about(made: Mapping[str, Any]) -> list[str]:
    """What is known of the whole, in sentences."""
    found, gain = made["descriptions"], made["gain"]
    mean, error = numbers([gain["mean"], gain["error"]])
    told = [
        f"{made['name']}: {made['known_tasks']:,} known tasks, "
        f"{made['candidates']:,} candidates. On average the single best of them is "
        f"{made['single_best']}."
    ]
    if made["abstained"]:
        return [
            *told,
            f"It abstains: on known tasks choosing by descriptions gained {mean} "
            f"(standard error {error}) in {made['unit']}, which may well be "
            "nothing. So the single best is the choice for every task, and nothing "
            "needs to be described.",
        ]
    told.append(
        f"On known tasks whose family was not learnt from, choosing saved {mean} "
        f"(standard error {error}) in {made['unit']} against the single best."
    )
    used = f"{len(found['used'])} of {found['of']} descriptions are used"
    steps = [
        f"{one['step']} ({one['seconds']:.3g} s)"
        for one in found["steps"]
        if one["seconds"] > 0
    ]
    how = f", computed by {', '.join(steps)} (mean of known tasks)" if steps else ""
    return [*told, f"{used}{how}."]


def sureness(made: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    """What is to be expected of a choice."""
    expected, better = (
        one["expected"],
        "higher" if made["higher_is_better"] else "lower",
    )
    told = [
        f"Expected {made['unit']} {_amount(expected['choice'])}; {better} is better."
    ]
    if one["choice"] == made["single_best"]:
        return [*told, "It is also the single best of the known tasks."]
    told.append(f"Of the single best: {_amount(expected['single_best'])}.")
    chance = one["probability_better"]
    if chance is not None:
        told.append(f"It is better than that with a probability of {chance:.0%}.")
    return told


def warnings(made: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    """What is unlike all that is known."""
    told = []
    if one["far"]:
        far, usual = numbers([one["distance"], made["usual_distance"]])
        told.append(
            f"Too far from what is known: the nearest known task is at {far}, and "
            f"95 % of known tasks are within {usual} of one of another family. Trust "
            "what is expected less."
        )
    if one["outside"]:
        told.append(f"Beyond all known tasks in {', '.join(one['outside'])}.")
    return told


def reasons(one: Mapping[str, Any], num: int) -> str:
    """The descriptions that moved the choice the most, with their effects."""
    found = [row for row in one["attributions"][:num] if row["effect"]]
    return ", ".join(
        f"{row['description']} = {_value(row['value'])} ({row['effect']:+.3g})"
        for row in found
    )


def _value(value: float | None) -> str:
    missing = value is None or math.isnan(value)
    return "missing" if missing else f"{value:.4g}"


def neighbours(made: Mapping[str, Any], one: Mapping[str, Any]) -> Table:
    """The nearest known tasks, and what worked there."""
    columns = ["task", "distance", "best there", f"its {made['unit']}", "the choice's"]
    compared = ["best", "choice"]
    if one["choice"] != made["single_best"]:
        columns.append("the single best's")
        compared.append("single_best")
    rows = []
    for near in one["nearest"]:
        mates = len(near["family"])
        name = near["task"] + (f" (and {mates} of its family)" if mates else "")
        costs = (near["cost"][what] for what in compared)
        rows.append((name, near["distance"], near["best"], *costs))
    caption = "The nearest known tasks, each of another family, and what worked there."
    return Table(caption, tuple(columns), tuple(rows))


def _effects(made: Mapping[str, Any], one: Mapping[str, Any]) -> list[Any]:
    found = [row for row in one["attributions"] if row["effect"]][:_MOST]
    if not found:
        return [Text("No description moved the choice.")]
    lead, typical = numbers([one["lead"], one["lead_on_typical_task"]])
    caption = (
        f"How far each description speaks for {one['choice']} (above 0) or for "
        f"{one['compared_with']} (below 0), in {made['unit']}. All together they turn "
        f"the lead of {typical} on a typical task into {lead} on this one."
    )
    marks = [Mark(min(0.0, e["effect"]), max(0.0, e["effect"])) for e in found]
    rows = [(e["description"], _value(e["value"]), e["effect"]) for e in found]
    columns = "description", "value", "effect"
    shown = Table(
        caption, columns, tuple(rows), drawn="against / for", marks=tuple(marks)
    )
    return [shown]


def _section(made: Mapping[str, Any], one: Mapping[str, Any]) -> Section:
    facts = Facts(
        (
            ("Use", one["choice"], plain(one["settings"])),
            ("Or try", ", ".join(one["set"]), "at least one of them should be good"),
        )
    )
    notes = [Text(told, note=True) for told in warnings(made, one)]
    told = Items(tuple(sureness(made, one)))
    return Section(
        one["task"], (facts, told, *notes, *_effects(made, one), neighbours(made, one))
    )


def advice_report(
    path: str | os.PathLike[str], made: Mapping[str, Any], version: str
) -> None:
    """Write what is recommended for new tasks as one HTML page.

    Args:
      path: of the page.
      made: as `jmeta.selection.explain.advise` gives it.
      version: of jmeta.
    """
    rows = tuple(
        (
            one["task"],
            one["choice"],
            one["expected"]["choice"]["value"],
            one["expected"]["single_best"]["value"],
            one["probability_better"],
            "far" if one["far"] else "",
        )
        for one in made["tasks"]
    )
    unit = made["unit"]
    columns = "task", "use", f"expected {unit}", "single best", "P(better)", "known?"
    overview = Table("What to use on each new task.", columns, rows)
    write_report(
        path,
        title=f"Choices from {made['name']}",
        subtitle=f"For {len(rows)} new tasks, learnt from {made['known_tasks']:,}.",
        sections=[
            Section("Overview", (Items(tuple(about(made))), overview)),
            *(_section(made, one) for one in made["tasks"]),
        ],
        footer=f"Written by jmeta {version}.",
    )
