"""Few-shot tasks on the host: the one record that every source of them is read into."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jmeta.data.molecules import Molecules, padded_counts

__all__ = [
    "FORMS",
    "Collection",
    "compact",
    "merged",
    "of_classes",
    "of_molecules",
    "subset",
    "unit_of",
]

FORMS = ("fingerprint", "image", "numbers")
"""What a row may be: `(slots, 2)` uint16 (see `jmeta.fingerprints`); `(height, width,
channels)` uint8; `(features,)` float32."""


def unit_of(form: str) -> np.float32:
    """What a stored number is multiplied by: pixels are to lie from 0 to 1."""
    return np.float32(1.0 / 255.0 if form == "image" else 1.0)


class Collection(NamedTuple):
    """Tasks that share one table of rows.

    A task is a list of entries, each of which names a row and gives its target. Tasks
    may share rows, as assays share molecules. Where episodes draw some of many classes,
    as of characters, a task is what they are drawn from together, such as an alphabet.

    Attributes:
      form: one of `FORMS`.
      x: `(rows, ...)`, as the form says.
      tasks: their names.
      family: of each task; tasks of one family must not stand on both sides of a split.
      offset: `(tasks + 1,)` int64; task i owns the entries `offset[i]:offset[i + 1]`.
      rows: `(entries,)` int32, the row that an entry is about.
      label: `(entries,)` int32, its class, from 0 in every task.
      value: `(entries,)` float32, its number, NaN where unknown.
      classes: of each task, the names of its classes.
    """

    form: str
    x: np.ndarray
    tasks: np.ndarray
    family: np.ndarray
    offset: np.ndarray
    rows: np.ndarray
    label: np.ndarray
    value: np.ndarray
    classes: tuple[tuple[str, ...], ...]


def of_molecules(data: Molecules, family: np.ndarray | None = None) -> Collection:
    """Molecules, whose tasks are each a family of its own unless told otherwise."""
    return Collection(
        form="fingerprint",
        x=padded_counts(data),
        tasks=data.tasks,
        family=data.tasks if family is None else family,
        offset=data.offset,
        rows=data.rows,
        label=data.label.astype(np.int32),
        value=data.value,
        classes=(("inactive", "active"),) * len(data.tasks),
    )


def subset(data: Collection, tasks: Sequence[int] | np.ndarray) -> Collection:
    """Some of the tasks, in the order given; rows are shared, not copied."""
    tasks = np.asarray(tasks, np.int64)
    sizes = data.offset[tasks + 1] - data.offset[tasks]
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    each = np.repeat(data.offset[tasks] - offset[:-1], sizes)
    entries = np.arange(offset[-1]) + each
    return data._replace(
        tasks=data.tasks[tasks],
        family=data.family[tasks],
        offset=offset,
        rows=data.rows[entries],
        label=data.label[entries],
        value=data.value[entries],
        classes=tuple(data.classes[task] for task in tasks),
    )


def merged(data: Collection, name: str = "all") -> Collection:
    """One task that holds the classes of all, so that episodes mix them."""
    counts = [len(names) for names in data.classes]
    before = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts)[:-1]])
    of_entry = np.repeat(np.arange(len(data.tasks)), np.diff(data.offset))
    return data._replace(
        tasks=np.array([name]),
        family=np.array([name]),
        offset=data.offset[[0, -1]],
        label=(data.label + before[of_entry]).astype(np.int32),
        classes=(tuple(n for names in data.classes for n in names),),
    )


def compact(data: Collection) -> Collection:
    """The same tasks, without the rows that none of them is about."""
    used, rows = np.unique(data.rows, return_inverse=True)
    return data._replace(x=data.x[used], rows=rows.astype(np.int32))


def of_classes(data: Collection, wanted: Sequence[np.ndarray]) -> Collection:
    """Some classes of each task, numbered anew; tasks without any are left out.

    Args:
      data: tasks.
      wanted: for each task the places of its classes that are kept.
    """
    counts = np.array([len(names) for names in data.classes])
    first = np.cumsum(counts) - counts
    place = np.full(counts.sum(), -1)
    for start, chosen in zip(first, wanted):
        place[start + np.asarray(chosen, int)] = np.arange(len(chosen))
    of_entry = np.repeat(np.arange(len(counts)), np.diff(data.offset))
    label = place[first[of_entry] + data.label]
    kept = label >= 0
    sizes = np.bincount(of_entry[kept], minlength=len(counts))
    fewer = data._replace(
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        rows=data.rows[kept],
        label=label[kept].astype(np.int32),
        value=data.value[kept],
        classes=tuple(
            tuple(names[place] for place in chosen)
            for names, chosen in zip(data.classes, wanted)
        ),
    )
    return subset(fewer, np.flatnonzero([len(chosen) > 0 for chosen in wanted]))
