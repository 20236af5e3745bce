"""Molecules from SMILES: the fingerprints that FS-Mol stores, and descriptors.

Needs rdkit (`pip install 'jmeta[chem]'`). Rows are as in `jmeta.fingerprints`; behind
the counts there may be a slot for each descriptor, at the place `NUM_BITS`, whose count
is its level among the molecules that were learnt from.

Source: Rogers and Hahn, 2010, https://doi.org/10.1021/ci100050t.
"""

import functools
import lzma
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmeta.data.molecules import NUM_BITS
from jmeta.errors import InputError

__all__ = [
    "NUM_LEVELS",
    "descriptor_names",
    "descriptors_of",
    "edges_of",
    "fingerprints_of",
    "joined",
    "levels_of",
    "read_smiles",
]

NUM_LEVELS = 256
"""Of a descriptor; the middle one is that of a missing value."""

_CHUNK = 2000


def _rdkit() -> Any:
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


def _molecule(smiles: str, what: str) -> Any:
    """A molecule, read leniently: unusual valences stand in published assays."""
    chem = _rdkit()
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
    _rdkit()
    from rdkit.Chem import rdFingerprintGenerator as made

    return made.GetMorganGenerator(radius=2, fpSize=NUM_BITS)  # pyright: ignore


_SLOW = ("qed", "BertzCT", "AvgIpc", "Ipc", "SPS", "BalabanJ", "NumRadicalElectrons")
_SLOW_KINDS = ("BCUT", "FpDensity", "Chi4", "Phi")


@functools.cache
def _descriptors() -> dict[str, Any]:
    _rdkit()
    from rdkit.Chem import Descriptors

    return {
        name: function
        for name, function in Descriptors.descList
        if name not in _SLOW
        and not name.startswith(_SLOW_KINDS)
        and "EState" not in name
    }


def descriptor_names() -> tuple[str, ...]:
    """Of the descriptors, in the order of `descriptors_of`; rdkit's own."""
    return tuple(_descriptors())


def _entries(smiles: Sequence[str], first: int) -> list[list[tuple[int, int]]]:
    found = []
    for number, one in enumerate(smiles, first):
        molecule = _molecule(one, f"molecule {number + 1}")
        counts = _generator().GetCountFingerprint(molecule).GetNonzeroElements()
        found.append([(place, min(n, 255)) for place, n in sorted(counts.items())])
    return found


def _numbers(smiles: Sequence[str], first: int) -> np.ndarray:
    functions = _descriptors().values()
    found = np.full((len(smiles), len(functions)), np.nan, np.float32)
    for row, one in enumerate(smiles):
        molecule = _molecule(one, f"molecule {first + row + 1}")
        for column, function in enumerate(functions):
            try:
                value = function(molecule)
            except (ValueError, RuntimeError, ArithmeticError):
                continue  # Such as charges of atoms without parameters.
            if abs(value) < 1e30:
                found[row, column] = value
    return found


def _in_parts(function: Any, smiles: Sequence[str]) -> list[Any]:
    """Of many molecules on all cores."""
    starts = range(0, len(smiles), _CHUNK)
    if len(starts) < 2:
        return [function(smiles, 0)]
    from joblib import Parallel, delayed

    return Parallel(n_jobs=-1)(
        delayed(function)(smiles[first : first + _CHUNK], first) for first in starts
    )  # pyright: ignore


def fingerprints_of(smiles: Sequence[str]) -> np.ndarray:
    """Count fingerprints `(n, slots, 2)` uint16; see `jmeta.fingerprints`.

    Raises:
      InputError: without rdkit, or if a SMILES cannot be read; names it.
    """
    rows = [entries for part in _in_parts(_entries, smiles) for entries in part]
    sizes = np.array([len(entries) for entries in rows], int)
    padded = np.zeros((len(rows), max(sizes.max(initial=0), 1), 2), np.uint16)
    flat = [entry for entries in rows for entry in entries]
    padded[np.arange(padded.shape[1]) < sizes[:, None]] = np.reshape(flat, (-1, 2))
    return padded


def descriptors_of(smiles: Sequence[str]) -> np.ndarray:
    """Descriptors `(n, names)` float32, NaN where one cannot be had.

    Slow beside fingerprints; many molecules are described on all cores.

    Raises:
      InputError: as `fingerprints_of`.
    """
    if not len(smiles):
        return np.zeros((0, len(descriptor_names())), np.float32)
    return np.concatenate(_in_parts(_numbers, smiles))


def edges_of(descriptors: np.ndarray) -> np.ndarray:
    """What parts the levels of each descriptor: its quantiles, `(names, 33)` float32.

    Args:
      descriptors: of the molecules that are learnt from, and of no others.
    """
    shares = np.linspace(0.0, 1.0, 33)
    edges = np.zeros((descriptors.shape[1], 33), np.float32)
    for edge, column in zip(edges, descriptors.T):
        known = column[np.isfinite(column)]
        if len(known):
            edge[:] = np.quantile(known, shares)
    return edges


def levels_of(descriptors: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The levels `(n, names)` of descriptors, from 0 to 255, by linear interpolation
    between quantiles; of equal quantiles, the middle one counts."""
    levels = np.full(descriptors.shape, NUM_LEVELS // 2, np.uint16)
    shares = np.linspace(0.0, 1.0, edges.shape[1])
    for column, edge in enumerate(edges):
        values = descriptors[:, column]
        known = np.isfinite(values)
        # Quantiles may be equal: the mean of both sides is the middle of their shares.
        distinct, first = np.unique(edge, return_index=True)
        last = len(edge) - 1 - np.unique(edge[::-1], return_index=True)[1]
        middle = 0.5 * (shares[first] + shares[last])
        share = np.interp(values[known], distinct, middle)
        levels[known, column] = np.round((NUM_LEVELS - 1) * share)
    return levels


def joined(fingerprints: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Fingerprints with a slot for each descriptor behind them."""
    slots = np.empty((*levels.shape, 2), np.uint16)
    slots[..., 0], slots[..., 1] = NUM_BITS, levels
    return np.concatenate([fingerprints, slots], axis=1)
