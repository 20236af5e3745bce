"""Tables with a column of SMILES as few-shot tasks on molecules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jmeta.data.collection import Collection
from jmeta.data.columns import quote
from jmeta.data.smiles import fingerprints_of
from jmeta.data.task_encoding import named_frame
from jmeta.data.task_tables import collected, fit_shared_target, groups_of, target_of
from jmeta.errors import InputError

__all__ = ["smiles_column", "smiles_of", "smiles_tasks"]


def smiles_column(frame: pd.DataFrame) -> str | None:
    """The column that is called smiles, in whatever case; None if there is none."""
    found = [name for name in frame.columns if str(name).lower() == "smiles"]
    return found[0] if found else None


def smiles_of(tables: Mapping[str, Any]) -> list[str]:
    """Of all rows of the tables, one after another.

    Raises:
      InputError: if a table has none, or a row of it.
    """
    smiles: list[str] = []
    for name, table in tables.items():
        frame = named_frame(table)
        column = smiles_column(frame)
        if column is None or bool(pd.isna(frame[column]).any()):
            raise InputError(
                f"table {quote(name)} has no column smiles that is filled in every row."
            )
        smiles += [str(text) for text in frame[column]]
    return smiles


def smiles_tasks(
    tables: Mapping[str, Any],
    targets: Sequence[str] = (),
    *,
    task: str | None = None,
    kind: str | None = None,
) -> Collection:
    """The tasks of tables, whose rows are the fingerprints of their molecules.

    Each target of each group is a task, as in `jmeta.data.task_tables.fit_tasks`;
    columns that are neither SMILES nor target are left alone.

    Args:
      tables: by name.
      targets: columns; none for all but the SMILES and `task`.
      task: the column that names the task of each row; None if a table is a task.
      kind: "classes" or "number", of all targets; None finds out.

    Raises:
      InputError: if a table has no SMILES or one that cannot be read, if a target is
        absent or cannot be used, or if targets are of different kinds.
    """
    frames = {name: named_frame(table) for name, table in tables.items()}
    smiles = smiles_of(frames)
    names = list(targets) or [
        column
        for column in dict.fromkeys(c for frame in frames.values() for c in frame)
        if str(column).lower() != "smiles" and column != task
    ]
    if not names:
        raise InputError("no column beside the SMILES could be a target.")
    fitted = [fit_shared_target(frames, name, kind) for name in names]
    if len({target.kind for target in fitted}) > 1:
        kinds = ", ".join(f"{quote(t.name)} as {t.kind}" for t in fitted)
        raise InputError(
            "the targets must be all classes or all numbers, and were read as "
            f"different kinds: {kinds}; name those meant, or declare the kind."
        )
    groups = [g for name, f in frames.items() for g in groups_of(f, task, name)]
    numbers = [
        np.concatenate([target_of(frame, target) for frame in frames.values()])
        for target in fitted
    ]
    return collected("fingerprint", fingerprints_of(smiles), groups, fitted, numbers)
