"""The page of `jmeta evaluate`: tables of scores and a plot of every meta-dataset."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jmeta.page import Items, Mark, Picture, Section, Table, Text, write_report
from jmeta.wording import plain

__all__ = [
    "evaluation_plot",
    "evaluation_report",
    "metrics_of",
    "notes_of",
    "rows_of",
    "seeds_of",
]

_COLORS = (
    *("#0b6187", "#7b8794", "#a9b3bd", "#b4531a", "#5b4b9a", "#3f7f4f", "#9c6b1e"),
    "#a83279",
)
_NAMES = {
    "regret": "Regret: (best - best of the first k) / (best - worst); 0 is the best.",
    "npar10": "nPAR10: (choice - oracle) / (single best - oracle); 0 is the oracle, "
    "1 is as good as always taking the single best.",
}


def metrics_of(made: Mapping[str, Any]) -> list[str]:
    """Names of the scores in an evaluation, in order."""
    return list(next(iter(made["methods"].values()))["intervals"])


def seeds_of(made: Mapping[str, Any]) -> str:
    """Over how many seeds an evaluation is."""
    if made["seeds"] == 1:
        return "one seed"
    return f"mean over {made['seeds']} seeds (95 % interval over them)"


def rows_of(made: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """A row a method: its name, scores with intervals as text, seconds, tasks/s."""
    rows = []
    for name, found in made["methods"].items():
        cells = []
        for metric in metrics_of(made):
            low, high = found["intervals"][metric]
            text = f"{found[metric]:.3f}"
            if math.isfinite(low):
                text += f" ({low:.3f} to {high:.3f})"
            cells.append(text)
        speed = f"{found['seconds']:.1f}", f"{found['tasks_per_second']:,.0f}"
        rows.append((name, *cells, *speed))
    return rows


def notes_of(made: Mapping[str, Any]) -> list[str]:
    """What a table of scores does not tell: how long schedules of short runs are."""
    return [
        f"{name}: before, {found['steps']:.1f} short runs of together "
        f"{found['schedule']:.3g} seconds, mean over {found['fits']} fits."
        for name, found in made["methods"].items()
        if "schedule" in found
    ]


def evaluation_plot(made: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG: for each meta-dataset the first score of every method, with intervals."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(
        figsize=(8, 1.2 + 0.45 * len(made)), layout="constrained"
    )
    axes = figure.subplots()
    methods = list(dict.fromkeys(name for one in made for name in one["methods"]))
    for place, name in enumerate(methods):
        for row, one in enumerate(made):
            if name not in one["methods"]:
                continue
            found, metric = one["methods"][name], metrics_of(one)[0]
            height = row + (place - (len(methods) - 1) / 2) * 0.09
            color = _COLORS[place % len(_COLORS)]
            low, high = found["intervals"][metric]
            if math.isfinite(low):
                axes.plot([low, high], [height] * 2, color=color, linewidth=1.5)
            label = name if row == 0 else None
            axes.plot([found[metric]], [height], "o", color=color, ms=5, label=label)
    names = [f"{one['name']} ({metrics_of(one)[0]})" for one in made]
    axes.set_yticks(range(len(made)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("lower is better")
    axes.grid(axis="x", color="#e3e7ec", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize=9, ncols=4, loc="lower left", bbox_to_anchor=(0, 1)
    )
    out = io.BytesIO()
    figure.savefig(out, dpi=150, format="png")
    return out.getvalue()


def _section(made: Mapping[str, Any]) -> Section:
    metrics = metrics_of(made)
    found = list(made["methods"].values())
    marks = []
    for one in found:
        low, high = one["intervals"][metrics[0]]
        known = math.isfinite(low)
        marks.append(Mark(low, high, one[metrics[0]]) if known else None)
    scores = Table(
        caption=f"Scores, {seeds_of(made)}.",
        columns=("method", *metrics, "seconds a seed", "tasks/s"),
        rows=tuple(rows_of(made)),
        strong=frozenset(
            place for place, name in enumerate(made["methods"]) if name == "jmeta"
        ),
        drawn=metrics[0],
        marks=tuple(marks),
    )
    told = (
        f"{made['tasks']} tasks, {made['candidates']} candidates, "
        f"{made['features']} descriptions, {made['folds']} folds; measured: "
        f"{plain(made['measured'])}."
    )
    notes = (Text(note) for note in notes_of(made))
    return Section(made["name"], (Text(told), scores, *notes))


def evaluation_report(
    path: str | os.PathLike[str], made: Sequence[Mapping[str, Any]], version: str
) -> None:
    """Write evaluations as one HTML page.

    Args:
      path: of the page.
      made: as `jmeta.selection.study.evaluate` gives them.
      version: of jmeta.
    """
    import base64

    kinds = dict.fromkeys(one["metric"] for one in made)
    drawn = Picture(
        media="image/png",
        data=base64.b64encode(evaluation_plot(made)).decode("ascii"),
        alt="Scores of every method on every meta-dataset, as in the tables.",
        caption="Points are means over seeds, lines 95 % intervals over seeds.",
    )
    told = Items(tuple(_NAMES[kind] for kind in kinds))
    write_report(
        path,
        title="Choosing from meta-datasets",
        subtitle="jmeta beside what people use today, on the same folds.",
        sections=[
            Section("Overview", (told, drawn)),
            *(_section(one) for one in made),
        ],
        footer=f"Written by jmeta {version}.",
    )
