"""ARFF, the text format of Weka and OpenML: a header of typed columns, then rows."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from jmeta.data.columns import quote
from jmeta.errors import InputError

__all__ = ["is_arff", "read_arff", "row_lines"]

_NAME = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s{]+)"""
_ATTRIBUTE = re.compile(rf"@attribute\s+{_NAME}\s*(.*)", re.IGNORECASE | re.DOTALL)
# One field and what ends it: quoted, or anything up to a comma.
_FIELD = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(,|$)"""
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NUMERIC = ("numeric", "real", "integer")


def is_arff(text: str) -> bool:
    """Whether the first line that is no comment begins an ARFF header."""
    for line in text.split("\n", 1000):
        line = line.strip()
        if line and not line.startswith("%"):
            return line.lower().startswith(("@relation", "@attribute"))
    return False


def read_arff(text: str, what: str) -> pd.DataFrame:
    """The table in ARFF text: numbers, pandas categories and texts.

    Args:
      text: the content.
      what: what errors call it.

    Raises:
      InputError: if it is not dense, flat ARFF; names the line.
    """
    names, types, rows = _header_and_rows(text, what)
    columns: list[list[str | None]] = [[] for _ in names]
    lines = []
    for line, row in rows:
        if row.startswith("{"):
            raise InputError(
                f"{what}: line {line} is a sparse row; save the table as dense ARFF."
            )
        cells = _split(row)
        if cells is None or len(cells) != len(names):
            found = "unbalanced quotes" if cells is None else f"{len(cells)} values"
            raise InputError(
                f"{what}: line {line} has {found}; the header names {len(names)} "
                "columns."
            )
        lines.append(line)
        for column, cell in zip(columns, cells):
            column.append(cell)
    if not lines:
        raise InputError(f"{what} has a header and no rows.")
    series = [
        _typed(column, kind, name, lines, what)
        for column, kind, name in zip(columns, types, names)
    ]
    frame = pd.concat(series, axis=1)
    frame.columns = names
    return frame


def row_lines(text: str, what: str) -> list[int]:
    """The line of each row of ARFF text that `read_arff` has read, from 1."""
    _, _, rows = _header_and_rows(text, what)
    return [line for line, _ in rows]


def _header_and_rows(
    text: str, what: str
) -> tuple[list[str], list[str | list[str]], Iterator[tuple[int, str]]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbered = (
        (number, line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("%")
    )
    names: list[str] = []
    types: list[str | list[str]] = []
    for number, line in numbered:
        word = line.split(None, 1)[0].lower()
        if word.rstrip(",;") == "@data":  # Spreadsheets leave separators behind.
            if not names:
                raise InputError(f"{what} declares no columns before @data.")
            return names, types, numbered
        if word == "@relation":
            continue
        match = _ATTRIBUTE.fullmatch(line)
        if match is None:
            raise InputError(
                f"{what}: line {number} is {quote(line)}, where the header must say "
                "@attribute NAME TYPE or @data."
            )
        names.append(_unquote(match[1]))
        types.append(_type(match[2].strip(), number, what))
    raise InputError(f"{what} has no @data line; it is cut short or no ARFF.")


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0]:
        return _ESCAPE.sub(r"\1", text[1:-1])
    return text


def _type(text: str, number: int, what: str) -> str | list[str]:
    """The declared levels, or "number" or "string"."""
    if text.startswith("{") and text.endswith("}"):
        levels = _split(text[1:-1])
        if levels is not None:
            return ["?" if level is None else level for level in levels]
    word = (text.split(None, 1) or [""])[0].lower()
    if word in _NUMERIC:
        return "number"
    if word in ("string", "date"):
        return "string"
    raise InputError(
        f"{what}: line {number} declares the type {quote(text)}; a column must be "
        "numeric, real, integer, string, date or a {list} of values."
    )


def _split(row: str) -> list[str | None] | None:
    """The cells of a row, None where missing; None for a row that does not parse."""
    if "'" not in row and '"' not in row:
        stripped = [cell.strip() for cell in row.split(",")]
        return [None if cell == "?" else cell for cell in stripped]
    cells: list[str | None] = []
    position = 0
    while True:
        match = _FIELD.match(row, position)
        if match is None:
            return None
        single, double, bare, end = match.groups()
        quoted = single if single is not None else double
        if quoted is not None:
            cells.append(_ESCAPE.sub(r"\1", quoted))
        elif bare[:1] in ("'", '"'):  # A quote that never closes.
            return None
        else:
            cells.append(None if bare == "?" else bare)
        if not end:
            return cells
        position = match.end()


def _typed(
    column: list[str | None],
    kind: str | list[str],
    name: str,
    lines: list[int],
    what: str,
) -> pd.Series:
    if kind == "string":
        return pd.Series(column, dtype=object)
    if kind == "number":
        values = np.full(len(column), np.nan)
        for place, cell in enumerate(column):
            try:
                values[place] = np.nan if not cell else float(cell)
            except ValueError:
                raise InputError(
                    f"{what}: line {lines[place]} (row {place + 1}) has "
                    f"{quote(cell)} in the number column {quote(name)}; correct it or "
                    "write ? for a missing value."
                ) from None
        return pd.Series(values)
    allowed = set(kind)
    for place, cell in enumerate(column):
        if cell is not None and cell not in allowed:
            raise InputError(
                f"{what}: line {lines[place]} (row {place + 1}) has {quote(cell)} in "
                f"the column {quote(name)}, whose header does not list that value."
            )
    # pandas takes levels once each.
    return pd.Series(pd.Categorical(column, categories=list(dict.fromkeys(kind))))
