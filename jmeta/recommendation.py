"""What a recommendation is: which models, how well they should do, and why."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from jmeta import learners, score
from jmeta.metamodel import MetaModel, signs
from jmeta.tasks import PADDING, Table

__all__ = [
    "COVERAGE",
    "Member",
    "Recommendation",
    "Trained",
    "always",
    "named",
    "num_features",
]

COVERAGE = 0.9
"""Of the intervals around an expected score, and around a predicted number."""


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
            "features": num_features(table),
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


def num_features(table: Table) -> int:
    """The width of a table as encoded, not padded."""
    return int((np.asarray(table.columns) != PADDING).sum())


def named(
    members: tuple[Member, ...], num_rows: int | None
) -> tuple[str, dict[str, Any]]:
    """The name and settings of what the members are together.

    Args:
      members: one, or an ensemble.
      num_rows: of the table, for settings that depend on it; None if not known.
    """
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


def always(model: MetaModel, metric: str | None = None) -> Recommendation:
    """The recommendation of one who has seen no table: the single best candidate."""
    metric = metric or model.score_names[0]
    column = model.score_names.index(metric)
    place = model.single_best(column)
    candidate = model.candidates[place]
    member = Member(candidate.learner, candidate.unit or (), 1.0)
    name, settings = named((member,), None)
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
        meta_model=model.provenance,
    )
