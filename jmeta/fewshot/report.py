"""An evaluation of a few-shot model as one HTML page."""

import os
from collections.abc import Mapping
from typing import Any

from jmeta.fewshot.words import about, notes_of, tables_of
from jmeta.page import Items, Section, Text, write_report

__all__ = ["fewshot_report"]


def fewshot_report(
    path: str | os.PathLike[str], made: Mapping[str, Any], version: str
) -> None:
    """Write what `jmeta.fewshot.judging.judge` found.

    Args:
      path: of the page.
      made: as `judge` gives it.
      version: of jmeta.
    """
    notes = tuple(notes_of(made))
    write_report(
        path,
        title="Few-shot adaptation",
        subtitle="Judged on tasks that were not trained on.",
        sections=[
            Section(
                made["model"]["algorithm"],
                (Text(about(made)), *tables_of(made), Items(notes)),
            )
        ],
        footer=f"Written by jmeta {version}.",
    )
