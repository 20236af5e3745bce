"""What a run and a recommendation say to people: HTML pages and a learning curve."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jmeta import __version__, wording
from jmeta.curve import learning_curve
from jmeta.metrics import HIGHER_IS_BETTER, SCORES
from jmeta.page import Heading, Items, Section, Table, Text, picture, write_report

__all__ = [
    "learning_curve",
    "quickstart_report",
    "recommendation_report",
    "write_report",
]

_KNOWN = frozenset(name for names in SCORES.values() for name in names)


def _pairs(caption: str, values: Mapping[str, Any]) -> Table:
    """A table of names and values; nested names are joined by dots."""
    rows: list[tuple[str, str]] = []

    def add(prefix: str, part: Any) -> None:
        if isinstance(part, Mapping) and part:
            for name, value in part.items():
                add(f"{prefix}.{name}" if prefix else str(name), value)
        else:
            rows.append((prefix, wording.plain(part)))

    add("", values)
    return Table(caption, ("name", "value"), tuple(rows))


def recommendation_report(
    path: str | os.PathLike[str],
    recommendation: Mapping[str, Any],
    notes: Sequence[str],
    version: str,
    *,
    name: str = "",
) -> None:
    """Write what is recommended for one table, and why, as one HTML page.

    Args:
      path: of the page.
      recommendation: as `Recommendation.to_json` gives it.
      notes: on the data, as sentences.
      version: of jmeta.
      name: of the table; empty for none.
    """
    data = [Items(tuple(notes))] if notes else [Text("There is nothing to remark.")]
    about = {"jmeta": version, "meta-model": recommendation["meta_model"]}
    parts = (
        ("What is recommended", wording.choice(recommendation)),
        ("What moved the choice", wording.explanation(recommendation)),
        ("Candidates", wording.ranked(recommendation, 15)),
        ("What it rests on", wording.evidence(recommendation)),
        ("The data", data),
        ("Provenance", [_pairs("What made this recommendation.", about)]),
    )
    write_report(
        path,
        title=f"Recommendation for {name}" if name else "Recommendation",
        subtitle=wording.task(recommendation),
        sections=[Section(heading, tuple(blocks)) for heading, blocks in parts],
        footer=f"Written by jmeta {version}.",
    )


def _scores(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """One table's rows of the quickstart, the best of every score emphasised."""
    columns = dict.fromkeys(key for row in rows for key in row if key != "table")
    best = set()
    for place, column in enumerate(columns):
        score = column.lower().replace(" ", "_")
        values = [row.get(column) for row in rows]
        present = [v for v in values if isinstance(v, int | float)]
        if score in _KNOWN and len(present) > 1:
            target = max(present) if score in HIGHER_IS_BETTER else min(present)
            best |= {(i, place) for i, v in enumerate(values) if v == target}
    ours = {i for i, row in enumerate(rows) if "jmeta" in str(row.get("method"))}
    return Table(
        f"{name}: scores on held-out rows; the best of each in bold.",
        tuple(wording.words(column) for column in columns),
        tuple(tuple(row.get(column) for column in columns) for row in rows),
        strong=frozenset(ours),
        best=frozenset(best),
    )


def quickstart_report(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    curve_png: str | os.PathLike[str] | None,
    recommendations: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write what the quickstart learnt, recommended and scored as one HTML page.

    Args:
      path: of the page.
      config: settings of the run and versions of what it ran on, nested or flat.
      rows: of its table: `table`, `method`, scores by name, `seconds`.
      curve_png: the learning curve; None, or a file that is not there, for none.
      recommendations: as `Recommendation.to_json` gives them, by table.
    """
    tables = dict.fromkeys(str(row.get("table", "")) for row in rows)
    scores = [
        _scores(name, [row for row in rows if str(row.get("table", "")) == name])
        for name in tables
    ]
    curve: list[Any] = [Text("There is no learning curve.")]
    if curve_png is not None and pathlib.Path(curve_png).exists():
        alt = (
            "Learning curves: regret of the meta-classifier beside the single best "
            "candidate, and loss of the meta-optimizer, over meta-training steps."
        )
        told = "Regret is the cost above that of the best candidate; 0 is perfect."
        curve = [picture(curve_png, alt=alt, caption=told)]
    sections = [
        Section("Scores", tuple(scores)),
        Section("Meta-training", tuple(curve)),
    ]
    for name, recommendation in recommendations.items():
        blocks = [
            *wording.choice(recommendation),
            *(Heading("What moved the choice"), *wording.explanation(recommendation)),
            *(Heading("Candidates"), *wording.ranked(recommendation, 5)),
            *(Heading("What it rests on"), *wording.evidence(recommendation)),
        ]
        sections.append(Section(f"Recommendation for {name}", tuple(blocks)))
    pairs = _pairs("What this run was made with.", config)
    sections.append(Section("Settings and versions", (pairs,)))
    write_report(
        path,
        title="jmeta quickstart",
        subtitle="Meta-trained on synthetic tasks, then used on real tables.",
        sections=sections,
        footer=f"Written by jmeta {__version__}.",
    )
