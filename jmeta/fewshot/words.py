"""What an evaluation of a few-shot model says, for the screen and for the page."""

from collections.abc import Iterator, Mapping
from typing import Any

from jmeta.page import Table

__all__ = ["METRIC_NAMES", "about", "notes_of", "tables_of"]

METRIC_NAMES = {
    "dauprc": "average precision less the share of class 1 (dAUPRC)",
    "auc": "area under the ROC curve",
    "log_loss": "log loss, nats",
    "calibration_error": "calibration error (15 bins, each episode on its own)",
    "accuracy": "accuracy",
    "r2": "R2 out of sample: the squared error beside that of the support's mean",
    "rmse": "root mean squared error, in the unit of the target",
    "coverage": "share of the queries inside their 90 % interval",
}
"""What metrics are called in full."""


def about(made: Mapping[str, Any]) -> str:
    """What was judged, in a sentence."""
    model = made["model"]
    if "episodes" in made:
        return (
            f"{model['algorithm']}: {made['episodes']} episodes of {model['ways']} "
            "classes by rows of each class; means over episodes ± 95 % interval."
        )
    tasks = ", ".join(f"{found['tasks']} at {n}" for n, found in made["shots"].items())
    return (
        f"{model['algorithm']}: {tasks} tasks by size of the support, "
        f"{made['draws']} draws of each; means over tasks ± standard error."
    )


def _cell(found: Mapping[str, Any] | None, times: float) -> str:
    if found is None:
        return "–"
    error = found["standard_error"]
    told = "" if error is None else f" ± {times * error:.3f}"
    return f"{found['mean']:.3f}{told}"


def tables_of(made: Mapping[str, Any]) -> Iterator[Table]:
    """A table a metric, a column a size of support; and what abstention leaves."""
    shots = tuple(made["shots"])
    methods = list(next(iter(made["shots"].values()))["methods"])
    times = 1.96 if "episodes" in made else 1.0
    for metric in made["metrics"]:
        rows = []
        for method in methods:
            found = [
                made["shots"][shot]["methods"][method].get(metric) for shot in shots
            ]
            if any(one is not None for one in found):
                rows.append((method, *(_cell(one, times) for one in found)))
        yield Table(
            f"{METRIC_NAMES[metric][0].upper()}{METRIC_NAMES[metric][1:]}.",
            ("method", *shots),
            tuple(rows),
            strong=frozenset({0}),
        )
    what = "squared error" if made["model"]["kind"] == "number" else "error"
    yield Table(
        f"Abstention: share answered, and {what} of the answers.",
        ("coverage asked for", *shots),
        tuple(
            (
                coverage,
                *(_answered(made["shots"][s]["abstention"][coverage]) for s in shots),
            )
            for coverage in next(iter(made["shots"].values()))["abstention"]
        ),
    )


def _answered(found: Mapping[str, Any]) -> str:
    error = found["error"]
    return f"{found['answered']:.2f}, {'–' if error is None else f'{error:.3f}'}"


def notes_of(made: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables should know, as sentences."""
    notes = []
    if made["model"]["kind"] == "classes":
        found = {
            shot: of["methods"]["model"]["calibration_by_chance"]["mean"]
            for shot, of in made["shots"].items()
        }
        told = ", ".join(f"{error:.3f} at {shot}" for shot, error in found.items())
        notes.append(
            "On as few queries, predictions that are perfectly calibrated would show a "
            f"calibration error of {told}."
        )
    if seen := made["seen"]:
        what = "classes" if "episodes" in made else "tasks are of families that"
        notes.append(f"{seen} of the {what} were trained on.")
    return notes
