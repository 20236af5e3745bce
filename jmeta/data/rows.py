"""Tables of ASlib scenarios: ARFF with keys, and errors that name the line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jmeta.data.arff import row_lines
from jmeta.data.cells import read_text
from jmeta.data.columns import quote
from jmeta.data.tables import read_table
from jmeta.errors import InputError

__all__ = [
    "KEYS",
    "File",
    "fault",
    "finite",
    "has_table",
    "index_of",
    "numbers",
    "read_rows",
    "texts",
    "words",
]

KEYS = ("instance_id", "repetition")
"""The columns that tell the rows of most tables apart."""


class File(NamedTuple):
    """A table of the scenario.

    Attributes:
      what: what errors call it.
      path: where it is.
      columns: by name; the keys as texts.
    """

    what: str
    path: Path
    columns: dict[str, pd.Series]


def has_table(folder: Path, stem: str) -> bool:
    """Whether the scenario has a table that not every scenario has."""
    return (folder / f"{stem}.arff").is_file()


def read_rows(
    folder: Path, stem: str, *columns: str, keys: Sequence[str] = KEYS
) -> File:
    """Read a table.

    Args:
      folder: the scenario's.
      stem: the file's name without suffix.
      *columns: names that it must have beside the keys.
      keys: columns that tell each row from all others.

    Raises:
      InputError: if a column is absent, or keys are missing or repeat; names the line.
    """
    path = folder / f"{stem}.arff"
    frame: Any = read_table(path)
    file = File(repr(str(path)), path, {name: frame[name] for name in list(frame)})
    for name in (*keys, *columns):
        if name not in file.columns:
            raise InputError(
                f"{file.what}: the header, which ends in line {_header_end(path)}, "
                f"declares no column {quote(name)}."
            )
    file.columns.update({key: texts(file.columns[key]) for key in keys})
    for key in keys:
        blank = file.columns[key].isna().to_numpy()
        if blank.any():
            raise fault(file, blank, f"has no {key}.")
    again = index_of(file, keys).duplicated()
    if again.any():
        row = int(again.argmax())
        named = ", ".join(f"{key} {quote(file.columns[key].iloc[row])}" for key in keys)
        raise fault(file, again, f"repeats the row of {named}; keep one of them.")
    return file


def index_of(file: File, keys: Sequence[str] = KEYS) -> pd.MultiIndex:
    """The keys of the rows."""
    return pd.MultiIndex.from_arrays([file.columns[key] for key in keys])


def _header_end(path: Path) -> int:
    lines = read_text(path).splitlines()
    heads = (n for n, line in enumerate(lines, 1) if line.lower().startswith("@data"))
    return next(heads, len(lines))


def fault(file: File, bad: np.ndarray, text: str) -> InputError:
    """An error about the first row that is bad, with its line."""
    line = row_lines(read_text(file.path), file.what)[int(np.argmax(bad))]
    return InputError(f"{file.what}: line {line} {text}")


def texts(series: pd.Series) -> pd.Series:
    """The cells as texts, whole numbers without a point; None where blank."""
    if series.dtype.kind == "f":
        cells = [
            None
            if value != value
            else f"{value:.0f}"
            if value % 1 == 0
            else repr(value)
            for value in series.tolist()
        ]
    else:
        stripped = [c.strip() if isinstance(c, str) else "" for c in series.tolist()]
        cells = [cell or None for cell in stripped]
    return pd.Series(cells, dtype=object)


def words(file: File, name: str) -> np.ndarray:
    """The cells of a column in lower case; "" where blank."""
    return np.array(
        [(text or "").lower() for text in texts(file.columns[name]).tolist()]
    )


def numbers(file: File, name: str) -> np.ndarray:
    """A column as float64, NaN where missing.

    Raises:
      InputError: if a cell is no number; names the line.
    """
    series = file.columns[name]
    if series.dtype.kind == "f":
        return series.to_numpy(dtype=np.float64)
    values = np.full(len(series), np.nan)
    for row, text in enumerate(texts(series).tolist()):
        try:
            values[row] = np.nan if text is None else float(text)
        except ValueError:
            bad = np.arange(len(values)) == row
            raise fault(
                file, bad, f"has {quote(text)} in {quote(name)}; it must be a number."
            ) from None
    return values


def finite(file: File, names: Sequence[str], *, least: float = -np.inf) -> np.ndarray:
    """`(rows, names)` float64 columns, NaN where missing.

    Raises:
      InputError: if a cell is infinite or below `least`; names the line.
    """
    values = np.column_stack([numbers(file, name) for name in names])
    bad = np.isinf(values) | np.less(values, least)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise fault(
            file,
            np.logical_or.reduce(bad, axis=1),
            f"has {values[row, column]} in {quote(names[column])}; correct it or write "
            "? for a missing value.",
        )
    return values
