"""Which tables of a folder can be measured, and which belong together."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jmeta import metrics
from jmeta.crossval import NUM_FOLDS
from jmeta.data import tables
from jmeta.data.cells import existing_folder, find_table, read_cells
from jmeta.data.columns import quote
from jmeta.errors import InputError
from jmeta.pipeline import Encoded, encode_table
from jmeta.tasks import bucket

__all__ = [
    "LEAST_TASKS",
    "TARGETS",
    "Report",
    "Source",
    "read_families",
    "read_source",
    "survey",
]

TARGETS = ("class", "target")
"""Columns that are taken for the target, in this order; else the last column is."""

LEAST_TASKS = 2
"""The fewest tables that can be learnt from: one to know, one to be asked about."""

Report = Callable[[str, int, int, Mapping[str, Any]], None]
"""Hears `(stage, done, total, numbers)`, as `jmeta.screen.Bars` does."""


class Source(NamedTuple):
    """A file with a table that can be measured.

    Attributes:
      name: of the task: the file's, without suffixes.
      path: of the file.
      target: the column that is predicted.
      kind: of target: `"classes"` or `"number"`.
      shape: padded rows, features and classes. Tables alike share compiled programs.
      digest: of the file's bytes.
    """

    name: str
    path: Path
    target: str
    kind: str
    shape: tuple[int, ...]
    digest: str


def _files(folder: Path) -> dict[str, Path]:
    """The files of tables in a folder by task, in order of their names."""
    short: dict[Path, str] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        stem = path.name.removesuffix(".gz")
        name, dot, suffix = stem.rpartition(".")
        if dot + suffix.lower() in tables.SUFFIXES and name and path.is_file():
            short[path] = name
    counts = Counter(short.values())
    named = {path.name if counts[n] > 1 else n: path for path, n in short.items()}
    named.pop("families", None)
    return {n: path for n, path in named.items() if not path.name.startswith(".")}


def read_source(
    path: Path, target: str | None, kind: str | None, seed: int
) -> tuple[str, Encoded]:
    """The target column of a file and the table, encoded; see `survey`.

    Raises:
      InputError: if the file or the table cannot be used; says why.
    """
    frame = tables.read_table(path)
    if target is None:
        columns = tables.column_names(frame)
        target = next((name for name in TARGETS if name in columns), columns[-1])
    features, series = tables.split_target(frame, target)
    return target, encode_table(features, series, kind=kind, seed=seed)


def survey(
    folder: Path,
    *,
    target: str | None = None,
    kind: str | None = None,
    folds: int = NUM_FOLDS,
    seed: int = 0,
    report: Report | None = None,
) -> tuple[list[Source], dict[str, str]]:
    """See which tables of a folder can be measured, before any of them is.

    Args:
      folder: of files that `jmeta.data.tables` reads.
      target: a column's name; None for one of `TARGETS`, else the last.
      kind: of target, for all; None for the kind that most tables have.
      folds: each must have two rows or more.
      seed: of the subsample of long tables.
      report: hears how far it is.

    Returns:
      What can be measured, and for the other files, by name, why not.

    Raises:
      InputError: if fewer than two tables are left.
    """
    found = _files(existing_folder(folder))
    sources: list[Source] = []
    skipped: dict[str, str] = {}
    for done, (name, path) in enumerate(found.items(), 1):
        try:
            column, encoded = read_source(path, target, kind, seed)
            rows = int(encoded.table.mask.sum())
            if rows < 2 * folds:
                raise InputError(f"{rows} rows are too few for {folds} folds.")
        except InputError as error:
            skipped[path.name] = str(error)
        else:
            classes = bucket(encoded.num_classes, "classes")
            sources.append(
                Source(
                    name=name,
                    path=path,
                    target=column,
                    kind=encoded.target.kind,
                    shape=(*encoded.table.x.shape, classes),
                    digest=hashlib.sha256(path.read_bytes()).hexdigest(),
                )
            )
        if report is not None:
            report("read", done, len(found), {})
    counts = Counter(source.kind for source in sources)
    # Classes where they are as many: they come first in `SCORES`.
    usual = max(metrics.SCORES, key=lambda kind: counts[kind])
    for source in sources:
        if source.kind != usual:
            skipped[source.path.name] = (
                f"its target {quote(source.target)} is of kind {source.kind!r}, and "
                f"those of most tables are of kind {usual!r}; build another "
                "meta-dataset of these."
            )
    sources = [source for source in sources if source.kind == usual]
    if len(sources) < LEAST_TASKS:
        raise InputError(_too_few(folder, len(sources), skipped))
    return sources, skipped


def _too_few(folder: Path, left: int, skipped: Mapping[str, str]) -> str:
    said = f"{str(folder)!r} holds {left} table{'' if left == 1 else 's'} of use"
    need = f"a meta-dataset needs at least {LEAST_TASKS}"
    if not skipped:
        return f"{said}; {need}, each a file that ends in {', '.join(tables.SUFFIXES)}."
    name, why = next(iter(skipped.items()))
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    return f"{said}; {need}. Left out was {name}{more}: {why}"


def read_families(folder: Path, tasks: Sequence[str]) -> dict[str, str] | None:
    """The families that `families.csv` names; None if there is no such file.

    Raises:
      InputError: if it is no table `task,family`, or names no task there is.
    """
    path = find_table(folder, "families")
    if path is None:
        return None
    cells = read_cells(path)
    if cells.columns != ("family",):
        raise InputError(f"{cells.what}: line 1 must be task,family.")
    if not set(cells.names) & set(tasks):
        known = f"{quote(cells.names[0])} in line {cells.lines[0]}"
        raise InputError(
            f"{cells.what} names none of the tables, which are {quote(tasks[0])} and "
            f"others; it has {known if cells.names else 'no rows'}."
        )
    return {name: row[0] for name, row in zip(cells.names, cells.rows) if row[0]}
