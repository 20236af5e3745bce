"""Meta-datasets in folders: tables, read and written, or an ASlib scenario, read."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jmeta.data.aslib import read_aslib
from jmeta.data.cells import (
    Cells,
    aligned,
    existing_folder,
    find_table,
    numbers_in,
    print_number,
    print_setting,
    print_table,
    read_cells,
    read_json,
    read_optional,
    setting_records,
)
from jmeta.data.columns import quote
from jmeta.data.records import FeatureGroup, MetaDataset, Metric
from jmeta.errors import InputError
from jmeta.runs import check_new_folder, whole_folder

__all__ = [
    "FeatureGroup",
    "MetaDataset",
    "Metric",
    "read_folder",
    "read_meta_dataset",
    "write_folder",
]

_META = "meta.json"
_TABLES = (
    "scores.csv (a row per task, a column per candidate) and descriptions.csv (a row "
    "per task, a column per feature), each plain or .csv.gz"
)
_ASLIB = "description.txt, algorithm_runs.arff and feature_values.arff"


def read_meta_dataset(path: str | os.PathLike[str]) -> MetaDataset:
    """Read a folder that is an ASlib scenario or holds tables.

    Raises:
      InputError: if it is neither, or its files cannot be used; names file and line.
    """
    folder = existing_folder(path)
    if (folder / "description.txt").is_file():
        return read_aslib(folder)
    if find_table(folder, "scores") or find_table(folder, "descriptions"):
        return read_folder(folder)
    raise InputError(
        f"{str(folder)!r} holds no meta-dataset: a folder of tables needs {_TABLES}; "
        f"an ASlib scenario needs {_ASLIB}."
    )


def read_folder(path: str | os.PathLike[str]) -> MetaDataset:
    """Read a folder of tables, comma-separated, plain or gzip.

    `scores` and `descriptions` name tasks in their first column. `tasks` (columns task
    and family) and `candidates` (a column per hyperparameter, or one column
    `parameters` of Python dictionaries) may be absent. Rows are matched by name, in the
    order of `scores`: tasks without any score are left out, tasks without description
    are kept. `write_folder` adds `meta.json` and what else the record holds; without
    it higher scores are better.

    Raises:
      InputError: if a table is missing or cannot be used; names file and line.
    """
    folder = existing_folder(path)
    meta = _read_meta(folder)
    scores, described = _table(folder, "scores"), _table(folder, "descriptions")
    values = numbers_in(scores)
    known = ~np.logical_and.reduce(np.isnan(values), axis=1)
    costs = 0.0 - values[known] if meta["maximize"] else values[known]
    tasks = tuple(name for name, keep in zip(scores.names, known) if keep)
    candidates, features = scores.columns, described.columns
    _check(scores, described, tasks)
    metric = Metric(meta["metric"], meta["maximize"], meta["cutoff"])
    groups = _groups(meta["groups"], features)
    names = tuple(group.name for group in groups)
    solved = read_optional(folder, "solved", tasks, candidates)
    group_costs = read_optional(folder, "group_costs", tasks, names)
    return MetaDataset(
        name=meta["name"],
        tasks=tasks,
        families=_families(folder, tasks),
        candidates=candidates,
        features=features,
        descriptions=aligned(described, numbers_in(described), tasks),
        costs=costs,
        metric=metric,
        settings=_settings(folder, candidates),
        groups=groups,
        group_costs=np.nan_to_num(group_costs),
        solved=np.where(np.isnan(solved), _ended(costs, metric), solved > 0),
        folds=_folds(folder, tasks),
    )


def _table(folder: Path, stem: str) -> Cells:
    path = find_table(folder, stem)
    if path is None:
        raise InputError(
            f"{str(folder)!r} has no {stem}.csv or {stem}.csv.gz; a folder of tables "
            f"needs {_TABLES}."
        )
    return read_cells(path)


def _folds(folder: Path, tasks: Sequence[str]) -> np.ndarray | None:
    path = find_table(folder, "folds")
    if path is None:
        return None
    cells = read_cells(path)
    values = numbers_in(cells)
    bad = (values != np.floor(values)) & ~np.isnan(values)
    if bad.any():
        line = cells.lines[int(bad.any(axis=1).argmax())]
        raise InputError(f"{cells.what}: line {line} must hold whole numbers.")
    return np.nan_to_num(aligned(cells, values, tasks), nan=-1).astype(int).T


def _check(scores: Cells, described: Cells, tasks: Sequence[str]) -> None:
    """See that there is something to choose and something to choose by."""
    if len(scores.columns) < 2:
        raise InputError(
            f"{scores.what}: line 1 names {len(scores.columns)} candidates; a choice "
            "needs at least 2, a column each, separated by commas."
        )
    if len(tasks) < 2:
        found = f"scores of {len(tasks)} task" if tasks else "no score at all"
        raise InputError(f"{scores.what} holds {found}; it must hold 2 tasks or more.")
    if not described.columns:
        raise InputError(f"{described.what}: line 1 names no features.")
    if not set(tasks) & set(described.names):
        raise InputError(
            f"{described.what} describes none of the tasks of {scores.what}: it has "
            f"{quote(described.names[0])} in line {described.lines[0]}, and the scores "
            f"are of {quote(tasks[0])} and others."
        )


def _read_meta(folder: Path) -> dict[str, Any]:
    """What `meta.json` says, with defaults for what it does not."""
    path = folder / _META
    usual = {"name": folder.absolute().name, "metric": "score", "maximize": True}
    usual |= {"cutoff": None, "groups": []}
    if not path.is_file():
        return usual
    found = read_json(path)
    meta = usual | (found if isinstance(found, dict) else {"name": None})
    texts = isinstance(meta["name"], str) and isinstance(meta["metric"], str)
    cutoff = meta["cutoff"]
    is_time = isinstance(cutoff, int | float) and not isinstance(cutoff, bool)
    if (
        not texts
        or not isinstance(meta["maximize"], bool)
        or not (cutoff is None or (is_time and 0 < cutoff < float("inf")))
        or not _are_groups(meta["groups"])
    ):
        raise InputError(
            f"{str(path)!r} must hold an object in which name and metric are texts, "
            "maximize is true or false, cutoff is null or positive seconds, and groups "
            "is a list of objects with name, features and requires."
        )
    return meta | {"cutoff": None if cutoff is None else float(cutoff)}


def _are_groups(groups: Any) -> bool:
    kinds = {"name": str, "features": list, "requires": list}
    return isinstance(groups, list) and all(
        isinstance(group, dict)
        and all(isinstance(group.get(key), kind) for key, kind in kinds.items())
        for group in groups
    )


def _groups(
    stated: Sequence[Mapping[str, Any]], features: Sequence[str]
) -> tuple[FeatureGroup, ...]:
    place = {name: place for place, name in enumerate(features)}
    return tuple(
        FeatureGroup(
            name=group["name"],
            features=tuple(place[f] for f in map(str, group["features"]) if f in place),
            requires=tuple(map(str, group["requires"])),
        )
        for group in stated
    )


def _families(folder: Path, tasks: Sequence[str]) -> np.ndarray:
    path = find_table(folder, "tasks")
    known: dict[str, str] = {}
    if path is not None:
        cells = read_cells(path)
        if "family" not in cells.columns:
            raise InputError(f"{cells.what}: line 1 must name the columns task,family.")
        place = cells.columns.index("family")
        known = {name: row[place] for name, row in zip(cells.names, cells.rows)}
    numbers: dict[tuple[str, ...], int] = {}
    # A task without a family is one of its own, whatever the others are called.
    keys = [(known[t],) if known.get(t) else (t, "alone") for t in tasks]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def _settings(folder: Path, candidates: Sequence[str]) -> pd.DataFrame | None:
    path = find_table(folder, "candidates")
    if path is None:
        return None
    cells = read_cells(path)
    records = dict(zip(cells.names, setting_records(cells)))
    if not set(candidates) & set(records):
        raise InputError(
            f"{cells.what} names none of the candidates of the scores: it has "
            f"{quote(cells.names[0])} in line {cells.lines[0]}, and the scores are of "
            f"{quote(candidates[0])} and others."
        )
    columns = dict.fromkeys(key for record in records.values() for key in record)
    rows = [records.get(name, {}) for name in candidates]
    # Objects: pandas would turn whole numbers beside gaps into floats.
    return pd.DataFrame(
        {
            key: pd.Series([row.get(key) for row in rows], dtype=object)
            for key in columns
        }
    )


def _ended(costs: np.ndarray, metric: Metric) -> np.ndarray:
    """Where runs ended well, as far as costs alone tell."""
    return costs <= (np.inf if metric.cutoff is None else metric.cutoff)


def write_folder(path: str | os.PathLike[str], data: MetaDataset) -> None:
    """Write a folder of tables from which `read_folder` gets an equal record.

    The folder appears at once with all its files or not at all, and equal records
    give equal bytes.

    Raises:
      InputError: if the folder exists and is not empty, or cannot be written.
      ValueError: if a cost or a description is infinite, or a task has no cost.
    """
    if np.isinf(data.costs).any() or np.isinf(data.descriptions).any():
        raise ValueError("write_folder: costs and descriptions must not be infinite.")
    if np.isnan(data.costs).all(axis=1).any():
        raise ValueError("write_folder: every task must have a cost; drop the others.")
    folder = Path(os.path.abspath(path))
    check_new_folder(folder)
    with whole_folder(folder) as part:
        for name, content in _files(data).items():
            (part / name).write_bytes(content)


def _files(data: MetaDataset) -> dict[str, bytes]:
    def table(columns: Sequence[str], values: np.ndarray) -> bytes:
        rows = ([print_number(value) for value in row] for row in values.tolist())
        return print_table("task", data.tasks, columns, rows)

    scores = 0.0 - data.costs if data.metric.maximize else data.costs
    families = [[str(family)] for family in data.families]
    groups = [group.name for group in data.groups]
    files = {
        _META: _meta_text(data).encode(),
        "scores.csv.gz": table(data.candidates, scores),
        "descriptions.csv.gz": table(data.features, data.descriptions),
        "tasks.csv.gz": print_table("task", data.tasks, ["family"], families),
    }
    if data.settings is not None:
        names = [str(name) for name in data.settings.columns]
        cells = data.settings.to_numpy(dtype=object)
        if names == ["parameters"]:  # Which by itself holds dictionaries.
            cells = [[{"parameters": value}] for (value,) in cells]
        rows = [[print_setting(value) for value in row] for row in cells]
        files["candidates.csv.gz"] = print_table(
            "candidate", data.candidates, names, rows
        )
    if groups:
        files["group_costs.csv.gz"] = table(groups, data.group_costs)
    if not np.array_equal(data.solved, _ended(data.costs, data.metric)):
        files["solved.csv.gz"] = table(data.candidates, data.solved.astype(int))
    if data.folds is not None:
        names = [f"repeat{place}" for place in range(len(data.folds))]
        files["folds.csv.gz"] = table(names, data.folds.T)
    return files


def _meta_text(data: MetaDataset) -> str:
    groups = [
        {
            "name": group.name,
            "features": [data.features[place] for place in group.features],
            "requires": list(group.requires),
        }
        for group in data.groups
    ]
    meta = {
        "name": data.name,
        "metric": data.metric.name,
        "maximize": data.metric.maximize,
        "cutoff": data.metric.cutoff,
        "groups": groups,
    }
    return json.dumps(meta, indent=1, ensure_ascii=False) + "\n"
