"""Text whose lines are rows and whose fields a separator divides: CSV and its kin."""

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence

import pandas as pd

from jmeta.data.columns import MISSING, check_names
from jmeta.errors import InputError

__all__ = ["read_separated"]

_SEPARATORS = (",", ";", "\t", "|")


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records of separated text, without blank lines."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    for row in reader:
        if len(row) > 1 or (row and row[0].strip()):
            yield reader.line_num, row


def _widths(text: str, separator: str) -> list[tuple[int, int]]:
    """Line and number of fields of each record."""
    if '"' in text:
        return [(line, len(row)) for line, row in _rows(text, separator)]
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        (number, line.count(separator) + 1)
        for number, line in enumerate(lines, 1)
        if separator in line or line.strip()
    ]


def _separator(text: str) -> str:
    """The separator that cuts the first lines into the most, equally many, fields."""

    head = "\n".join(text.split("\n", 1000)[:1000])

    def rank(separator: str) -> tuple[bool, int]:
        rows: list[int] = []
        with contextlib.suppress(csv.Error):  # Told by the full reading.
            for _, row in itertools.islice(_rows(head, separator), 20):
                rows.append(len(row))
        header = rows[0] if rows else 0
        return header > 1 and set(rows) == {header}, header

    return max(_SEPARATORS, key=rank)


def read_separated(text: str, what: str) -> pd.DataFrame:
    """The table in text whose first line names the columns; blank lines do not count.

    Args:
      text: the content.
      what: what errors call it.

    Raises:
      InputError: if names repeat, rows differ in length (names the line), quotes do
        not match, or there are no rows.
    """
    separator = _separator(text)
    try:
        _, header = next(_rows(text, separator), (0, []))
        names = [name.strip() for name in header]
        check_names([name for name in names if name], what)
        widths = _widths(text, separator)
    except csv.Error as error:
        raise InputError(
            f"{what} is not well-formed text of fields separated by {separator!r}: "
            f"{error}; check its quotes."
        ) from None
    for line, width in widths:
        if width != len(names):
            raise InputError(
                f"{what}: line {line} has {width} fields and the header has "
                f"{len(names)}; add or remove fields, or quote the text."
            )
    if len(widths) < 2:
        raise InputError(f"{what} has a header and no rows; it must hold a table.")
    european = separator == ";" and re.search(r"[0-9],[0-9]", text)
    comma = european and not re.search(r"[0-9]\.[0-9]", text)
    try:
        frame = pd.read_csv(
            io.StringIO(text, newline=""),
            sep=separator,
            header=0,
            names=list(range(len(names))),
            index_col=False,
            skipinitialspace=True,
            keep_default_na=False,
            na_values=list(MISSING),
            low_memory=False,
            decimal="," if comma else ".",
        )
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} cannot be read as a table: {reason}.") from None
    return _named(frame, names)


def _named(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Name the columns; an unnamed first one of distinct values becomes the index."""
    is_index = len(names) > 1 and not names[0] and frame[0].is_unique
    filled = []
    for place, name in enumerate(names, 1):
        while not name or (not names[place - 1] and name in names):
            name = f"{name}unnamed_{place}"
        filled.append(name)
    frame.columns = filled
    return frame.set_index(filled[0]).rename_axis(None) if is_index else frame
