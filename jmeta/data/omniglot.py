"""Omniglot's official one-shot runs: twenty times, twenty characters of one alphabet.

Source: Lake, Salakhutdinov and Tenenbaum, 2015,
https://doi.org/10.1126/science.aab3050; files at https://github.com/brendenlake/omniglot.
"""

import os
from typing import NamedTuple

import numpy as np

from jmeta.data.pictures import File, decoded, files_below
from jmeta.errors import InputError

__all__ = ["OneShotRuns", "read_omniglot_runs"]

_ANSWERS = "class_labels.txt"


class OneShotRuns(NamedTuple):
    """Runs: one picture of each class to learn from, and pictures to tell apart.

    Attributes:
      names: of the runs.
      support: `(runs, classes, height, width, 1)` uint8, strokes bright on dark.
      query: `(runs, items, height, width, 1)` uint8.
      answer: `(runs, items)` int32, the place of each item's class in the support.
    """

    names: tuple[str, ...]
    support: np.ndarray
    query: np.ndarray
    answer: np.ndarray


def read_omniglot_runs(path: str | os.PathLike[str], *, size: int = 28) -> OneShotRuns:
    """Read `all_runs.zip`, or the folder that it unpacks to.

    A run is a folder with a file of lines `RUN/test/ITEM.png RUN/training/CLASS.png`.

    Args:
      path: of the zip or folder.
      size: to which pictures are brought; 105 for as they are.

    Raises:
      InputError: if a file is missing, cut short or something else; names it.
    """
    with files_below(path) as files:
        known = {file.parts: file for file in files}
        keys = [parts for parts in known if len(parts) == 2 and parts[1] == _ANSWERS]
        if not keys:
            raise InputError(
                f"{str(path)!r} holds no runs, that is folders with {_ANSWERS}."
            )
        runs = [_run(known, parts, size) for parts in keys]
    shapes = {(len(support), len(query)) for support, query, _ in runs}
    if len(shapes) > 1:
        raise InputError(f"{str(path)!r}: its runs differ in size, {sorted(shapes)}.")
    support, query, answer = (np.stack(part) for part in zip(*runs))
    names = tuple(parts[0] for parts in keys)
    return OneShotRuns(names=names, support=support, query=query, answer=answer)


def _run(
    known: dict[tuple[str, ...], File], key: tuple[str, ...], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    what = known[key].name
    try:
        lines = known[key].read().decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{what} is no text of paths.") from None
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    for pair in pairs:
        if len(pair) != 2 or any(tuple(p.split("/")) not in known for p in pair):
            raise InputError(
                f"{what} must name two pictures of the run a line, not "
                f"{' '.join(pair)!r}."
            )
    if not pairs:
        raise InputError(f"{what} is empty.")
    # Also those of which no item is.
    places = {tuple(pair[1].split("/")[:-1]) for pair in pairs}
    classes = sorted("/".join(parts) for parts in known if parts[:-1] in places)
    items = sorted(pairs)

    def pictures(names: list[str]) -> np.ndarray:
        files = [known[tuple(name.split("/"))] for name in names]
        return np.stack(
            [decoded(f.name, f.read(), size=size, channels=1) for f in files]
        )

    answer = np.array([classes.index(pair[1]) for pair in items], np.int32)
    return pictures(classes), pictures([pair[0] for pair in items]), answer
