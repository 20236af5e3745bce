"""What `jmeta importance` says: sentences, a plot and a page."""

import base64
import io
import math
import os
from collections.abc import Mapping
from typing import Any

from jmeta.page import (
    Heading,
    Items,
    Mark,
    Picture,
    Section,
    Table,
    numbers,
    write_report,
)

__all__ = ["about", "importance_plot", "importance_report", "importances"]

_BARS = 25
"""How many descriptions are drawn."""


def _label(row: Mapping[str, Any], by: str) -> str:
    """What is exchanged together, in a word or two."""
    more = len(row["members"]) - 1
    return f"{row['name']} and {more} alike" if by == "alike" and more else row["name"]


def about(made: Mapping[str, Any]) -> list[str]:
    """What is known of the whole, in sentences."""
    paid, single, rise, low, high = numbers(
        [
            *(made["choice"], made["single_best"]),
            *(made["all"][name] for name in ("rise", "low", "high")),
        ]
    )
    seeds = "one seed" if made["seeds"] == 1 else f"{made['seeds']} seeds"
    return [
        f"{made['name']}: {made['tasks']:,} tasks of {made['families']:,} families, "
        f"{seeds}, {made['repeats']} exchanges each. {made['abstained']} of "
        f"{made['fits']} fits abstained.",
        f"Mean cost in {made['unit']}: {paid} for what is chosen, {single} for the "
        f"single best. With all descriptions exchanged it is higher by {rise} (95 % "
        f"interval {low} to {high}).",
    ]


def importances(made: Mapping[str, Any]) -> Table:
    """Every description with its importance, the highest first."""
    rows = tuple(
        (_label(row, made["by"]), row["rise"], row["low"], row["high"])
        for row in made["descriptions"]
    )
    return Table(
        caption=f"Rise of the mean {made['unit']} when exchanged, the highest first.",
        columns=("exchanged", "rise", "low", "high"),
        rows=rows,
        drawn="95 % interval",
        marks=tuple(Mark(low, high, rise) for _, rise, low, high in rows),
    )


def importance_plot(made: Mapping[str, Any]) -> bytes:
    """A PNG: a bar for each description, the most important on top, with intervals."""
    import matplotlib.figure

    rows = made["descriptions"][:_BARS]
    figure = matplotlib.figure.Figure(
        figsize=(8, 1.1 + 0.26 * max(len(rows), 3)), layout="constrained"
    )
    axes = figure.subplots()
    for place, row in enumerate(rows):
        sure = row["low"] > 0
        color = "#0b6187" if sure else "#a9b3bd"
        axes.barh(place, row["rise"], color=color, height=0.7)
        if math.isfinite(row["low"]):
            ends = [row["low"], row["high"]]
            axes.plot(ends, [place] * 2, color="#25303b", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [_label(row, made["by"]) for row in rows])
    axes.invert_yaxis()
    axes.axvline(0.0, color="#25303b", linewidth=0.8)
    axes.set_xlabel(f"rise of the mean {made['unit']} when exchanged")
    axes.grid(axis="x", color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    left = len(made["descriptions"]) - len(rows)
    axes.set_title(
        f"{made['name']}: which descriptions matter"
        + (f" (the first {len(rows)}; {left} more matter less)" if left else ""),
        fontsize=11,
        loc="left",
    )
    out = io.BytesIO()
    figure.savefig(out, dpi=150, format="png")
    return out.getvalue()


def importance_report(
    path: str | os.PathLike[str], made: Mapping[str, Any], version: str
) -> None:
    """Write which descriptions matter as one HTML page.

    Args:
      path: of the page.
      made: as `jmeta.selection.importance.importance` gives it.
      version: of jmeta.
    """
    drawn = Picture(
        media="image/png",
        data=base64.b64encode(importance_plot(made)).decode("ascii"),
        alt="Importance of every description, as in the table.",
        caption="Bars are means, lines 95 % intervals over families of tasks; blue "
        "where the interval is above 0.",
    )
    groups = [row for row in made["descriptions"] if len(row["members"]) > 1]
    members = [f"{row['name']}: {', '.join(row['members'])}." for row in groups]
    heading = [Heading("What is exchanged together"), Items(tuple(members))]
    write_report(
        path,
        title=f"Which descriptions matter in {made['name']}",
        subtitle="Exchanged for those of other tasks, they make choices worse.",
        sections=[
            Section("Overview", (Items(tuple(about(made))), drawn)),
            Section("Descriptions", (importances(made), *heading[: 2 * bool(members)])),
        ],
        footer=f"Written by jmeta {version}.",
    )
