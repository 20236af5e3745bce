"""Comma-separated text as named rows of cells, read and written without any loss."""

import ast
import csv
import gzip
import io
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jmeta.data.columns import MISSING, check_names, quote
from jmeta.errors import InputError

__all__ = [
    "Cells",
    "aligned",
    "existing_folder",
    "find_table",
    "numbers_in",
    "parse_setting",
    "print_number",
    "print_setting",
    "print_table",
    "read_cells",
    "read_json",
    "read_optional",
    "read_text",
    "setting_records",
]

_GZIP = b"\x1f\x8b"
_MISSING = frozenset(MISSING)
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
_SETTINGS = (bool, int, float, str, tuple, list, dict)


class Cells(NamedTuple):
    """A table of texts whose first column names the rows.

    Attributes:
      what: what errors call it.
      names: the first column.
      columns: the names of the others.
      rows: a list of cells per row, without the first.
      lines: where each row stands, counted from 1.
    """

    what: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[list[str], ...]
    lines: tuple[int, ...]


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """The path of a folder.

    Raises:
      InputError: if nothing is there, or a file.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    what = repr(str(folder))
    if folder.exists():
        raise InputError(f"{what} is a file; name the folder that holds it.")
    raise InputError(f"there is no folder {what}; check its path.")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      InputError: if there is none, or it is no JSON; names the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{str(path)!r}: line {error.lineno} is no JSON: {error.msg}."
        ) from None


def read_text(path: Path) -> str:
    """The UTF-8 text of a file, unpacked if it is gzip.

    Raises:
      InputError: if there is none.
    """
    what = repr(str(path))
    content = b""
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no file {what}; check its path.") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{what}: line {line} is not UTF-8; save it as such."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} cannot be read: {reason}.") from None


def find_table(folder: Path, stem: str) -> Path | None:
    """The path of a table that may be plain or gzip, None if there is none.

    Raises:
      InputError: if there are both.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in (".csv", ".csv.gz")]
    there = [path for path in paths if path.is_file()]
    if len(there) > 1:
        raise InputError(
            f"{str(folder)!r} holds both {stem}.csv and {stem}.csv.gz; remove one."
        )
    return there[0] if there else None


def read_cells(path: Path) -> Cells:
    """Read a table of comma-separated text, plain or gzip; blank lines do not count.

    Raises:
      InputError: if names are blank or repeat, rows differ in length, or there is no
        row; names the line.
    """
    what = repr(str(path))
    lines, records = [], []
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for record in reader:
            if len(record) > 1 or (record and record[0].strip()):
                lines.append(reader.line_num)
                records.append([cell.strip() for cell in record])
    except csv.Error as error:
        raise InputError(
            f"{what}: line {reader.line_num} is no comma-separated text: {error}; "
            "check its quotes."
        ) from None
    if len(records) < 2:
        raise InputError(f"{what} has no rows below its header; it must hold a table.")
    header, lines, top = records[0], lines[1:], f"{what}: line {lines[0]}"
    if "" in header[1:]:
        raise InputError(f"{top} has no name for column {header.index('', 1) + 1}.")
    check_names(header[1:], top)
    seen: set[str] = set()
    for line, (name, *cells) in zip(lines, records[1:]):
        if len(cells) != len(header) - 1:
            raise InputError(
                f"{what}: line {line} has {len(cells) + 1} fields and the header has "
                f"{len(header)}; add or remove fields, or quote the text."
            )
        if not name or name in seen:
            found = f"names {quote(name)} again" if name else "has no name"
            raise InputError(
                f"{what}: line {line} {found}; every row needs a name of its own in "
                "the first column."
            )
        seen.add(name)
    return Cells(
        what=what,
        names=tuple(record[0] for record in records[1:]),
        columns=tuple(header[1:]),
        rows=tuple(record[1:] for record in records[1:]),
        lines=tuple(lines),
    )


def aligned(cells: Cells, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The rows of `values` in the order of `names`, NaN where there is none."""
    place = {name: place for place, name in enumerate(cells.names)}
    longer = np.vstack([values, np.full((1, values.shape[1]), np.nan)])
    return longer[[place.get(name, -1) for name in names]]


def numbers_in(cells: Cells) -> np.ndarray:
    """The cells as `(rows, columns)` float64, NaN where blank.

    Raises:
      InputError: if a cell is no finite number; names line and column.
    """
    values = np.full((len(cells.rows), len(cells.columns)), np.nan)
    for row, texts in enumerate(cells.rows):
        for column, text in enumerate(texts):
            if text in _MISSING:
                continue
            try:
                value = math.inf if "_" in text else float(text)
            except ValueError:
                value = math.inf
            if not math.isfinite(value):
                raise InputError(
                    f"{cells.what}: line {cells.lines[row]} has {quote(text)} in the "
                    f"column {quote(cells.columns[column])}, where a finite number is "
                    "expected; correct it or leave the cell empty."
                )
            values[row, column] = value
    return values


def read_optional(
    folder: Path, stem: str, names: Sequence[str], columns: Sequence[str]
) -> np.ndarray:
    """`(names, columns)` numbers of a table that may be absent, then NaN."""
    path = find_table(folder, stem)
    if path is None:
        return np.full((len(names), len(columns)), np.nan)
    cells = read_cells(path)
    rows = aligned(cells, numbers_in(cells), names)
    place = {name: place for place, name in enumerate(cells.columns)}
    wider = np.column_stack([rows, np.full(len(names), np.nan)])
    return wider[:, [place.get(name, -1) for name in columns]]


def parse_setting(text: str) -> Any:
    """The Python value that a cell shows, the text itself if none; None if blank."""
    if text in _MISSING:
        return None
    if text in ("inf", "-inf"):
        return float(text)
    if text.isidentifier() and text not in ("True", "False"):  # Most are; it is quick.
        return None if text == "None" else text
    try:
        with warnings.catch_warnings():
            # Of the compiler, about escapes in what may be a plain text.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except _UNREADABLE:
        return text
    return value if value is None or isinstance(value, _SETTINGS) else text


def setting_records(cells: Cells) -> list[dict[str, Any]]:
    """The settings in each row, by name.

    A single column `parameters` holds Python dictionaries of them.

    Raises:
      InputError: if a dictionary is none; names the line.
    """
    if cells.columns != ("parameters",):
        return [dict(zip(cells.columns, map(parse_setting, row))) for row in cells.rows]
    records = []
    for line, (text,) in zip(cells.lines, cells.rows):
        record = parse_setting(text) if text else {}
        if not isinstance(record, dict):
            raise InputError(
                f"{cells.what}: line {line} has {quote(text)} in the column "
                "'parameters', where a Python dictionary is expected."
            )
        records.append({str(name): value for name, value in record.items()})
    return records


def print_setting(value: Any) -> str:
    """The cell from which `parse_setting` gets the value back."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return ""
    # Quoted if it would be read as something else, as "1" or "True".
    plain = isinstance(value, str) and parse_setting(value.strip()) == value
    return value if plain else repr(value)


def print_number(value: float | int) -> str:
    """The shortest text that is read as exactly this number; blank for NaN."""
    return "" if math.isnan(value) else repr(value)


def print_table(
    corner: str,
    names: Sequence[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> bytes:
    """A table for `read_cells`; the same bytes whenever it is written."""
    text = io.StringIO(newline="")
    # A lone CR, which readers take for an end, is quoted only if lines end with it.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([corner, *columns])
    writer.writerows([name, *row] for name, row in zip(names, rows))
    return gzip.compress(text.getvalue().encode(), mtime=0)
