"""Tasks on molecules: the files of FS-Mol and of MoleculeNet, as NumPy archives.

A task says of some molecules whether they are active. Molecules come as count
fingerprints, of whose 2,048 entries about fifty are not zero.

Sources: FS-Mol, Stanley et al., 2021, https://openreview.net/forum?id=701FtuyLlAd;
MoleculeNet, Wu et al., 2018, https://arxiv.org/abs/1703.00564; the tasks' splits of
the latter, Wang et al., 2021, https://arxiv.org/abs/2107.07765.
"""

import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jmeta.errors import InputError

__all__ = [
    "NUM_BITS",
    "Molecules",
    "padded_counts",
    "read_molecules",
    "smiles_beside",
]

NUM_BITS = 2048
"""Length of a fingerprint."""

_CORE, _COUNTS, _COUNTS4 = "_core.npz", "_ecfp_counts.npz", "_ecfp4_counts.npz"


class Molecules(NamedTuple):
    """Tasks, and the fingerprints of their molecules, on the host.

    Attributes:
      tasks: their names.
      offset: `(tasks + 1,)` int64; task i owns the rows `offset[i]:offset[i + 1]`.
      rows: `(rows,)` int32, which molecule a row is about.
      label: `(rows,)` int8, 1 if it is active, else 0.
      value: `(rows,)` float32, the logarithm of what was measured; NaN where unknown.
      starts: `(molecules + 1,)` int64; molecule m owns the entries
        `starts[m]:starts[m + 1]`.
      idx: `(entries,)` uint16, places in the fingerprint, below `NUM_BITS`.
      cnt: `(entries,)` uint8, how often each is found; all other places are 0.
      train_tasks, test_tasks: places of tasks, where the file splits them; else None.
    """

    tasks: np.ndarray
    offset: np.ndarray
    rows: np.ndarray
    label: np.ndarray
    value: np.ndarray
    starts: np.ndarray
    idx: np.ndarray
    cnt: np.ndarray
    train_tasks: np.ndarray | None
    test_tasks: np.ndarray | None


def read_molecules(path: str | os.PathLike[str], split: str | None = None) -> Molecules:
    """Read the tasks of one file, and the fingerprints from the file beside it.

    FS-Mol is stored as `X_core.npz` and `X_ecfp_counts.npz`, where X is the split,
    MoleculeNet as `X.npz` and `X_ecfp4_counts.npz`, where X is the collection.

    Args:
      path: of either file, or of their folder.
      split: X, of a folder; else None.

    Raises:
      InputError: if a file is missing, cut short or something else; names it.
    """
    tasks_path, counts_path = _both(Path(path), split)
    found, counts = _load(tasks_path), _load(counts_path)
    starts, idx, cnt = _fingerprints(counts, counts_path)
    what = repr(str(tasks_path))
    offset = _array(found, "offset", "iu", what).astype(np.int64)
    label = _array(found, "label", "iub", what).astype(np.int8)
    if (
        len(offset) < 2
        or offset[0] != 0
        or offset[-1] != len(label)
        or (np.diff(offset) < 0).any()
    ):
        raise InputError(
            f"{what}: offset must rise from 0 to the number of labels, {len(label)}."
        )
    if not np.isin(label, (0, 1)).all():
        raise InputError(f"{what}: label must hold 0 and 1 alone.")
    rows = np.arange(len(label), dtype=np.int64)
    if "mol" in found:
        rows = _array(found, "mol", "iu", what).astype(np.int64)
    known = len(starts) - 1
    if len(rows) != len(label) or (len(rows) and not 0 <= rows.min() <= rows.max()):
        raise InputError(f"{what}: mol must name one molecule for each label.")
    if len(rows) and rows.max() >= known:
        raise InputError(
            f"{what} speaks of molecule {rows.max()}, but {str(counts_path)!r} holds "
            f"{known}; they do not belong together."
        )
    num_tasks = len(offset) - 1
    value = np.full(len(label), np.nan, np.float32)
    if "log_value" in found:
        value = _array(found, "log_value", "f", what).astype(np.float32)
    names = np.array([f"{tasks_path.stem}-{i}" for i in range(num_tasks)])
    if "task_id" in found:
        names = _array(found, "task_id", "U", what)
    if len(value) != len(label) or len(names) != num_tasks:
        raise InputError(f"{what}: log_value or task_id has not one entry for each.")
    return Molecules(
        tasks=names,
        offset=offset,
        rows=rows.astype(np.int32),
        label=label,
        value=value,
        starts=starts,
        idx=idx,
        cnt=cnt,
        train_tasks=_places(found, "train_tasks", num_tasks, what),
        test_tasks=_places(found, "test_tasks", num_tasks, what),
    )


def smiles_beside(path: str | os.PathLike[str], split: str | None = None) -> Path:
    """Where the SMILES of a file's molecules are stored: `X_smiles.txt.xz`.

    Args:
      path, split: as of `read_molecules`.
    """
    tasks = _both(Path(path), split)[0]
    stem = tasks.name.removesuffix(".npz").removesuffix("_core")
    return tasks.with_name(f"{stem}_smiles.txt.xz")


def padded_counts(data: Molecules, slots: int | None = None) -> np.ndarray:
    """Fingerprints as `(molecules, slots, 2)` uint16: places, and counts behind them.

    Args:
      data: as read.
      slots: how many there is room for; None for as many as the largest has. What is
        left over is 0 at place 0.

    Raises:
      ValueError: if a fingerprint does not fit.
    """
    sizes = np.diff(data.starts)
    most = int(sizes.max(initial=1))
    slots = most if slots is None else slots
    if most > slots:
        raise ValueError(
            f"padded_counts: a fingerprint of {most} entries does not fit in "
            f"slots={slots}."
        )
    padded = np.zeros((len(sizes), slots, 2), np.uint16)
    there = np.arange(slots) < sizes[:, None]
    padded[there, 0] = data.idx
    padded[there, 1] = data.cnt
    return padded


def _both(path: Path, split: str | None) -> tuple[Path, Path]:
    """The file of tasks and that of fingerprints."""
    if path.is_dir():
        if split is None:
            raise InputError(
                f"{str(path)!r} is a folder; say which split of it to read, or name "
                "the file."
            )
        core = path / f"{split}{_CORE}"
        path = core if core.exists() else path / f"{split}.npz"
        if not path.exists():
            raise InputError(f"there is neither {str(core)!r} nor {str(path)!r}.")
    elif split is not None:
        raise InputError(f"{str(path)!r} is no folder, so it has no split {split!r}.")
    name, folder = path.name, path.parent
    if name.endswith(_CORE):
        return path, folder / name.replace(_CORE, _COUNTS)
    if name.endswith(_COUNTS):
        return folder / name.replace(_COUNTS, _CORE), path
    if name.endswith(_COUNTS4):
        return folder / name.replace(_COUNTS4, ".npz"), path
    if name.endswith(".npz"):
        return path, folder / name.replace(".npz", _COUNTS4)
    raise InputError(
        f"{str(path)!r} is no file of molecules; it must end in {_CORE} or .npz."
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    what = repr(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise InputError(f"there is no file {what}.") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error):
        raise InputError(
            f"{what} is cut short or no NumPy archive of plain arrays."
        ) from None


def _array(
    found: dict[str, np.ndarray], name: str, kinds: str, what: str
) -> np.ndarray:
    """One array of one axis, of one of the kinds of NumPy."""
    array = found.get(name)
    if array is None:
        raise InputError(
            f"{what} lacks {name}; it holds {', '.join(found) or 'nothing'}."
        )
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise InputError(
            f"{what}: {name} has {array.ndim} axes of type {array.dtype}, which is "
            "something else than such files hold."
        )
    return array


def _places(
    found: dict[str, np.ndarray], name: str, count: int, what: str
) -> np.ndarray | None:
    if name not in found:
        return None
    places = _array(found, name, "iu", what)
    if len(places) and not 0 <= places.min() <= places.max() < count:
        raise InputError(f"{what}: {name} must hold places of the {count} tasks.")
    return places.astype(np.int64)


def _fingerprints(
    found: dict[str, np.ndarray], path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    what = repr(str(path))
    sizes = _array(found, "n", "iu", what).astype(np.int64)
    idx, cnt = (_array(found, name, "iu", what) for name in ("idx", "cnt"))
    total = int(sizes.sum())
    if (sizes < 0).any() or not total == len(idx) == len(cnt):
        raise InputError(
            f"{what}: n promises {total} entries, idx holds {len(idx)} and cnt "
            f"{len(cnt)}."
        )
    if total and not 0 <= idx.min() <= idx.max() < NUM_BITS:
        raise InputError(f"{what}: idx must be in [0, {NUM_BITS}).")
    if total and not 0 < cnt.min() <= cnt.max() < 256:
        raise InputError(f"{what}: cnt must be from 1 to 255.")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return starts, idx.astype(np.uint16), cnt.astype(np.uint8)
