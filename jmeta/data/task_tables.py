"""Labelled tables as few-shot tasks, whose features are encoded alike in all."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jmeta.data.collection import Collection
from jmeta.data.columns import levels_of, quote
from jmeta.data.encode import TargetEncoder, fit_encoder, fit_target
from jmeta.data.tables import SUFFIXES, did_you_mean, read_table, split_target
from jmeta.data.task_encoding import TaskEncoding, encode, named_frame
from jmeta.errors import InputError

__all__ = [
    "collected",
    "encode_tasks",
    "fit_shared_target",
    "fit_tasks",
    "groups_of",
    "read_tables",
    "target_of",
]


def read_tables(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> dict[str, pd.DataFrame]:
    """Read a file, several files, or all tables of a folder, by name without suffix.

    Raises:
      InputError: if a folder holds no table, if two files have one name, or if a file
        cannot be read (see `jmeta.data.tables.read_table`).
    """
    one = isinstance(source, str | os.PathLike)
    paths: list[Path] = []
    for path in [Path(source)] if one else [Path(part) for part in source]:
        paths += _tables_of(path) if path.is_dir() else [path]
    tables: dict[str, pd.DataFrame] = {}
    for path in paths:
        name = _stem(path)
        if name in tables:
            raise InputError(
                f"two tables are called {quote(name)}, which is to be the name of a "
                "task; rename one of the files."
            )
        tables[name] = read_table(path)
    return tables


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def _tables_of(folder: Path) -> list[Path]:
    ends = tuple(end for suffix in SUFFIXES for end in (suffix, f"{suffix}.gz"))
    found = [path for path in folder.iterdir() if path.name.lower().endswith(ends)]
    found = sorted(path for path in found if not path.name.startswith("."))
    if not found:
        raise InputError(
            f"the folder {str(folder)!r} holds no table; its files must end in one of "
            f"{', '.join(SUFFIXES)} (also with .gz)."
        )
    return found


def fit_tasks(
    tables: Mapping[str, Any],
    targets: str | Sequence[str],
    *,
    task: str | None = None,
    kind: str | None = None,
    types: Mapping[str, str] | None = None,
) -> tuple[Collection, TaskEncoding]:
    """The tasks of meta-training, and the encoding that is fitted on all their rows.

    Each target of each group is a task: a group is a table, or the rows of all tables
    that have one value in the column `task`. The classes of a target are those of all
    its tasks together. A row without a target is left out of that task alone. A column
    that some tables lack is missing there.

    Args:
      tables: by name; anything that `jmeta.data.tables.as_frame` reads.
      targets: one or several columns; none of them becomes a feature.
      task: the column that names the task of each row; None if a table is a task.
      kind: "classes" or "number", of all targets; None finds out.
      types: "number", "category" or "ignore" by feature, see `fit_encoder`.

    Raises:
      InputError: if a column is absent or cannot be used (see `fit_encoder` and
        `fit_target`), if targets are of different kinds, or if a row has no task.
    """
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    if not names or not tables or len({*names, task}) < len(names) + 1:
        raise InputError(
            "tasks need at least one table and one target, and the columns of targets "
            f"and of the task's name must differ; got {len(tables)} table(s), targets "
            f"{list(names)} and task {task!r}."
        )
    frames = {name: named_frame(table) for name, table in tables.items()}
    for name, frame in frames.items():
        with _within(name, frames):
            _check_columns(frame, names, task)
    apart = {*names, task}
    features = [
        frame.loc[:, [column not in apart for column in frame.columns]]
        for frame in frames.values()
    ]
    joined = pd.DataFrame(pd.concat(features, ignore_index=True))
    try:
        encoder = fit_encoder(joined, types)
        fitted = tuple(fit_shared_target(frames, name, kind) for name in names)
    except InputError as error:
        if len(frames) == 1 or " row " not in str(error):
            raise
        where = ", ".join(map(quote, frames))
        raise InputError(f"{error} (Rows are counted through {where}.)") from None
    if len({target.kind for target in fitted}) > 1:
        kinds = ", ".join(f"{quote(t.name)} as {t.kind}" for t in fitted)
        raise InputError(
            "the targets must be all classes or all numbers, and were read as "
            f"different kinds: {kinds}; declare the kind."
        )
    encoding = TaskEncoding(
        features=encoder,
        targets=fitted,
        task=task,
        notes=encoder.notes + tuple(_absences(frames, list(joined.columns))),
    )
    return encode_tasks(encoding, frames), encoding


@contextlib.contextmanager
def _within(name: str, tables: Mapping[str, Any]) -> Iterator[None]:
    """Name the table in an error, where there are several."""
    try:
        yield
    except InputError as error:
        if len(tables) == 1:
            raise
        raise InputError(f"table {quote(name)}: {error}") from None


def _check_columns(
    frame: pd.DataFrame, targets: Sequence[str], task: str | None
) -> None:
    if task is not None and task not in frame.columns:
        near = did_you_mean(task, list(frame.columns))
        hint = f"did you mean {quote(near[0])}?" if near else "name another."
        raise InputError(f"no column {quote(task)} names the task; {hint}")
    _check_targets(frame, targets)


def _check_targets(frame: pd.DataFrame, targets: Sequence[str]) -> None:
    if not set(targets) & set(frame.columns):
        split_target(frame, targets[0])  # Says which columns there are.


def fit_shared_target(
    frames: Mapping[str, pd.DataFrame], name: str, kind: str | None
) -> TargetEncoder:
    """A target as all tables have it that have it at all.

    Raises:
      InputError: if none has, or it cannot be used.
    """
    there = [
        split_target(frame, name)[1]
        for frame in frames.values()
        if name in frame.columns
    ]
    if not there:
        near = did_you_mean(name, list(next(iter(frames.values())).columns))
        hint = f"; did you mean {quote(near[0])}?" if near else "."
        raise InputError(f"no table has the target column {quote(name)}{hint}")
    return fit_target(pd.concat(there, ignore_index=True), kind)


def _absences(frames: Mapping[str, pd.DataFrame], columns: list[str]) -> Iterator[str]:
    for column in columns:
        without = [name for name, frame in frames.items() if column not in frame]
        if without:
            yield (
                f"column {quote(column)} is absent from "
                f"{', '.join(map(quote, without))}: it counts as missing there."
            )


def encode_tasks(encoding: TaskEncoding, tables: Mapping[str, Any]) -> Collection:
    """The tasks of other tables, by an encoding that was fitted before.

    A table without the column that names the task is a task. Tasks are called as their
    group, or as the target where there is but one group and several targets, else as
    both. Those of one group are of one family, since they share rows; where there is
    but one group, each is of its own.

    Raises:
      InputError: see `encode`; also if a row has no task, if a target has a class that
        it did not have in meta-training, or if no row has a target.
    """
    frames = {name: named_frame(table) for name, table in tables.items()}
    x, groups = [], []
    targets: list[list[np.ndarray]] = [[] for _ in encoding.targets]
    for name, frame in frames.items():
        with _within(name, frames):
            _check_targets(frame, [target.name for target in encoding.targets])
            x.append(encode(encoding, frame))
            groups += groups_of(frame, encoding.task, name)
            for values, target in zip(targets, encoding.targets):
                values.append(target_of(frame, target))
    values = [np.concatenate(y) for y in targets]
    return collected(
        "numbers",
        np.concatenate(x).astype(np.float32),
        groups,
        encoding.targets,
        values,
    )


def groups_of(frame: pd.DataFrame, task: str | None, name: str) -> list[str]:
    """The group of each row; the table's name where no column tells.

    Raises:
      InputError: if a row has none.
    """
    if task is None or task not in frame.columns:
        return [name] * len(frame)
    codes, names = levels_of(split_target(frame, task)[1], task)
    if (codes < 0).any():
        raise InputError(
            f"row {int((codes < 0).argmax()) + 1} (the header is not counted) has no "
            f"task in the column {quote(task)}; fill it in, or remove the row."
        )
    return [names[code] for code in codes]


def target_of(frame: pd.DataFrame, target: TargetEncoder) -> np.ndarray:
    """Places of classes or numbers in their own unit; NaN where missing."""
    if target.name not in frame.columns:
        return np.full(len(frame), np.nan)
    y = target.encode(split_target(frame, target.name)[1])
    if target.kind == "number":
        return np.where(np.isnan(y), np.nan, target.decode(y))
    return np.where(y < 0, np.nan, y)


def collected(
    form: str,
    x: np.ndarray,
    groups: Sequence[str],
    targets: Sequence[TargetEncoder],
    numbers: Sequence[np.ndarray],
) -> Collection:
    """Tasks of rows that are encoded: each target of each group; see `encode_tasks`.

    Args:
      form: of the rows.
      x: rows.
      groups: of each row.
      targets: what is predicted.
      numbers: of each target, those of the rows; see `target_of`.

    Raises:
      InputError: if no row has a target.
    """
    order = list(dict.fromkeys(groups))
    places = {group: place for place, group in enumerate(order)}
    of_row = np.array([places[group] for group in groups])
    by_target = len(order) == 1 and len(targets) > 1
    names, family, rows, values, classes = [], [], [], [], []
    for place, group in enumerate(order):
        for y, target in zip(numbers, targets):
            known = np.flatnonzero((of_row == place) & ~np.isnan(y))
            if not len(known):
                continue
            both = f"{group}: {target.name}" if len(targets) > 1 else group
            names.append(target.name if by_target else both)
            family.append(target.name if by_target else group)
            rows.append(known)
            values.append(y[known])
            classes.append(tuple(map(str, target.classes)))
    if not names:
        raise InputError("no row has a target; there is no task.")
    y = np.concatenate(values)
    number = targets[0].kind == "number"
    return Collection(
        form=form,
        x=x,
        tasks=np.array(names),
        family=np.array(family),
        offset=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        rows=np.concatenate(rows).astype(np.int32),
        label=np.zeros(len(y), np.int32) if number else y.astype(np.int32),
        value=(y if number else np.full(len(y), np.nan)).astype(np.float32),
        classes=tuple(classes),
    )
