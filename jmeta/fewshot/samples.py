"""Files of a new task: labelled rows to adapt to, and rows to predict."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jmeta.data.collection import of_molecules
from jmeta.data.molecules import read_molecules
from jmeta.data.tables import column_names, read_table, split_target
from jmeta.errors import InputError
from jmeta.fewshot.sources import molecule_smiles

__all__ = ["READERS", "Samples"]


class Samples(NamedTuple):
    """Rows of one task.

    Attributes:
      x: `(n, ...)`, as the form of the model says.
      y: their targets as they stand in the file; None where there are none.
      names: columns that tell rows apart, for the predictions' file.
    """

    x: np.ndarray
    y: pd.Series | None
    names: pd.DataFrame


def _label_of(frame: pd.DataFrame, apart: str, target: str | None, path: Path) -> str:
    """The column of the labels: the one that is named, or the only other one."""
    others = [name for name in column_names(frame) if name != apart]
    if target is not None:
        split_target(frame, target)  # Says which columns there are.
        return target
    if len(others) != 1:
        raise InputError(
            f"{str(path)!r} has {len(others)} columns beside {apart!r}"
            f"{': ' + ', '.join(map(repr, others[:8])) if others else ''}; say by "
            "--target which holds the labels."
        )
    return others[0]


def _molecules(
    reader: dict[str, Any], path: Path, target: str | None, labelled: bool
) -> Samples:
    """A table with a column of SMILES, or a file like FS-Mol's that holds one task."""
    if path.suffix == ".npz":
        return _of_archive(reader, path, labelled)
    from jmeta.data.smiles import fingerprints_of
    from jmeta.data.smiles_tables import smiles_column

    frame = read_table(path)
    smiles = smiles_column(frame)
    if smiles is None:
        raise InputError(
            f"{str(path)!r} has no column smiles; its columns are "
            f"{', '.join(map(repr, column_names(frame)[:8]))}."
        )
    if (empty := frame[smiles].isna().to_numpy()).any():
        raise InputError(
            f"{str(path)!r} has no SMILES in row {int(empty.argmax()) + 1} (the header "
            "is not counted)."
        )
    every = [str(text) for text in frame[smiles]]
    x = _described(reader, fingerprints_of(every), every)
    y = None
    if labelled:
        y = split_target(frame, _label_of(frame, smiles, target, path))[1]
    names = pd.DataFrame({"smiles": frame[smiles].to_numpy()})
    return Samples(x=np.asarray(x), y=y, names=names)


def _of_archive(reader: dict[str, Any], path: Path, labelled: bool) -> Samples:
    data = of_molecules(read_molecules(path))
    if len(data.tasks) != 1:
        raise InputError(
            f"{str(path)!r} holds {len(data.tasks)} tasks; a support and a query must "
            "each hold one."
        )
    labels = np.array(data.classes[0], dtype=object)[data.label]
    if reader["kind"] == "number":
        labels = data.value
    y = pd.Series(labels, name="label") if labelled else None
    names = pd.DataFrame({"molecule": data.rows})
    x = data.x
    if "descriptors" in reader:
        x = _described(reader, x, molecule_smiles(path, len(x)))
    return Samples(x=x[data.rows], y=y, names=names)


def _described(
    reader: dict[str, Any], x: np.ndarray, smiles: Sequence[str]
) -> np.ndarray:
    """Fingerprints with the descriptors that the model was trained with, if any."""
    if "descriptors" not in reader:
        return x
    from jmeta.data.descriptors import descriptors_of, with_descriptors

    return with_descriptors(x, descriptors_of(smiles), reader["descriptors"])


def _images(
    reader: dict[str, Any], path: Path, target: str | None, labelled: bool
) -> Samples:
    """Pictures of a folder or zip; each in the folder of its class, if labelled."""
    from jmeta.data.pictures import SUFFIXES, decoded, files_below

    if target is not None:
        raise InputError("--target is for tables; the class of an image is its folder.")
    height, width, channels = reader["row"]
    size = height if height == width else None
    with files_below(path) as files:
        found = [f for f in files if f.parts[-1].lower().endswith(SUFFIXES)]
        x = [decoded(f.name, f.read(), size=size, channels=channels) for f in found]
    if not found:
        raise InputError(f"{str(path)!r} holds no picture ({', '.join(SUFFIXES)}).")
    for file, image in zip(found, x):
        if image.shape[:2] != (height, width):
            raise InputError(
                f"{file.name} is not {width} by {height} pixels, as trained on."
            )
        if labelled and len(file.parts) != 2:
            raise InputError(
                f"{file.name} must lie in the folder of its class: CLASS/picture."
            )
    y = None
    if labelled:
        y = pd.Series([file.parts[0] for file in found], name="class", dtype=object)
    names = pd.DataFrame({"file": ["/".join(file.parts) for file in found]})
    return Samples(x=np.stack(x), y=y, names=names)


def _tables(
    reader: dict[str, Any], path: Path, target: str | None, labelled: bool
) -> Samples:
    """A table with the columns of meta-training."""
    from jmeta.data.task_encoding import TaskEncoding, encode

    encoding = TaskEncoding.from_json(reader["encoding"])
    frame = read_table(path)
    known = [one.name for one in encoding.targets]
    if target is None and len(known) > 1 and labelled:
        here = [name for name in known if name in column_names(frame)]
        if len(here) != 1:
            raise InputError(
                f"say by --target which of {', '.join(map(repr, known))} is predicted."
            )
        known = here
    name = known[0] if target is None else target
    y = split_target(frame, name)[1] if labelled else None
    if name not in known and name in column_names(frame):
        frame = split_target(frame, name)[0]
    x = encode(encoding, frame)
    return Samples(x=x, y=y, names=pd.DataFrame(index=range(len(frame))))


READERS: dict[str, Callable[[dict[str, Any], Path, str | None, bool], Samples]] = {
    "molecules": _molecules,
    "images": _images,
    "tables": _tables,
}
"""`(reader of the model, path, column of the labels, whether labels are wanted)`."""
