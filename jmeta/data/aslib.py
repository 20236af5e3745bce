"""Scenarios of ASlib, the algorithm selection library.

Source: Bischl et al., 2016, https://arxiv.org/abs/1506.02465.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jmeta.data.cells import existing_folder
from jmeta.data.columns import level_order, quote
from jmeta.data.records import FeatureGroup, MetaDataset, Metric
from jmeta.data.rows import (
    KEYS,
    File,
    fault,
    finite,
    has_table,
    numbers,
    read_rows,
    texts,
    words,
)
from jmeta.data.scenario import Scenario, read_scenario
from jmeta.errors import InputError

__all__ = ["read_aslib"]

_STATUSES = ("ok", "timeout", "memout", "not_applicable", "crash", "other", "unknown")
"""How a feature step may end so that its features count."""


class _Runs(NamedTuple):
    """The fields of `MetaDataset` that come from the runs; `cutoff` as in `Metric`."""

    tasks: tuple[str, ...]
    candidates: tuple[str, ...]
    costs: np.ndarray
    solved: np.ndarray
    cutoff: float | None


def read_aslib(path: str | os.PathLike[str]) -> MetaDataset:
    """Read a scenario: its first performance measure, features, steps and folds.

    A run of a runtime scenario is solved if its status is ok and it took less than
    the cutoff. Any other run, also one without a runtime, costs ten cutoffs; files
    whose measure is PAR10 say so themselves. A scenario that states no positive cutoff
    gets its longest ok run as the cutoff, which then counts as solved. Where quality
    is measured, a failed run keeps the value that the file gives it (scenarios write
    the worst there), and is NaN only if there is none.

    Costs, features and feature costs are means over repetitions; solved are runs of
    which more than half are. Features are what feature_values holds, whatever the
    status of their step: one that ran out of memory may have computed most of its
    features, and what it did not compute is missing there. Steps that only have
    costs become groups without features, and features that no step provides a last
    group "other" without costs. Instances without any cost are left out, those without
    features are kept. Files for tests, ground truth and citations are not read.

    Raises:
      InputError: if a file is missing or cannot be used; names file and line.
    """
    folder = existing_folder(path)
    about = read_scenario(folder / "description.txt")
    runs = _read_runs(folder, about)
    values = read_rows(folder, "feature_values")
    charged = has_table(folder, "feature_costs")
    costs = read_rows(folder, "feature_costs") if charged else None
    features = tuple(name for name in values.columns if name not in KEYS)
    if not features:
        raise InputError(f"{values.what} has no columns of features.")
    groups = _groups(about, features, costs)
    return MetaDataset(
        name=about.name,
        tasks=runs.tasks,
        families=np.arange(len(runs.tasks)),
        candidates=runs.candidates,
        features=features,
        descriptions=_descriptions(values, runs.tasks),
        costs=runs.costs,
        metric=Metric(about.measure, about.maximize, runs.cutoff),
        settings=None,
        groups=groups,
        group_costs=_group_costs(costs, groups, runs.tasks),
        solved=runs.solved,
        folds=_folds(folder, runs.tasks) if has_table(folder, "cv") else None,
    )


def _mean(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """The mean of the known values of each cell, NaN where there is none."""
    known = ~np.isnan(values)
    flat = (rows * shape[1] + columns)[known]
    count = np.bincount(flat, minlength=shape[0] * shape[1])
    total = np.bincount(flat, weights=values[known], minlength=len(count))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean.reshape(shape)


def _mean_by_task(file: File, values: np.ndarray, tasks: Sequence[str]) -> np.ndarray:
    """`(tasks, columns)` means over the repetitions; NaN where there is none."""
    rows = pd.Index(tasks).get_indexer(pd.Index(file.columns["instance_id"]))
    values, rows = values[rows >= 0], rows[rows >= 0]
    place = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    shape = (len(tasks), values.shape[1])
    repeated = np.repeat(rows, values.shape[1])
    return _mean(repeated, place.ravel(), values.ravel(), shape)


def _read_runs(folder: Path, about: Scenario) -> _Runs:
    keys = (*KEYS, "algorithm")
    columns = (about.measure, "runstatus")
    file = read_rows(folder, "algorithm_runs", *columns, keys=keys)
    values, statuses = numbers(file, about.measure), words(file, "runstatus")
    unknown = ~np.isin(statuses, (*_STATUSES, ""))
    if unknown.any():
        found, listed = statuses[unknown][0], ", ".join(_STATUSES)
        raise fault(
            file, unknown, f"has the runstatus {str(found)!r}; it must be {listed}."
        )
    ok = statuses == "ok"
    if about.is_runtime:
        values, ok, cutoff = _par10(file, values, ok, about)
    else:
        values, cutoff = _quality(file, values, ok, about), None
    task, tasks = pd.factorize(file.columns["instance_id"])
    algorithm, candidates = pd.factorize(file.columns["algorithm"])
    shape = (len(tasks), len(candidates))
    costs = _mean(task, algorithm, values, shape)
    share = _mean(task, algorithm, ok.astype(np.float64), shape)
    known = ~np.logical_and.reduce(np.isnan(costs), axis=1)
    if known.sum() < 2 or len(candidates) < 2:
        raise InputError(
            f"{file.what} has costs of {len(candidates)} algorithms on {known.sum()} "
            "instances; it needs at least 2 of both."
        )
    solved = share > 0.5 if about.is_runtime else ~np.isnan(costs)  # NaN is not above.
    return _Runs(
        tasks=tuple(tasks[known]),
        candidates=tuple(candidates),
        costs=costs[known],
        solved=solved[known],
        cutoff=cutoff,
    )


def _par10(
    file: File, values: np.ndarray, ok: np.ndarray, about: Scenario
) -> tuple[np.ndarray, np.ndarray, float]:
    """Cost and success of each run, and the cutoff."""
    negative = values < 0
    if negative.any():
        found = f"{values[int(negative.argmax())]:g}"
        raise fault(
            file, negative, f"has the runtime {found}; it must not be negative."
        )
    cutoff = about.cutoff
    if cutoff is not None:
        ok = ok & (values < cutoff)
    else:
        ok = ok & np.isfinite(values)
        cutoff = float(values[ok].max(initial=0.0))
        if cutoff == 0:
            raise InputError(
                f"{file.what} has no ok run with a positive runtime, from which the "
                "cutoff could be told; state algorithm_cutoff_time in description.txt."
            )
    return np.where(ok, values, 10 * cutoff), ok, cutoff


def _quality(
    file: File, values: np.ndarray, ok: np.ndarray, about: Scenario
) -> np.ndarray:
    infinite = np.isinf(values)
    if (infinite & ok).any():
        name = quote(about.measure)
        raise fault(file, infinite & ok, f"has an infinite {name}; correct it.")
    values = np.where(infinite, np.nan, values)
    return 0.0 - values if about.maximize else values


def _groups(
    about: Scenario, features: Sequence[str], charged: File | None
) -> tuple[FeatureGroup, ...]:
    place = {name: place for place, name in enumerate(features)}
    steps = [
        FeatureGroup(
            name=name,
            # Steps of real scenarios name features that the tables do not have.
            features=tuple(place[f] for f in step.provides if f in place),
            requires=tuple(other for other in step.requires if other in about.steps),
        )
        for name, step in about.steps.items()
    ]
    for name in [] if charged is None else charged.columns:
        if name not in KEYS and name not in about.steps:
            steps.append(FeatureGroup(name=name, features=(), requires=()))
    provided = {place for step in steps for place in step.features}
    rest = tuple(place for place in range(len(features)) if place not in provided)
    other = "other"
    while other in {step.name for step in steps}:
        other += "_"
    last = [FeatureGroup(name=other, features=rest, requires=())] if rest else []
    return (*steps, *last)


def _descriptions(file: File, tasks: Sequence[str]) -> np.ndarray:
    instances = file.columns["instance_id"]
    if not set(tasks) & set(instances):
        raise InputError(
            f"{file.what} describes none of the instances that algorithms ran on: it "
            f"has {quote(instances.iloc[0])}, they ran on {quote(tasks[0])} and others."
        )
    values = finite(file, [name for name in file.columns if name not in KEYS])
    return _mean_by_task(file, values, tasks)


def _group_costs(
    file: File | None, groups: Sequence[FeatureGroup], tasks: Sequence[str]
) -> np.ndarray:
    costs = np.zeros((len(tasks), len(groups)))
    if file is None:
        return costs
    names = [group.name for group in groups]
    charged = [place for place, name in enumerate(names) if name in file.columns]
    if charged:
        values = finite(file, [names[place] for place in charged], least=0.0)
        costs[:, charged] = np.nan_to_num(_mean_by_task(file, values, tasks))
    return costs


def _folds(folder: Path, tasks: Sequence[str]) -> np.ndarray:
    """`(repeats, tasks)` folds from 0, -1 where a task is in none."""
    file = read_rows(folder, "cv", "fold")
    task = pd.Index(tasks).get_indexer(pd.Index(file.columns["instance_id"]))
    repeat, repeats = _ordered(file.columns["repetition"])
    fold, _ = _ordered(texts(file.columns["fold"]))
    if (task < 0).all():
        raise InputError(f"{file.what} names none of the instances of the runs.")
    folds = np.full((len(repeats), len(tasks)), -1)
    folds[repeat[task >= 0], task[task >= 0]] = fold[task >= 0]
    return folds


def _ordered(texts: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Places in the sorted levels, numbers by value; -1 where missing."""
    codes, levels = pd.factorize(texts)
    order = level_order(list(levels))
    places = np.empty(len(levels) + 1, dtype=int)
    places[order] = np.arange(len(levels))
    places[-1] = -1
    return places[codes], [levels[place] for place in order]
