"""Molecules from SMILES: the fingerprints that FS-Mol stores.

Needs rdkit (`pip install 'jmeta[chem]'`). Rows are as in `jmeta.fingerprints`.

Source: Rogers and Hahn, 2010, https://doi.org/10.1021/ci100050t.
"""

import functools
import lzma
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmeta.data.molecules import NUM_BITS
from jmeta.errors import InputError

__all__ = ["fingerprints_of", "in_parts", "molecule_of", "rdkit", "read_smiles"]

_CHUNK = 2000


def rdkit() -> Any:
    """Its module `Chem`, which tells errors by what it returns alone.

    Raises:
      InputError: if it is not installed.
    """
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        raise InputError(
            "reading SMILES needs rdkit; install it with pip install 'jmeta[chem]'."
        ) from None
    RDLogger.DisableLog("rdApp.*")  # pyright: ignore  # Each error is told by us.
    return Chem


def read_smiles(path: str | os.PathLike[str]) -> list[str]:
    """One SMILES a line, compressed by xz or not.

    Raises:
      InputError: if the file is missing, cut short or no text.
    """
    what = repr(str(path))
    opened = lzma.open if Path(path).suffix == ".xz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except FileNotFoundError:
        raise InputError(f"there is no file {what}.") from None
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError):
        raise InputError(f"{what} is cut short, or no text of SMILES.") from None


def molecule_of(smiles: str, what: str) -> Any:
    """A molecule, read leniently: unusual valences stand in published assays."""
    chem = rdkit()
    found = chem.MolFromSmiles(smiles)
    if found is None:
        found = chem.MolFromSmiles(smiles, sanitize=False)
        if found is None:
            raise InputError(f"{what} is no SMILES: {smiles!r}.")
        found.UpdatePropertyCache(strict=False)
        lenient = chem.SANITIZE_ALL ^ chem.SANITIZE_PROPERTIES
        if chem.SanitizeMol(found, lenient, catchErrors=True):
            raise InputError(f"{what} is no molecule that rdkit can read: {smiles!r}.")
    return found


@functools.cache
def _generator() -> Any:
    rdkit()
    from rdkit.Chem import rdFingerprintGenerator as made

    return made.GetMorganGenerator(radius=2, fpSize=NUM_BITS)  # pyright: ignore


def _entries(smiles: Sequence[str], first: int) -> list[list[tuple[int, int]]]:
    found = []
    for number, one in enumerate(smiles, first):
        molecule = molecule_of(one, f"molecule {number + 1}")
        counts = _generator().GetCountFingerprint(molecule).GetNonzeroElements()
        found.append([(place, min(n, 255)) for place, n in sorted(counts.items())])
    return found


def in_parts(
    function: Callable[[Sequence[str], int], Any],
    smiles: Sequence[str],
    report: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """Of many molecules on all cores.

    Args:
      function: `(some molecules, the place of the first) -> anything`.
      smiles: of all.
      report: told how many are done.
    """
    starts = range(0, len(smiles), _CHUNK)
    if len(starts) < 2:
        return [function(smiles, 0)]
    from joblib import Parallel, delayed

    calls = (delayed(function)(smiles[i : i + _CHUNK], i) for i in starts)
    found = []
    for part in Parallel(n_jobs=-1, return_as="generator")(calls):
        found.append(part)
        report(min(len(found) * _CHUNK, len(smiles)))
    return found


def fingerprints_of(smiles: Sequence[str]) -> np.ndarray:
    """Count fingerprints `(n, slots, 2)` uint16; see `jmeta.fingerprints`.

    Raises:
      InputError: without rdkit, or if a SMILES cannot be read; names it.
    """
    rows = [entries for part in in_parts(_entries, smiles) for entries in part]
    sizes = np.array([len(entries) for entries in rows], int)
    padded = np.zeros((len(rows), max(sizes.max(initial=0), 1), 2), np.uint16)
    flat = [entry for entries in rows for entry in entries]
    padded[np.arange(padded.shape[1]) < sizes[:, None]] = np.reshape(flat, (-1, 2))
    return padded
