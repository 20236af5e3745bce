"""What became of one column of a table, and how it survives JSON."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jmeta.data.columns import quote
from jmeta.errors import InputError
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER

__all__ = ["Column", "column_from_json", "is_texts"]

_KINDS = ("number", "flag", "date", "category", "ordinal", "missing", "ignored")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """What became of one column of the table.

    Attributes:
      name: as in the table.
      kind: "number"; "flag" (true is 1); "date" (days); "category" (one-hot);
        "ordinal" (place among the sorted levels); "missing" (only whether it is);
        "ignored".
      levels: the texts of a category or an ordinal, sorted.
      centre: subtracted from a number before it is cast to float32.
      scale: divides it afterwards.
      indicator: whether one more column says where the value is missing.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    indicator: bool = False

    @property
    def parts(self) -> list[tuple[str, int]]:
        """Name and kind (NUMBER, CATEGORY or INDICATOR) of each encoded column."""
        if self.kind == "ignored":
            return []
        parts = []
        if self.kind == "category":
            parts = [(f"{self.name}={level}", CATEGORY) for level in self.levels]
        elif self.kind != "missing":
            parts = [(self.name, NUMBER)]
        return parts + [(f"{self.name} missing", INDICATOR)] * self.indicator


def is_texts(content: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(content, list) and all(isinstance(text, str) for text in content)


def _real(content: Any) -> bool:
    is_number = isinstance(content, int | float) and not isinstance(content, bool)
    return is_number and math.isfinite(content)


def column_from_json(content: Any) -> Column:
    """Read one column of an encoder's JSON.

    Raises:
      InputError: if a field is missing, unknown or of another type.
    """
    fields = {field.name for field in dataclasses.fields(Column)}
    if (
        not isinstance(content, Mapping)
        or set(content) != fields
        or not isinstance(content["name"], str)
        or content["kind"] not in _KINDS
        or not is_texts(content["levels"])
        or not isinstance(content["indicator"], bool)
        or not (_real(content["centre"]) and _real(content["scale"]))
        or content["scale"] <= 0
    ):
        raise InputError(
            f"a column of the table encoder is damaged: {quote(content)}; fit the "
            "model again."
        )
    return Column(
        name=content["name"],
        kind=content["kind"],
        levels=tuple(content["levels"]),
        centre=float(content["centre"]),
        scale=float(content["scale"]),
        indicator=content["indicator"],
    )
