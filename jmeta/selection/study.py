"""A meta-dataset evaluated: jmeta beside what people use today, on the same folds."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jmeta.data.records import MetaDataset
from jmeta.errors import InputError
from jmeta.evaluation import by_regret, grouped_folds, scores, summary
from jmeta.floors import FLOORS, floors_for, recommend_by
from jmeta.selection.selector import Selected, recommend, select

__all__ = ["OURS", "applies", "evaluate", "folds_of", "methods_for"]

OURS = "jmeta"
NUM_FOLDS, SIZE = 10, 10

Report = Callable[[str, int, int, dict[str, Any]], None]
"""Told `(stage, done, total, numbers)`."""


def folds_of(data: MetaDataset, how: str | None, num_seeds: int) -> np.ndarray:
    """Folds `(seeds, tasks)`, -1 where a task is in none.

    Args:
      data: the meta-dataset.
      how: "official": those of the scenario, the same for every seed unless it has
        several repeats; "grouped": ten, drawn by the seed, that keep families
        together; None for the official ones where there are any.
      num_seeds: how many.

    Raises:
      InputError: if official folds are asked for and there are none, or tasks cannot
        be split.
    """
    how = how or ("grouped" if data.folds is None else "official")
    if how == "official":
        if data.folds is None:
            raise InputError(f"{data.name} has no official folds; use --folds grouped.")
        return data.folds[np.arange(num_seeds) % len(data.folds)]
    try:
        seeds = range(num_seeds)
        return np.stack([grouped_folds(data.families, NUM_FOLDS, s) for s in seeds])
    except ValueError as error:
        raise InputError(f"{data.name}: {error}") from error


def methods_for(data: MetaDataset) -> tuple[str, ...]:
    """What `evaluate` compares unless told otherwise.

    Forests of pairs are left out: they take longer than everything else together.
    """
    return (OURS, *(name for name in floors_for(data) if name != "forest_pairs"))


def applies(name: str, data: MetaDataset) -> bool:
    """Whether a method can be run on such data.

    Raises:
      InputError: if there is no such method.
    """
    if name != OURS and name not in FLOORS:
        known = ", ".join((OURS, *FLOORS))
        raise InputError(f"there is no method {name!r}; choose of {known}.")
    return name == OURS or FLOORS[name].applies(data)


def _ours(
    data: MetaDataset, folds: np.ndarray
) -> tuple[list[dict[str, float]], Selected]:
    """Scores of every seed, all their folds trained together."""
    places = [(s, np.unique(row[row >= 0])) for s, row in enumerate(folds)]
    train = np.concatenate([folds[s] != p[:, None] for s, p in places])
    keys = np.concatenate([1000 * s + p for s, p in places]).astype(np.uint32)
    selected = select(data, train, keys)
    size, least = 1, -math.inf
    if by_regret(data):
        size, least = min(SIZE, len(data.candidates)), 0.0
    made, before = [], 0
    for seed, fold in places:
        # A task in no fold is asked of the first fit, and never judged.
        fits = before + np.maximum(np.searchsorted(fold, folds[seed]), 0)
        made.append(
            scores(data, folds[seed], recommend(selected, fits, size, least=least))
        )
        before += len(fold)
    return made, selected


def evaluate(
    data: MetaDataset,
    folds: np.ndarray,
    methods: Sequence[str],
    report: Report | None = None,
) -> dict[str, Any]:
    """Scores of methods on a meta-dataset, as plain data.

    Args:
      data: the meta-dataset.
      folds: `(seeds, tasks)`, as `folds_of` gives them.
      methods: `OURS` or names of `jmeta.floors.FLOORS`. A floor that draws nothing,
        on folds that all seeds share, is run once.
      report: told how far it is.

    Returns:
      `name`, `metric`, sizes, and for each method its mean scores over seeds, with
      `intervals` (95 %, over seeds), `by_seed` and `seconds` per seed; for ours also
      how many fits `abstained`.
    """
    num_seeds = len(folds)
    found: dict[str, Any] = {}
    for place, name in enumerate(methods):
        if report is not None:
            report(data.name, place, len(methods), {})
        start, extra = time.perf_counter(), {}
        if name == OURS:
            values, selected = _ours(data, folds)
            extra = {
                "abstained": int(selected.abstained.sum()),
                "fits": len(selected.abstained),
            }
        else:
            values = [
                scores(data, row, recommend_by(name, data, row, seed))
                for seed, row in enumerate(folds)
            ]
        seconds = (time.perf_counter() - start) / num_seeds
        found[name] = _told(values) | {"seconds": seconds} | extra
    if report is not None:
        report(data.name, len(methods), len(methods), {})
    return {
        "name": data.name,
        "metric": "regret" if by_regret(data) else "npar10",
        "measured": data.metric.name,
        "tasks": len(data.tasks),
        "candidates": len(data.candidates),
        "features": len(data.features),
        "folds": len(np.unique(folds[0][folds[0] >= 0])),
        "seeds": num_seeds,
        "methods": found,
    }


def _told(values: list[dict[str, float]]) -> dict[str, Any]:
    whole = {name: summary([v[name] for v in values]) for name in values[0]}
    return {name: made.mean for name, made in whole.items()} | {
        "intervals": {name: [made.low, made.high] for name, made in whole.items()},
        "by_seed": {name: [v[name] for v in values] for name in values[0]},
    }
