"""One self-contained HTML page from plain data: what the reports are written with.

The page reads from disk, asks the network for nothing, follows the reader's light or
dark setting, and escapes all that it is given.
"""

import base64
import importlib.resources
import math
import os
import pathlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from jmeta.publish import write_whole

__all__ = [
    "Facts",
    "Heading",
    "Items",
    "Mark",
    "Picture",
    "Section",
    "Table",
    "Text",
    "cells",
    "numbers",
    "picture",
    "write_report",
]

MISSING = "–"
"""What a cell without a value shows."""


class Heading(NamedTuple):
    """A heading inside a section."""

    text: str


class Text(NamedTuple):
    """A paragraph; a note is one that the reader should not overlook."""

    text: str
    note: bool = False


class Items(NamedTuple):
    """A list of sentences."""

    items: tuple[str, ...]


class Facts(NamedTuple):
    """Figures to see at a glance: `(label, value, detail)`, the detail may be empty."""

    facts: tuple[tuple[str, str, str], ...]


class Picture(NamedTuple):
    """An image inside the page: its media type and its bytes in base64."""

    media: str
    data: str
    alt: str
    caption: str = ""


class Mark(NamedTuple):
    """What a row draws beside its numbers: a bar from 0, or an interval.

    Attributes:
      low, high: the ends; a bar has one of them at 0.
      at: the value inside an interval; None for a bar.
    """

    low: float
    high: float
    at: float | None = None


class Table(NamedTuple):
    """A table; columns of numbers share their decimals and stand right.

    Attributes:
      caption: what it shows; every table has one.
      columns: names.
      rows: cells, the first of which names the row; None where there is none.
      strong: places of rows to stand out.
      best: `(row, column)` of cells to stand out.
      drawn: the name of the column of `marks`; empty for none.
      marks: one a row, drawn on one scale; None for a row without.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    strong: frozenset[int] = frozenset()
    best: frozenset[tuple[int, int]] = frozenset()
    drawn: str = ""
    marks: tuple[Mark | None, ...] = ()


class Section(NamedTuple):
    """A heading and what stands below it."""

    heading: str
    blocks: tuple[Heading | Text | Items | Facts | Picture | Table, ...]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _decimals(value: float) -> int | None:
    """Decimals that show four digits; None where only an exponent reads well."""
    if value == 0.0:
        return 0
    if not 1e-3 <= value < 1e7:
        return None
    return min(max(3 - math.floor(math.log10(value)), 0), 4)


def numbers(values: Sequence[Any]) -> list[str]:
    """Numbers as people read them, with the same decimals for all of them.

    The largest shows four digits. What is missing or not finite is a dash; a whole
    number among whole numbers has no decimals.
    """
    finite = [float(v) for v in values if _is_number(v) and math.isfinite(v)]
    whole = all(isinstance(v, Integral) for v in values if _is_number(v))
    largest = max((abs(v) for v in finite), default=0.0)
    decimals = 0 if whole else _decimals(largest)

    def text(value: Any) -> str:
        if not _is_number(value) or not math.isfinite(value):
            return MISSING
        if decimals is None or (value and abs(value) < 0.5 * 10.0**-decimals):
            return f"{value:.3g}"
        return f"{value:,.{decimals}f}"

    return [text(value) for value in values]


def cells(values: Sequence[Any]) -> tuple[list[str], str]:
    """The texts of one column and its style: "number" or "text"."""
    present = [value for value in values if value is not None]
    if present and all(_is_number(value) for value in present):
        return numbers(values), "number"
    texts = [MISSING if value is None else str(value) for value in values]
    return texts, "text"


def _drawn(marks: Sequence[Mark | None]) -> list[dict[str, Any] | None]:
    """Marks in percent of the width that all of them share."""
    ends = [float(end) for mark in marks if mark is not None for end in mark[:2]]
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    reach = (high - low) or 1.0

    def place(value: float) -> float:
        share = (value - low) / reach if math.isfinite(value) else 0.0
        return round(100.0 * min(max(share, 0.0), 1.0), 2)

    def laid_out(mark: Mark | None) -> dict[str, Any] | None:
        if mark is None or not all(math.isfinite(end) for end in mark[:2]):
            return None
        start, end = place(mark.low), place(mark.high)
        return {
            "low": start,
            "high": end,
            "width": round(max(end - start, 0.3), 2),
            "zero": place(0.0),
            "at": None if mark.at is None else place(mark.at),
            "style": "against" if mark.low < 0.0 else "for",
        }

    return [laid_out(mark) for mark in marks]


def _table(table: Table) -> dict[str, Any]:
    """A table as the template draws it."""
    places = range(len(table.columns))
    columns = [cells([row[place] for row in table.rows]) for place in places]
    marks = _drawn(table.marks) if table.drawn else [None] * len(table.rows)

    def cell(row: int, column: int) -> tuple[str, str]:
        texts, style = columns[column]
        best = " best" if (row, column) in table.best else ""
        return texts[row], style + best

    return {
        "caption": table.caption,
        "columns": [(table.columns[place], columns[place][1]) for place in places],
        "drawn": table.drawn,
        "rows": [
            {
                "cells": [cell(row, column) for column in places],
                "mark": marks[row],
                "strong": row in table.strong,
            }
            for row in range(len(table.rows))
        ],
    }


def picture(path: str | os.PathLike[str], *, alt: str, caption: str = "") -> Picture:
    """An image file (PNG or SVG) as part of a page.

    Args:
      path: of the image.
      alt: what it shows, for those who cannot see it.
      caption: below it.

    Raises:
      ValueError: if the file is neither PNG nor SVG by its name.
    """
    path = pathlib.Path(path)
    media = {".png": "image/png", ".svg": "image/svg+xml"}.get(path.suffix.lower())
    if media is None:
        raise ValueError(f"picture: {path.name} must end in .png or .svg.")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(media=media, data=data, alt=alt, caption=caption)


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    footer: str = "Written by jmeta.",
) -> None:
    """Write one HTML page, whole or not at all; the same input gives the same bytes.

    Args:
      path: of the page; folders above it are made.
      title: of the page, as plain text, like every other text.
      sections: what stands on it, in order.
      subtitle: a line below the title.
      footer: a line at the end.
    """
    import jinja2

    source = importlib.resources.files("jmeta") / "templates" / "report.html"
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    laid_out = [
        {
            "heading": section.heading,
            "blocks": [
                (type(b).__name__, _table(b) if isinstance(b, Table) else b)
                for b in section.blocks
            ],
        }
        for section in sections
    ]
    page = environment.from_string(source.read_text(encoding="utf-8")).render(
        title=title, subtitle=subtitle, sections=laid_out, footer=footer
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names of columns may hold half a character, which UTF-8 has no bytes for.
    write_whole(path, page.encode("utf-8", "replace"))
