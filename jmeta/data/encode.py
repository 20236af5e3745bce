"""Tables as float32 arrays: column types, the encoder, and the target.

The encoder is fitted on some rows and applied to any. What it does to a number is
affine, apart from a clip far outside the data, and only keeps float32 from losing
digits: imputation and scaling proper happen in `jmeta.tasks.prepare`, on support rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int32

from jmeta.data.columns import (
    MAX_CATEGORIES,
    Inspected,
    inspect,
    levels_of,
    numbers_of,
    quote,
)
from jmeta.data.schema import Column, column_from_json, is_texts
from jmeta.data.tables import column_names, did_you_mean
from jmeta.data.target import (
    MAX_CLASSES,
    MIN_ROWS,
    TargetEncoder,
    fit_target,
    known_rows,
    subsample,
)
from jmeta.errors import InputError

__all__ = [
    "MAX_CATEGORIES",
    "MAX_CLASSES",
    "MIN_ROWS",
    "Column",
    "TableEncoder",
    "TargetEncoder",
    "fit_encoder",
    "fit_target",
    "infer_types",
    "known_rows",
    "subsample",
]

_FORMAT, _VERSION = "jmeta-table-encoder", 1
_LIMIT = 1e8  # Its fourth power times 4,096 rows still fits in float32.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableEncoder:
    """Turns tables with the same columns into arrays; plain Python inside.

    Attributes:
      columns: of the table it was fitted on, in that order.
      notes: what a reader of the report should know, as sentences.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The encoded columns' names, such as "age", "sex=f" and "age missing"."""
        return [name for column in self.columns for name, _ in column.parts]

    @property
    def kinds(self) -> Int32[np.ndarray, " width"]:
        """The encoded columns' kinds: NUMBER, CATEGORY or INDICATOR."""
        kinds = [kind for column in self.columns for _, kind in column.parts]
        return np.array(kinds, dtype=np.int32)

    @property
    def source(self) -> Int32[np.ndarray, " width"]:
        """The place in `columns` that each encoded column comes from."""
        places = [
            place
            for place, column in enumerate(self.columns)
            for _ in range(len(column.parts))
        ]
        return np.array(places, dtype=np.int32)

    @property
    def width(self) -> int:
        """How many encoded columns there are."""
        return sum(len(column.parts) for column in self.columns)

    def extra(self, frame: pd.DataFrame) -> list[str]:
        """The columns of a table that encoding it leaves out."""
        known = {column.name for column in self.columns}
        return [name for name in column_names(frame) if name not in known]

    def encode(
        self, frame: pd.DataFrame
    ) -> tuple[Float[np.ndarray, "n width"], Int32[np.ndarray, " width"]]:
        """Encode a table, whose columns are found by name.

        Missing numbers become NaN; a level that was not there when fitting, and a
        missing one, become zeros in every column of its category. An ordinal's new
        level becomes NaN. Columns that the encoder does not know are left out.

        Returns:
          float32 features, and what each column is (see `kinds`).

        Raises:
          InputError: if a column is missing, holds text where numbers are expected, or
            holds an infinite number; names column and row.
        """
        places = {name: place for place, name in enumerate(column_names(frame))}
        wanted = [column.name for column in self.columns if column.kind != "ignored"]
        absent = [name for name in wanted if name not in places]
        if absent:
            raise InputError(_absent(absent, list(places)))
        x = np.zeros((len(frame), self.width), np.float32)
        start = 0
        for column in self.columns:
            width = len(column.parts)
            if width:
                series = frame.iloc[:, places[column.name]]
                _fill(x[:, start : start + width], column, series)
            start += width
        return x, self.kinds

    def to_json(self) -> dict[str, Any]:
        """A dictionary that survives JSON unchanged; `from_json` reads it."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "columns": [
                dataclasses.asdict(column) | {"levels": list(column.levels)}
                for column in self.columns
            ],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Any) -> "TableEncoder":
        """Read what `to_json` wrote.

        Raises:
          InputError: if it is something else, or of another version.
        """
        if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
            raise InputError(
                f"a table encoder must be an object with format {_FORMAT!r}, got "
                f"{quote(content)}; it was not written by jmeta."
            )
        if content.get("version") != _VERSION:
            raise InputError(
                f"this jmeta reads table encoders of version {_VERSION}, got version "
                f"{quote(content.get('version'))}; fit the model again."
            )
        columns, notes = content.get("columns"), content.get("notes")
        if not (
            isinstance(columns, list) and isinstance(notes, list) and is_texts(notes)
        ):
            raise InputError(
                "a table encoder must list its columns and notes; the file is damaged."
            )
        read = tuple(column_from_json(column) for column in columns)
        if len({column.name for column in read}) < len(read):
            raise InputError("a table encoder names a column twice; it is damaged.")
        return cls(columns=read, notes=tuple(notes))


def _absent(absent: Sequence[str], present: Sequence[str]) -> str:
    hints = [
        f"{quote(near)} for {quote(name)}"
        for name in absent[:8]
        for near in did_you_mean(name, present)[:1]
    ]
    hint = f"; did you mean {', '.join(hints)}?" if hints else "."
    return f"columns missing: {_listed(absent)}; the table has {_listed(present)}{hint}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(quote(name) for name in names[:8])
    return f"[{shown}{', ...' if len(names) > 8 else ''}]"


def _fill(out: np.ndarray, column: Column, series: pd.Series) -> None:
    """Write one column's encoded columns into `out`, which holds zeros."""
    if column.kind in ("number", "flag", "date"):
        values = numbers_of(series, column.name, column.kind)
        missing = np.isnan(values)
        out[:, 0] = _scaled(values, column)
    else:
        codes, levels = levels_of(series, column.name)
        missing = codes < 0
        lookup = {level: place for place, level in enumerate(column.levels)}
        places = np.array([lookup.get(level, -1) for level in levels] + [-1])[codes]
        if column.kind == "ordinal":
            out[:, 0] = _scaled(np.where(places < 0, np.nan, places), column)
        elif column.kind == "category":
            (rows,) = np.nonzero(places >= 0)
            out[rows, places[rows]] = 1.0
    if column.indicator:
        out[:, -1] = missing


def _scaled(values: np.ndarray, column: Column) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (values - column.centre) / column.scale
    return np.clip(z, -_LIMIT, _LIMIT)


def _centre_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Median, and interquartile range or mean absolute deviation as a deviation.

    `values` is finite, not empty and not constant.
    """
    # A power of two keeps 1e308 - (-1e308) finite and loses nothing.
    exponent = int(np.frexp(np.abs(values).max())[1])
    unit = np.ldexp(values, -exponent)
    low, median, high = np.quantile(unit, [0.25, 0.5, 0.75])
    away = float(np.mean(np.abs(unit - median)))
    spread = float(high - low) / 1.349
    scale = spread if spread > 1e-6 * away else 1.2533 * away
    limits = np.finfo(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        centre, scale = np.ldexp([median, scale], exponent)
    return float(centre), float(np.clip(scale, limits.smallest_normal, limits.max))


def infer_types(
    frame: pd.DataFrame, overrides: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What each column would be used as: "number", "category" or "ignore".

    Args:
      frame: features without the target.
      overrides: the same words by column name, for columns to be read differently.

    Raises:
      InputError: as `fit_encoder`, except that no feature need be left.
    """
    words = {"ignored": "ignore", "category": "category", "ordinal": "category"}
    columns, _ = _columns(frame, overrides)
    return {column.name: words.get(column.kind, "number") for column in columns}


def fit_encoder(
    frame: pd.DataFrame, overrides: Mapping[str, str] | None = None
) -> TableEncoder:
    """Learn how to encode a table from some of its rows.

    Numbers (also as text), truth values and ISO dates become one number column;
    categories become one column a level, or above `MAX_CATEGORIES` levels one number
    column, the place among the sorted levels. Every column with missing values gets
    one more column that says where. Constant columns and those in which nearly every
    row has a text of its own are ignored, which `notes` says.

    Args:
      frame: features without the target.
      overrides: "number", "category" or "ignore" by column name.

    Raises:
      InputError: if the table has no rows, two columns of one name or no column left;
        if an override names no column; if a number column holds text or an infinite
        value (names column and row).
    """
    columns, notes = _columns(frame, overrides)
    encoder = TableEncoder(columns=columns, notes=tuple(notes))
    if not encoder.width:
        why = notes[0] if len(notes) == 1 else "every column is constant or ignored."
        raise InputError(
            f"no feature column is left of {len(columns)}: "
            f"{why if columns else 'the table has no column beside the target.'}"
        )
    return encoder


def _columns(
    frame: pd.DataFrame, overrides: Mapping[str, str] | None
) -> tuple[tuple[Column, ...], list[str]]:
    names = column_names(frame)
    overrides = {} if overrides is None else overrides
    for name, word in overrides.items():
        if name not in names:
            raise InputError(_absent([name], names))
        if word not in ("number", "category", "ignore"):
            raise InputError(
                f"the type of column {quote(name)} must be 'number', 'category' or "
                f"'ignore', got {quote(word)}."
            )
    if not len(frame):
        raise InputError("the table has no rows; at least one is needed.")
    columns, notes = [], []
    for place, name in enumerate(names):
        found = inspect(frame.iloc[:, place], name, overrides.get(name))
        column, note = _column(name, found)
        columns.append(column)
        notes += [note] * bool(note)
    return tuple(columns), notes


def _column(name: str, found: Inspected) -> tuple[Column, str]:
    if found.kind == "ignored":
        return Column(name=name, kind="ignored"), found.note
    known = ~np.isnan(found.values)
    indicator = not bool(known.all())
    values = found.values[known]
    if not values.size or values.min() == values.max():
        if indicator and values.size:
            note = f"column {quote(name)} is constant: only where it is missing counts."
            return Column(name=name, kind="missing", indicator=True), note
        why = "it is constant" if values.size else "every value is missing"
        note = f"column {quote(name)} is ignored: {why}."
        return Column(name=name, kind="ignored"), note
    if found.kind == "category" and len(found.levels) <= MAX_CATEGORIES:
        column = Column(
            name=name, kind="category", levels=found.levels, indicator=indicator
        )
        return column, ""
    centre, scale = _centre_and_scale(values)
    ordinal = found.kind == "category"
    column = Column(
        name=name,
        kind="ordinal" if ordinal else found.kind,
        levels=found.levels,
        centre=centre,
        scale=scale,
        indicator=indicator,
    )
    note = (
        f"column {quote(name)} has {len(found.levels)} levels, more than "
        f"{MAX_CATEGORIES}: it is used as one number, the place in sorted order."
    )
    return column, note * ordinal
