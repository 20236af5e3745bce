"""Few-shot tasks from a path, whatever they are stored as."""

import csv
import dataclasses
import functools
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jmeta.data.collection import Collection, of_molecules, subset
from jmeta.data.molecules import read_molecules, smiles_beside
from jmeta.data.tables import SUFFIXES
from jmeta.errors import InputError
from jmeta.fewshot.splits import named_classes

__all__ = [
    "Options",
    "Source",
    "described",
    "molecule_smiles",
    "read_tasks",
    "with_levels",
]

_TARGETS = "target_info.csv"
"""Beside FS-Mol's files: which protein each assay is about."""

_PICTURES = (".zip", ".npz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the files do not say.

    Attributes:
      split: which tasks are meant, where it is not as the role says: "train", "valid",
        "test" or "all".
      kind: "classes" or "number", where it could be both.
      targets: columns that are to be predicted, of tables.
      task: the column that names the task of each row; None if a table is a task.
      size: to which images are brought, in pixels a side; None for as they are.
      classes: those that episodes draw from; none for all.
      descriptors: whether the SMILES of molecules are wanted, to describe them by.
    """

    split: str | None = None
    kind: str | None = None
    targets: tuple[str, ...] = ()
    task: str | None = None
    size: int | None = None
    classes: tuple[str, ...] = ()
    descriptors: bool = False


class Source(NamedTuple):
    """Tasks, and how rows like theirs are read.

    Attributes:
      data: the tasks.
      kind: "classes" or "number": what the targets are.
      pools: whether an episode draws some of a task's classes.
      reader: what reads a support and a query of a new task; plain data.
      told: what was found, as sentences.
      smiles: of each row of the tasks' table, where they were asked for; else empty.
    """

    data: Collection
    kind: str
    pools: bool
    reader: dict[str, Any]
    told: tuple[str, ...]
    smiles: Sequence[str] = ()


def read_tasks(
    path: Path, role: str, options: Options, reader: dict[str, Any] | None = None
) -> Source:
    """Read the tasks of a file or folder.

    Args:
      path: FS-Mol's folder or one of its files, a file of MoleculeNet; a folder, zip or
        archive of images; a table or a folder of tables, which are molecules where each
        has a column called smiles.
      role: "train", "valid" or "test": which tasks are meant, where the files say.
      options: what the files do not say.
      reader: of a model, whose kind of rows these must be; None where there is none.

    Raises:
      InputError: if it holds nothing that is known, or another kind of rows.
    """
    if not path.exists():
        raise InputError(f"there is no {str(path)!r}.")
    name, read = _reader_for(path)
    if reader is not None and reader["name"] != name:
        raise InputError(
            f"{str(path)!r} holds {name}, and the model was trained on "
            f"{reader['name']}."
        )
    if options.descriptors and name != "molecules":
        raise InputError(f"{str(path)!r} holds {name}; only molecules are described.")
    found = read(path, role, options, reader)
    if options.classes:
        found = found._replace(data=named_classes(found.data, options.classes))
    return found


def described(
    smiles: Sequence[str], cache: Path | None, report: Callable[..., None] | None
) -> np.ndarray:
    """Descriptors of molecules.

    Args:
      smiles: of them.
      cache: the folder where descriptors are kept; None for nowhere.
      report: told `(stage, done, total, numbers)`.
    """
    from jmeta.data.descriptors import kept_descriptors

    def told(done: int, total: int) -> None:
        if report is not None:
            report("describing molecules", done, total, {})

    return kept_descriptors(smiles, cache, told)


def with_levels(
    source: Source,
    reader: dict[str, Any],
    cache: Path | None = None,
    report: Callable[..., None] | None = None,
) -> Source:
    """The tasks with those descriptors of their molecules that a model reads, if any.

    Args:
      source: whose SMILES were asked for, where the reader has descriptors.
      reader: of the model.
      cache, report: as of `described`.
    """
    if "descriptors" not in reader:
        return source
    from jmeta.data.descriptors import with_descriptors

    values = described(source.smiles, cache, report)
    x = with_descriptors(source.data.x, values, reader["descriptors"])
    return source._replace(data=source.data._replace(x=x))


def _reader_for(path: Path) -> tuple[str, Any]:
    if _is_molecules(path):
        return "molecules", _molecules
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    if path.is_file() and path.suffix not in _PICTURES:
        if suffixes and suffixes[-1] in SUFFIXES:
            return _kind_of_tables(path)
        raise InputError(
            f"{str(path)!r} is of no kind that is known: name molecules (a folder or "
            "file of FS-Mol or MoleculeNet), images (a folder, .zip or .npz) or tables "
            f"({', '.join(SUFFIXES)}, or a folder of them)."
        )
    inside = [file.suffix.lower() for file in path.iterdir()] if path.is_dir() else []
    if any(end in SUFFIXES and end not in _PICTURES for end in inside):
        return _kind_of_tables(path)
    return "images", _images


def _kind_of_tables(path: Path) -> tuple[str, Any]:
    from jmeta.data.smiles_tables import smiles_column
    from jmeta.data.task_tables import read_tables

    tables = read_tables(path)
    if all(smiles_column(frame) is not None for frame in tables.values()):
        return "molecules", functools.partial(_smiles, tables)
    return "tables", functools.partial(_tables, tables)


def _is_molecules(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*_core.npz"))
    if path.suffix != ".npz" or not zipfile.is_zipfile(path):
        # A file that is cut short is said to be so by what reads it.
        return path.name.endswith(("_core.npz", "_counts.npz"))
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    return {"offset.npy", "label.npy"} <= names or {"idx.npy", "cnt.npy"} <= names


def _molecules(
    path: Path, role: str, options: Options, reader: dict[str, Any] | None
) -> Source:
    del reader  # Fingerprints are of one length.
    split, of_folder = options.split, None
    if path.is_dir():
        if split is None and role == "test" and not (path / "test_core.npz").exists():
            role = "valid"
        of_folder = role if split is None else split
        found = read_molecules(path, of_folder)
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
    kind = options.kind or "classes"
    if kind == "number" and not np.isfinite(data.value).any():
        raise InputError(f"{str(path)!r} holds classes alone, and no numbers.")
    smiles = []
    if options.descriptors:
        smiles = molecule_smiles(path, len(data.x), of_folder)
    return _source_of(data, kind, smiles)


def molecule_smiles(path: Path, count: int, split: str | None = None) -> list[str]:
    """The SMILES that are stored beside a file of molecules.

    Args:
      path, split: as of `jmeta.data.molecules.read_molecules`.
      count: of the file's molecules.

    Raises:
      InputError: if they are absent, or of another number.
    """
    from jmeta.data.smiles import read_smiles

    file = smiles_beside(path, split)
    found = read_smiles(file)
    if len(found) != count:
        raise InputError(
            f"{str(file)!r} holds {len(found)} SMILES, and the file beside it {count} "
            "molecules; they do not belong together."
        )
    return found


def _smiles(
    tables: dict[str, Any],
    path: Path,
    role: str,
    options: Options,
    reader: dict[str, Any] | None,
) -> Source:
    """Tables with a column of SMILES."""
    from jmeta.data.smiles_tables import smiles_of, smiles_tasks

    # Tables do not say what they are for, and fingerprints are of one length.
    del path, role, reader
    data = smiles_tasks(tables, options.targets, task=options.task, kind=options.kind)
    kind = "number" if np.isfinite(data.value).any() else "classes"
    return _source_of(data, kind, smiles_of(tables) if options.descriptors else ())


def _source_of(data: Collection, kind: str, smiles: Sequence[str]) -> Source:
    """Of tasks on molecules."""
    return Source(
        data=data,
        kind=kind,
        pools=kind == "classes" and max(map(len, data.classes)) > 2,
        reader={
            "name": "molecules",
            "row": [int(data.x.shape[1]), 2],
            "classes": list(data.classes[0]),
        },
        told=(f"{len(data.tasks)} tasks on {len(data.x)} molecules.",),
        smiles=smiles,
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


def _images(
    path: Path, role: str, options: Options, reader: dict[str, Any] | None
) -> Source:
    from jmeta.data.images import read_images

    del role  # Splits of images hold the same classes: which to draw is said by name.
    size = options.size if reader is None else reader["row"][0]
    channels = None if reader is None else reader["row"][2]
    data = read_images(path, size=size, channels=channels, split=options.split)
    if options.kind == "number":
        raise InputError(f"{str(path)!r} holds images of classes, and no numbers.")
    count = sum(map(len, data.classes))
    return Source(
        data=data,
        kind="classes",
        pools=True,
        reader={"name": "images", "row": list(data.x.shape[1:]), "classes": []},
        told=(
            f"{len(data.x)} images of {count} classes, drawn from {len(data.tasks)} "
            "group(s) of classes.",
        ),
    )


def _tables(
    tables: dict[str, Any],
    path: Path,
    role: str,
    options: Options,
    reader: dict[str, Any] | None,
) -> Source:
    from jmeta.data.task_encoding import TaskEncoding
    from jmeta.data.task_tables import encode_tasks, fit_tasks

    del role  # A table says nothing of it.
    if reader is not None:
        encoding = TaskEncoding.from_json(reader["encoding"])
        data = encode_tasks(encoding, tables)
    elif options.targets:
        data, encoding = fit_tasks(
            tables, options.targets, task=options.task, kind=options.kind
        )
    else:
        raise InputError(
            f"{str(path)!r} holds tables; say by --target which column is predicted."
        )
    classes = data.classes[0]
    kind = encoding.targets[0].kind
    return Source(
        data=data,
        kind=kind,
        pools=kind == "classes" and max(map(len, data.classes)) > 2,
        reader={
            "name": "tables",
            "row": [int(data.x.shape[1])],
            "classes": list(classes),
            "encoding": encoding.to_json(),
        },
        told=(f"{len(data.tasks)} tasks on {len(data.x)} rows.", *encoding.notes),
    )
