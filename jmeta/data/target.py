"""The target of a table: classes or a number, and which rows stand for it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Num, Shaped

from jmeta.data.columns import (
    check_finite,
    inspect,
    known_cells,
    levels_of,
    numbers_of,
    quote,
)
from jmeta.errors import InputError

__all__ = [
    "MAX_CLASSES",
    "MIN_ROWS",
    "TargetEncoder",
    "fit_target",
    "known_rows",
    "subsample",
]

MIN_ROWS = 6
"""The fewest labelled rows: three to train on and three to judge by, once each way."""

MAX_CLASSES = 100
"""More distinct values than this are not classes."""

_FEW = 20  # Whole numbers with more distinct values than this are a number.
_FORMAT, _VERSION = "jmeta-target-encoder", 1

Label = bool | int | float | str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetEncoder:
    """Turns a target into what learners use, and predictions back.

    Attributes:
      name: of the column.
      kind: "classes" or "number".
      classes: sorted values as they were in the table; empty for a number.
      centre: mean of a number over the rows it was fitted on, in its own unit.
      scale: its standard deviation there; errors times `scale` are in its own unit.
      notes: what a reader of the report should know, as sentences.
    """

    name: str
    kind: str
    classes: tuple[Label, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    notes: tuple[str, ...] = ()

    def encode(self, series: pd.Series) -> Num[np.ndarray, " n"]:
        """Classes as int32 places in `classes`, or a number standardised in float32.

        A missing value becomes -1 or NaN: drop such rows first (see `known_rows`).

        Raises:
          InputError: if a value is no class that was seen when fitting, is no number
            or is infinite; names the row.
        """
        if self.kind == "number":
            values = numbers_of(series, self.name, "number")
            with np.errstate(over="ignore"):
                z = (values - self.centre) / self.scale
            return np.clip(z, -1e15, 1e15).astype(np.float32)
        codes, levels = levels_of(series, self.name)
        lookup = {_level(label): place for place, label in enumerate(self.classes)}
        places = np.array([lookup.get(level, -1) for level in levels] + [-1])[codes]
        unseen = (codes >= 0) & (places < 0)
        if unseen.any():
            row = int(unseen.argmax())
            raise InputError(
                f"the target {quote(self.name)} has the value "
                f"{quote(levels[codes[row]])} in row {row + 1}, which is none of its "
                f"{len(self.classes)} classes; fit again with rows of that class."
            )
        return places.astype(np.int32)

    def decode(self, y: Num[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        """Places in `classes` back to labels, or standardised numbers to their unit."""
        if self.kind == "number":
            most = np.finfo(np.float64).max
            with np.errstate(over="ignore"):
                values = np.asarray(y, np.float64) * self.scale + self.centre
            return np.clip(values, -most, most)
        return self.labels[np.asarray(y)]

    @property
    def labels(self) -> Shaped[np.ndarray, " classes"]:
        """`classes` as an array: of object type where they are texts."""
        is_text = bool(self.classes) and isinstance(self.classes[0], str)
        return np.array(self.classes, dtype=object if is_text else None)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that survives JSON unchanged; `from_json` reads it."""
        content = dataclasses.asdict(self)
        lists = {"classes": list(self.classes), "notes": list(self.notes)}
        return {"format": _FORMAT, "version": _VERSION} | content | lists

    @classmethod
    def from_json(cls, content: Any) -> "TargetEncoder":
        """Read what `to_json` wrote.

        Raises:
          InputError: if it is something else, of another version, or damaged.
        """
        if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
            raise InputError(
                f"a target encoder must be an object with format {_FORMAT!r}, got "
                f"{quote(content)}; it was not written by jmeta."
            )
        if content.get("version") != _VERSION:
            raise InputError(
                f"this jmeta reads target encoders of version {_VERSION}, got version "
                f"{quote(content.get('version'))}; fit the model again."
            )
        names = [field.name for field in dataclasses.fields(cls)]
        if not _sound({name: content.get(name) for name in names}):
            raise InputError("a target encoder is damaged; fit the model again.")
        fields = {name: content[name] for name in names}
        return cls(
            **fields
            | {
                "classes": tuple(fields["classes"]),
                "notes": tuple(fields["notes"]),
                "centre": float(fields["centre"]),
                "scale": float(fields["scale"]),
            }
        )


def _sound(fields: Mapping[str, Any]) -> bool:
    classes, notes = fields["classes"], fields["notes"]
    lists = isinstance(classes, list) and isinstance(notes, list)
    affine = (fields["centre"], fields["scale"])
    return (
        lists
        and isinstance(fields["name"], str)
        and fields["kind"] in ("classes", "number")
        and all(isinstance(label, Label) for label in classes)
        and all(isinstance(note, str) for note in notes)
        and (len(classes) >= 2) == (fields["kind"] == "classes")
        and all(isinstance(x, int | float) and math.isfinite(x) for x in affine)
        and fields["scale"] > 0
    )


def _level(label: Label) -> str:
    """The text that `levels_of` gives for a class."""
    return levels_of(pd.Series([label], dtype=object), "")[1][0]


def known_rows(series: pd.Series) -> Bool[np.ndarray, " n"]:
    """Which rows have a target.

    Raises:
      InputError: if a cell is no text, number, truth value or date.
    """
    return known_cells(series, str(series.name))


def fit_target(series: pd.Series, kind: str | None = None) -> TargetEncoder:
    """Find out what is to be predicted; rows without a target do not count.

    Texts, truth values and declared categories are classes. Numbers are classes where
    they are two, or whole and at most 20 with at least three rows each on average.

    Args:
      series: the target column.
      kind: "classes" or "number" settles the question; None infers it.

    Raises:
      InputError: if all or nearly all values are missing, if there is one value only
        or more than `MAX_CLASSES` classes, or if a number is infinite or is text.
    """
    name = str(series.name)
    if kind not in (None, "classes", "number"):
        raise InputError(
            f"the kind of target must be 'classes' or 'number', got {quote(kind)}."
        )
    if series.dtype.kind in "mM":
        raise InputError(
            f"the target {quote(name)} holds dates, which cannot be predicted; turn "
            "them into a number, such as days since a first date."
        )
    known = known_rows(series)
    rows = int(known.sum())
    if not rows:
        raise InputError(
            f"every value of the target {quote(name)} is missing; name another column."
        )
    if rows < MIN_ROWS:
        raise InputError(
            f"the target {quote(name)} has {rows} sample(s) with a known value "
            f"(n_samples={rows}); at least {MIN_ROWS} are needed."
        )
    found = "category" if kind == "classes" else _kind_of_values(series, name, kind)
    if found != "category":
        values = numbers_of(series, name, found)
        if kind == "number" or not _few_whole(values[known]):
            return _number(values[known], name)
    return _classes(series, name)


def _kind_of_values(series: pd.Series, name: str, kind: str | None) -> str:
    """How `inspect` reads the target: "number", "flag" or "category"."""
    is_category = isinstance(series.dtype, pd.CategoricalDtype)
    if kind is None and (is_category or series.dtype.kind == "b"):
        return "category"
    found = inspect(series, name, kind).kind
    if kind is None and found in ("flag", "date"):
        return "category"
    return "category" if found == "ignored" else found


def _few_whole(values: np.ndarray) -> bool:
    distinct = len(np.unique(values))
    if distinct <= 2:
        return True
    whole = bool((values == np.floor(values)).all())
    return whole and distinct <= _FEW and 3 * distinct <= len(values)


def _number(values: np.ndarray, name: str) -> TargetEncoder:
    check_finite(values, f"the target {quote(name)}")
    if values.min() == values.max():
        raise InputError(
            f"the target {quote(name)} has the one value {values[0]:g} in every row; "
            "there is nothing to predict."
        )
    # A power of two keeps sums and squares of 1e300 finite and loses nothing.
    exponent = int(np.frexp(np.abs(values).max())[1])
    unit = np.ldexp(values, -exponent)
    with np.errstate(over="ignore", under="ignore"):
        centre, scale = np.ldexp([unit.mean(), unit.std()], exponent)
    limits = np.finfo(np.float64)
    scale = np.clip(scale, limits.smallest_normal, limits.max)
    return TargetEncoder(
        name=name, kind="number", centre=float(centre), scale=float(scale)
    )


def _classes(series: pd.Series, name: str) -> TargetEncoder:
    codes, levels = levels_of(series, name)
    if len(levels) == 1:
        raise InputError(
            f"the target {quote(name)} has only one class, {quote(levels[0])}; there "
            "is nothing to tell apart."
        )
    if len(levels) > MAX_CLASSES:
        raise InputError(
            f"the target {quote(name)} has {len(levels)} classes, more than "
            f"{MAX_CLASSES}; treat it as a number, or merge rare classes."
        )
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    labels = [_label(series, codes, place, levels) for place in range(len(levels))]
    if len({type(label) for label in labels}) > 1:
        labels = list(levels)
    order = sorted(range(len(labels)), key=lambda place: labels[place])
    single = [quote(labels[place]) for place in order if counts[place] == 1]
    note = (
        f"the target {quote(name)} has {len(single)} class(es) with one row, "
        f"{', '.join(single[:5])}: what is said about them is a guess."
    )
    return TargetEncoder(
        name=name,
        kind="classes",
        classes=tuple(labels[place] for place in order),
        notes=(note,) if single else (),
    )


def _label(
    series: pd.Series, codes: np.ndarray, place: int, levels: list[str]
) -> Label:
    """The first cell of a class as plain Python."""
    cell = series.iloc[int(np.argmax(codes == place))]
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(cell, float) and (codes < 0).any() and cell.is_integer():
        return int(cell)  # pandas turns whole numbers into floats beside a gap.
    if isinstance(cell, bool | int | float):
        if isinstance(cell, float) and math.isinf(cell):
            raise InputError(
                f"the target {quote(series.name)} has infinite values, the first in "
                f"row {int(np.argmax(codes == place)) + 1}; correct them."
            )
        return cell
    return cell.strip() if isinstance(cell, str) else levels[place]


def subsample(
    y: Num[np.ndarray, " n"], kind: str, *, limit: int = 4096, seed: int = 0
) -> Int[np.ndarray, " rows"]:
    """At most `limit` rows of a long table, the same ones for the same seed.

    Classes keep their shares, and every class keeps a row.

    Args:
      y: the encoded target.
      kind: "classes" or "number".
      limit: at least the number of classes.
      seed: of NumPy's generator.

    Returns:
      Row numbers in increasing order; all of them if they fit.

    Raises:
      ValueError: if `limit` is below 1 or below the number of classes.
    """
    if len(y) <= limit:
        return np.arange(len(y))
    random = np.random.default_rng(seed)
    if kind != "classes":
        if limit < 1:
            raise ValueError(f"subsample: limit must be at least 1, got {limit}.")
        return np.sort(random.permutation(len(y))[:limit])
    _, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    if limit < len(counts):
        raise ValueError(
            f"subsample: limit={limit} is below the {len(counts)} classes; raise it."
        )
    # Within a shuffled class the j-th of c rows ranks (j + 1/2) / c, so that taking
    # the lowest ranks takes equal shares; the first row of each class comes before.
    shuffled = random.permutation(len(y))
    by_class = shuffled[np.argsort(place[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    within = np.arange(len(y)) - np.repeat(starts, counts)
    rank = np.where(within == 0, -1.0, (within + 0.5) / np.repeat(counts, counts))
    return np.sort(by_class[np.argsort(rank, kind="stable")[:limit]])
