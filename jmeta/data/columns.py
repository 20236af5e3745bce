"""One column of a table: its cells as numbers or levels, and the type they suggest."""

import datetime
import decimal
import math
import numbers as abstract
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jmeta.errors import InputError

__all__ = [
    "MAX_CATEGORIES",
    "MISSING",
    "Inspected",
    "check_finite",
    "check_names",
    "inspect",
    "known_cells",
    "level_order",
    "levels_of",
    "numbers_of",
    "quote",
]

MAX_CATEGORIES = 16
"""A category with more levels becomes one ordinal number instead of one-hot columns."""

MISSING = (
    *("", ".", "?", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "null"),
    *("Null", "#N/A", "#NA", "<NA>", "NaT", "-nan"),
)
"""Texts that mean a missing value."""

_MISSING = frozenset(MISSING)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?(inf|infinity)", re.IGNORECASE)
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{3}([0-9]{3})?)?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY = datetime.timedelta(days=1)
_NUMERIC = ("floating", "integer", "mixed-integer-float")
_INTEGRAL: Any = abstract.Integral
_REALS: Any = (abstract.Real, decimal.Decimal)
_FLAGS = {"true": 1.0, "false": 0.0}
_EXPECTED = {"number": "a number", "flag": "true or false", "date": "a date"}


class Inspected(NamedTuple):
    """A column as it was understood.

    Attributes:
      kind: "number", "flag" (true or false), "date", "category" or "ignored".
      values: `(n,)` float64, NaN where missing: a number, or a place in `levels`.
      levels: the texts of a category, sorted.
      note: why the column is ignored or unusual, or "".
    """

    kind: str
    values: np.ndarray = np.zeros(0)  # Of an ignored column.
    levels: tuple[str, ...] = ()
    note: str = ""


def quote(value: object) -> str:
    """The value as it stands in a message: one line of at most about 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_names(names: Sequence[str], what: str) -> None:
    """Raise an `InputError` that lists the names which stand there twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not twice:
        return
    digits = sum(bool(re.fullmatch(r"[-+0-9.eE?]*", name)) for name in names)
    hint = (
        "does the first line hold the columns' names?"
        if 2 * digits > len(names)
        else "rename or remove all but one."
    )
    shown = ", ".join(quote(name) for name in twice[:5])
    raise InputError(f"{what} has duplicate column names: {shown}; {hint}")


def _parse_number(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    return None


def _parse_flag(text: str) -> float | None:
    return _FLAGS.get(text.lower(), _parse_number(text))


def _parse_date(text: str) -> float | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:  # The thirteenth month.
        return None
    return (when.replace(tzinfo=when.tzinfo or datetime.UTC) - _EPOCH) / _DAY


_PARSERS = {"number": _parse_number, "flag": _parse_flag, "date": _parse_date}


def _canonical(text: str) -> str:
    """One spelling for equal numbers, so that 1, 1.0 and "1" are the same level."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return text
    value = float(text)
    if abs(value) >= 1e15:
        return text
    return str(int(value)) if value.is_integer() else repr(value)


def _cell(value: Any) -> str | None:
    """The text of one cell; None where missing.

    Raises:
      TypeError: if it is neither text, a number, a truth value nor a date.
    """
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, _INTEGRAL) and abs(int(value)) < 10**300:
        return str(int(value))
    if isinstance(value, _REALS):
        # Comparing a signalling NaN raises.
        is_decimal = isinstance(value, decimal.Decimal)
        if value.is_nan() if is_decimal else value != value:
            return None
        try:
            return repr(float(value))
        except OverflowError:
            return "inf" if value > 0 else "-inf"
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def levels_of(series: pd.Series, name: str) -> tuple[np.ndarray, list[str]]:
    """The distinct texts of a column.

    Texts are stripped, and equal numbers have one spelling.

    Returns:
      `(n,)` places in the list of texts, -1 where missing; the texts, unsorted.

    Raises:
      InputError: if a cell is no text, number, truth value or date.
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, cells = series.cat.codes.to_numpy(), list(series.cat.categories)
    elif series.dtype.kind in "biuf" or isinstance(series.dtype, pd.StringDtype):
        codes, uniques = pd.factorize(series)
        cells = list(uniques)
    else:
        codes, cells = np.arange(len(series)), series.to_numpy(dtype=object)
    texts: list[str | None] = []
    for place, cell in enumerate(cells):
        try:
            texts.append(_cell(cell))
        except TypeError as error:
            row = int(np.argmax(codes == place)) + 1
            raise InputError(
                f"column {quote(name)} holds a {error} in row {row}; a cell must be a "
                "number, text, a truth value or a date."
            ) from None
    merged: dict[str, int] = {}
    lookup = np.full(len(texts) + 1, -1)  # The last place serves code -1.
    spelt: dict[str, str] = {}
    for place, text in enumerate(texts):
        if text is None:
            continue
        if text not in spelt:
            spelt[text] = _canonical(text)
        if spelt[text] not in _MISSING:
            lookup[place] = merged.setdefault(spelt[text], len(merged))
    codes = lookup[codes]
    # Declared levels that no row has do not count.
    used = np.unique(codes[codes >= 0])
    narrowed = np.full(len(merged) + 1, -1)
    narrowed[used] = np.arange(len(used))
    names = list(merged)
    return narrowed[codes], [names[place] for place in used]


def known_cells(series: pd.Series, name: str) -> np.ndarray:
    """`(n,)` bool: which cells hold a value."""
    values = _typed_numbers(series)
    if values is not None:
        return ~np.isnan(values)
    return levels_of(series, name)[0] >= 0


def level_order(levels: Sequence[str]) -> list[int]:
    """The places of the levels in sorted order: numbers by value, then texts."""

    def rank(place: int) -> tuple[float, str]:
        number = _parse_number(levels[place])
        return (math.inf if number is None else number, levels[place])

    return sorted(range(len(levels)), key=rank)


def check_finite(values: np.ndarray, what: str) -> None:
    """Raise an `InputError` that names the first row where a value is infinite."""
    infinite = np.isinf(values)
    if infinite.any():
        raise InputError(
            f"{what} has infinite values, the first in row {int(infinite.argmax()) + 1}"
            " (or numbers beyond 1e308); correct them or leave the cells empty."
        )


def _typed_numbers(series: pd.Series) -> np.ndarray | None:
    """Float64 values of a column whose dtype says what it is, else None."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return None
    if dtype.kind in "mM":
        index: Any = pd.Index(series)
        aware = getattr(index, "tz", None) is not None
        ticks = (index.tz_convert(None) if aware else index).to_numpy()
        # Not by subtraction of dates, which overflows in nanoseconds.
        day = np.timedelta64(1, "D") / np.timedelta64(1, np.datetime_data(ticks.dtype))
        return np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / day)
    plain = dtype.kind in "biuf"
    if pd.api.types.is_object_dtype(dtype):
        plain = pd.api.types.infer_dtype(series, skipna=True) in _NUMERIC
    try:
        return series.to_numpy(dtype=np.float64, na_value=np.nan) if plain else None
    except OverflowError:  # An integer beyond 1e308, which the text path names.
        return None


def _text_error(
    name: str, kind: str, codes: np.ndarray, levels: Sequence[str], bad: np.ndarray
) -> InputError:
    row = int(np.argmax((codes >= 0) & bad[codes]))
    return InputError(
        f"column {quote(name)} has text in a {kind} column: {quote(levels[codes[row]])}"
        f" in row {row + 1} (the header is not counted), where {_EXPECTED[kind]} is "
        "expected; correct the cell, leave it empty, or declare the column a category."
    )


def numbers_of(series: pd.Series, name: str, kind: str) -> np.ndarray:
    """The cells as float64 numbers, NaN where missing.

    Args:
      series: one column.
      name: what errors call it.
      kind: "number"; "flag", where true is 1; or "date", as days since 1970.

    Raises:
      InputError: if a cell is no such value or is infinite; names the row.
    """
    values = _typed_numbers(series)
    dates = series.dtype.kind in "mM"
    if values is not None and (dates == (kind == "date") or np.isnan(values).all()):
        check_finite(values, f"column {quote(name)}")
        return values
    codes, levels = levels_of(series, name)
    return _parsed(codes, levels, name, kind)


def _parsed(
    codes: np.ndarray, levels: Sequence[str], name: str, kind: str
) -> np.ndarray:
    parsed = [_PARSERS[kind](level) for level in levels]
    bad = np.array([value is None for value in parsed] + [False])
    if bad.any():
        raise _text_error(name, kind, codes, levels, bad)
    values = np.array([*parsed, math.nan], dtype=np.float64)[codes]
    check_finite(values, f"column {quote(name)}")
    return values


def inspect(series: pd.Series, name: str, declared: str | None = None) -> Inspected:
    """Find out what a column is.

    Numbers, also as text, stay numbers however few they are; so do truth values. ISO
    dates become days since 1970. Other text is a category, unless nearly every row has
    a text of its own, as names and identifiers do: then the column is ignored.

    Args:
      series: one column.
      name: what errors and notes call it.
      declared: "number", "category" or "ignore" settles the question.

    Raises:
      InputError: if nearly all cells of a text column are numbers, if a declared
        number is none, or if a number is infinite; names the row.
    """
    if declared == "ignore":
        return Inspected("ignored", note=f"column {quote(name)} is ignored, as asked.")
    if series.dtype.kind == "c":
        raise InputError(
            f"column {quote(name)} holds complex numbers; Complex data not supported."
        )
    values = _typed_numbers(series)
    if values is not None and declared != "category":
        check_finite(values, f"column {quote(name)}")
        kind = {"b": "flag", "m": "date", "M": "date"}.get(series.dtype.kind, "number")
        return Inspected(kind, values=values)
    codes, levels = levels_of(series, name)
    if not levels:
        return Inspected(
            "ignored", note=f"column {quote(name)} is ignored: every value is missing."
        )
    kind = _kind_of_text(series, codes, levels, name, declared)
    if kind in _PARSERS:
        return Inspected(kind, values=_parsed(codes, levels, name, kind))
    if declared is None and _is_identifier(codes, levels):
        return Inspected(
            "ignored",
            note=f"column {quote(name)} is ignored: {len(levels)} different texts in "
            f"{len(codes)} rows look like names or identifiers.",
        )
    order = level_order(levels)
    places = np.full(len(levels) + 1, np.nan)
    places[order] = np.arange(len(levels))
    return Inspected(
        "category", values=places[codes], levels=tuple(levels[place] for place in order)
    )


def _kind_of_text(
    series: pd.Series,
    codes: np.ndarray,
    levels: Sequence[str],
    name: str,
    declared: str | None,
) -> str:
    if declared == "category":
        return "category"
    if all(level.lower() in _FLAGS for level in levels):
        return "flag"
    if declared != "number" and isinstance(series.dtype, pd.CategoricalDtype):
        return "category"
    if all(_parse_date(level) is not None for level in levels):
        return "date"
    is_text = np.array([_parse_number(level) is None for level in levels])
    if declared == "number" or not is_text.any():
        return "number"
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    rows, text_rows = int(counts.sum()), int(counts[is_text].sum())
    numbers = int((~is_text).sum())
    # "0", "1", "2", "3+" is a category; "1.7", "2.4", ..., "abc" has a mistake in it.
    few = numbers <= 10 and 2 * numbers <= rows and text_rows > max(1, 0.02 * rows)
    if 10 * text_rows <= rows and not few:
        raise _text_error(name, "number", codes, levels, np.append(is_text, False))
    return "category"


def _is_identifier(codes: np.ndarray, levels: Sequence[str]) -> bool:
    known = int((codes >= 0).sum())
    if known < 3 or 2 * known < len(codes):
        return False
    return len(levels) == known or (
        len(levels) > MAX_CATEGORIES and len(levels) > 0.9 * known
    )
