"""Few-shot tasks from a path, whatever they are stored as."""

import csv
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmeta.data.collection import Collection, of_molecules, subset
from jmeta.data.molecules import read_molecules
from jmeta.errors import InputError

__all__ = ["Source", "apart", "held_out", "read_tasks"]

_TARGETS = "target_info.csv"
"""Beside FS-Mol's files: which protein each assay is about."""


class Source(NamedTuple):
    """Tasks, and how rows like theirs are read.

    Attributes:
      data: the tasks.
      kind: "classes" or "number": what the targets are.
      pools: whether an episode draws some of many classes of a task.
      reader: what reads a support and a query of a new task; plain data.
      told: what was found, as a sentence.
    """

    data: Collection
    kind: str
    pools: bool
    reader: dict[str, Any]
    told: str


def read_tasks(
    path: Path, role: str, *, split: str | None = None, kind: str | None = None
) -> Source:
    """Read the tasks of a file or folder.

    Args:
      path: FS-Mol's folder or one of its files, or a file of MoleculeNet.
      role: "train", "valid" or "test": which tasks are meant, where the files say.
      split: the same, or "all", where it is not as the role says.
      kind: "classes" or "number", where tasks have both; None for classes.

    Raises:
      InputError: if it holds nothing that is known, or no such split.
    """
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}.")
    if _is_molecules(path):
        return _molecules(path, role, split, kind)
    raise InputError(
        f"{str(path)!r} is of no kind that is known: name a folder or file of FS-Mol "
        "(train_core.npz) or a file of MoleculeNet (tox21.npz)."
    )


def _is_molecules(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*_core.npz"))
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        return path.suffix == ".npz"  # Which is then said to be cut short.
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    return {"offset.npy", "label.npy"} <= names or {"idx.npy", "cnt.npy"} <= names


def _molecules(path: Path, role: str, split: str | None, kind: str | None) -> Source:
    if path.is_dir():
        if split is None and role == "test" and not (path / "test_core.npz").exists():
            role = "valid"
        found = read_molecules(path, role if split is None else split)
        places = None
    else:
        found = read_molecules(path)
        named = {"train": found.train_tasks, "test": found.test_tasks}
        places = named.get(role if split is None else split)
        if split not in (None, "all") and places is None:
            raise InputError(
                f"{str(path)!r} does not say which of its tasks are for {split!r}; "
                "leave out --split."
            )
    folder = path if path.is_dir() else path.parent
    data = of_molecules(found, _protein(folder / _TARGETS, found.tasks))
    if places is not None:
        data = subset(data, places)
    kind = "classes" if kind is None else kind
    if kind == "number" and not np.isfinite(data.value).any():
        raise InputError(f"{str(path)!r} holds classes alone, and no numbers.")
    return Source(
        data=data,
        kind=kind,
        pools=False,
        reader={
            "name": "molecules",
            "row": [int(data.x.shape[1]), 2],
            "classes": list(data.classes[0]),
        },
        told=f"{len(data.tasks)} tasks on {len(data.x)} molecules",
    )


def _protein(path: Path, tasks: np.ndarray) -> np.ndarray:
    """Of each task; where it is not known, the task is a family of its own."""
    if not path.exists():
        return tasks
    try:
        with open(path, newline="") as file:
            known = {row["chembl_id"]: row["target_id"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{str(path)!r} does not say which target each assay is about: {error}."
        ) from error
    return np.array([known.get(str(task)) or str(task) for task in tasks])


def apart(data: Collection, judged: Collection) -> Collection:
    """The tasks of whose family none judges."""
    return subset(data, np.flatnonzero(~np.isin(data.family, judged.family)))


def held_out(
    data: Collection, share: float, *, most: int = 200, seed: int = 0
) -> tuple[Collection, Collection]:
    """Split tasks into those to train on, and a share that is held out, by families.

    Args:
      data: at least two families.
      share: of the tasks, at least; one family more may be needed to reach it.
      most: tasks that are held out.
      seed: decides which families.

    Raises:
      InputError: if there is but one family.
    """
    families, of_task, sizes = np.unique(
        data.family, return_inverse=True, return_counts=True
    )
    if len(families) < 2:
        raise InputError(
            f"all {len(data.tasks)} tasks are of one family, so that none can be held "
            "out; name other tasks by --valid."
        )
    order = np.random.default_rng(seed).permutation(len(families))
    wanted = min(share * len(data.tasks), most)
    # Those that together do not exceed what is wanted, and at least one.
    fits = np.cumsum(sizes[order]) <= max(wanted, sizes[order[0]])
    chosen = np.zeros(len(families), bool)
    chosen[order[fits]] = True
    if chosen.all():
        chosen[order[-1]] = False
    held = chosen[of_task]
    return subset(data, np.flatnonzero(~held)), subset(data, np.flatnonzero(held))
