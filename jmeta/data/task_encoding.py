"""How tables of few-shot tasks become numbers: fitted once, on those of meta-training.

A new task is few rows, from which neither types nor scales could be told.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jmeta.data.columns import quote
from jmeta.data.encode import TableEncoder, TargetEncoder
from jmeta.data.tables import as_frame, column_names, did_you_mean
from jmeta.errors import InputError
from jmeta.tasks import NUMBER

__all__ = ["TaskEncoding", "encode", "named_frame"]

_FORMAT, _VERSION = "jmeta-task-encoding", 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskEncoding:
    """How the tables of meta-training were encoded; plain Python inside.

    Attributes:
      features: encodes the columns that are neither a target nor the task's name.
      targets: one encoder each; all of one kind.
      task: the column that names the task of each row; None if a table is a task.
      notes: what a reader of the report should know, as sentences.
    """

    features: TableEncoder
    targets: tuple[TargetEncoder, ...]
    task: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dictionary that survives JSON unchanged; `from_json` reads it."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "features": self.features.to_json(),
            "targets": [target.to_json() for target in self.targets],
            "task": self.task,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Any) -> "TaskEncoding":
        """Read what `to_json` wrote.

        Raises:
          InputError: if it is something else, of another version, or damaged.
        """
        if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
            raise InputError(
                f"an encoding of tasks must be an object with format {_FORMAT!r}, got "
                f"{quote(content)}; it was not written by jmeta."
            )
        if content.get("version") != _VERSION:
            raise InputError(
                f"this jmeta reads encodings of tasks of version {_VERSION}, got "
                f"version {quote(content.get('version'))}; train again."
            )
        targets, notes = content.get("targets"), content.get("notes")
        task = content.get("task")
        if not (
            isinstance(targets, list)
            and targets
            and isinstance(notes, list)
            and all(isinstance(note, str) for note in notes)
            and isinstance(task, str | None)
        ):
            raise InputError("an encoding of tasks is damaged; train again.")
        read = tuple(TargetEncoder.from_json(target) for target in targets)
        if len({target.kind for target in read}) > 1:
            raise InputError("an encoding of tasks is damaged; train again.")
        return cls(
            features=TableEncoder.from_json(content.get("features")),
            targets=read,
            task=task,
            notes=tuple(notes),
        )


def named_frame(table: Any) -> pd.DataFrame:
    """Any table that `as_frame` reads, its columns' names as text."""
    frame = as_frame(table)
    return frame.set_axis(column_names(frame), axis=1)


def encode(encoding: TaskEncoding, frame: Any) -> Float[np.ndarray, "n width"]:
    """The features of a table, as those of meta-training were encoded; finite.

    Numbers have about unit deviation and are squashed smoothly towards +-4. A missing
    one is 0, the median of meta-training, and a missing category or one that was not
    there is zeros; the indicator of the column says where a value is missing. Targets
    and the column that names the task may be there or not, and so may columns that had
    missing values in meta-training.

    Raises:
      InputError: if a column is absent or was not there in meta-training, or if a cell
        cannot be used; names it.
    """
    frame = named_frame(frame)
    columns = encoding.features.columns
    targets = [target.name for target in encoding.targets]
    known = {column.name for column in columns} | {*targets, encoding.task}
    unknown = [name for name in frame.columns if name not in known]
    if unknown:
        near = [
            f"{quote(hint)} for {quote(name)}"
            for name in unknown
            for hint in did_you_mean(name, [column.name for column in columns])[:1]
        ]
        hint = f"did you mean {', '.join(near[:8])}? Else " if near else ""
        raise InputError(
            f"columns that were not there in meta-training: "
            f"{', '.join(map(quote, unknown[:8]))}{', ...' * (len(unknown) > 8)}; "
            f"{hint}remove them."
        )
    absent = {
        column.name: np.nan
        for column in columns
        if column.indicator and column.name not in frame.columns
    }
    x, kinds = encoding.features.encode(frame.assign(**absent))
    z = np.nan_to_num(x, nan=0.0)
    # As `jmeta.tasks.apply_scaling` does with the statistics of a support.
    return np.where(kinds == NUMBER, z / np.sqrt(1.0 + np.square(z / 4.0)), z)
