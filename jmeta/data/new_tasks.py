"""Descriptions of new tasks, read from a table for a meta-dataset that is known."""

import os
from pathlib import Path

import numpy as np

from jmeta.data.cells import numbers_in, read_cells
from jmeta.data.columns import quote
from jmeta.data.records import MetaDataset
from jmeta.data.tables import did_you_mean
from jmeta.errors import InputError

__all__ = ["read_new_tasks"]


def read_new_tasks(
    path: str | os.PathLike[str], data: MetaDataset
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and descriptions `(new, features)` of new tasks, NaN where missing.

    The file is comma-separated, plain or gzip, and names tasks in its first column;
    the others are the meta-dataset's descriptions by name, in any order. Those that
    are not there are missing.

    Raises:
      InputError: if the table cannot be used, or has a column that is no description;
        names file and line, or column.
    """
    cells = read_cells(Path(path))
    place = {name: place for place, name in enumerate(data.features)}
    unknown = [name for name in cells.columns if name not in place]
    if not set(cells.columns) & set(place):
        raise InputError(
            f"{cells.what} has no column that is a description of {data.name}; its "
            f"first column names the tasks, the others must be of {_some(data)}."
        )
    if unknown:
        near = did_you_mean(unknown[0], data.features)
        hint = f"did you mean {quote(near[0])}?" if near else "remove it."
        raise InputError(
            f"{cells.what}: the column {quote(unknown[0])} is no description of "
            f"{data.name}, which has {_some(data)}; {hint}"
        )
    descriptions = np.full((len(cells.names), len(data.features)), np.nan)
    descriptions[:, [place[name] for name in cells.columns]] = numbers_in(cells)
    return cells.names, descriptions


def _some(data: MetaDataset) -> str:
    shown = ", ".join(quote(name) for name in data.features[:8])
    return f"[{shown}{', ...' if len(data.features) > 8 else ''}]"
