"""Descriptors of molecules, such as their weight, beside the fingerprints.

Needs rdkit (`pip install 'jmeta[chem]'`). In the rows of `jmeta.fingerprints` each
descriptor takes a slot before those of the counts, at the place `NUM_BITS`, which no
count has; the slot holds the descriptor's level among the molecules that were learnt
from.
"""

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmeta.data.molecules import NUM_BITS
from jmeta.data.smiles import in_parts, molecule_of, rdkit
from jmeta.errors import InputError
from jmeta.publish import write_whole

__all__ = [
    "NUM_LEVELS",
    "descriptor_names",
    "descriptors_of",
    "kept_descriptors",
    "levels_of",
    "scaling_of",
    "with_descriptors",
]

NUM_LEVELS = 256
"""Of a descriptor; the middle one is that of a missing value."""

_SLOW = ("qed", "BertzCT", "AvgIpc", "Ipc", "SPS", "BalabanJ", "NumRadicalElectrons")
_SLOW_KINDS = ("BCUT", "FpDensity", "Chi4", "Phi")


@functools.cache
def _descriptors() -> dict[str, Any]:
    rdkit()
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


def _numbers(smiles: Sequence[str], first: int) -> np.ndarray:
    functions = _descriptors().values()
    found = np.full((len(smiles), len(functions)), np.nan, np.float32)
    del first  # A place among those that differ, which tells nobody which it is.
    for row, one in enumerate(smiles):
        molecule = molecule_of(one, "a molecule")
        for column, function in enumerate(functions):
            try:
                value = function(molecule)
            except (ValueError, RuntimeError, ArithmeticError):
                continue  # Such as charges of atoms without parameters.
            if abs(value) < 1e30:
                found[row, column] = value
    return found


def descriptors_of(
    smiles: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Descriptors `(n, names)` float32, NaN where one cannot be had.

    Slow beside fingerprints; many molecules are described on all cores, and those that
    come again once.

    Args:
      smiles: of the molecules.
      report: told `(done, total)`.

    Raises:
      InputError: without rdkit, or if a SMILES cannot be read; names it.
    """
    known, places = np.unique(np.asarray(smiles, dtype=str), return_inverse=True)
    if not len(known):
        return np.zeros((0, len(descriptor_names())), np.float32)
    total = len(known)
    parts = in_parts(_numbers, known.tolist(), lambda done: report(done, total))
    return np.concatenate(parts)[places]


def kept_descriptors(
    smiles: Sequence[str],
    folder: Path | None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """`descriptors_of`, read from a folder where they are known, or kept there.

    A file is named by the molecules, the descriptors and rdkit's version; one that is
    damaged is made anew.

    Args:
      smiles, report: as of `descriptors_of`.
      folder: where they are kept; None keeps nothing.
    """
    if folder is None:
        return descriptors_of(smiles, report)
    rdkit()
    from rdkit import __version__

    text = "\n".join([__version__, *descriptor_names(), "", *smiles])
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    file = folder / f"{name}.npy"
    shape = (len(smiles), len(descriptor_names()))
    try:
        found = np.load(file, allow_pickle=False)
        if found.shape == shape and found.dtype == np.float32:
            return found
    except (OSError, EOFError, ValueError):
        pass
    found = descriptors_of(smiles, report)
    made = io.BytesIO()
    np.save(made, found)
    with contextlib.suppress(OSError):  # A full disk costs time, nothing else.
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, made.getvalue())
    return found


def scaling_of(descriptors: np.ndarray) -> dict[str, Any]:
    """What parts the levels of each descriptor: its quantiles; plain data.

    Args:
      descriptors: of the molecules that are learnt from, and of no others.
    """
    shares = np.linspace(0.0, 1.0, 33)
    edges = np.zeros((descriptors.shape[1], 33), np.float32)
    for edge, column in zip(edges, descriptors.T):
        known = column[np.isfinite(column)]
        if len(known):
            edge[:] = np.quantile(known, shares)
    return {"names": list(descriptor_names()), "edges": edges.tolist()}


def levels_of(descriptors: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """The levels `(n, names)` of descriptors, from 0 to 255, by linear interpolation
    between quantiles; of equal quantiles, the middle one counts.

    Raises:
      InputError: if this rdkit does not know a descriptor of the scaling.
    """
    here = {name: place for place, name in enumerate(descriptor_names())}
    if unknown := [name for name in scaling["names"] if name not in here]:
        raise InputError(
            f"the descriptor {unknown[0]!r} that the model was trained with is not "
            "among those of the rdkit installed; install the version it was trained "
            "with."
        )
    levels = np.empty((len(descriptors), len(scaling["names"])), np.uint16)
    for column, (name, edge) in enumerate(zip(scaling["names"], scaling["edges"])):
        levels[:, column] = _levels(descriptors[:, here[name]], np.asarray(edge))
    return levels


def _levels(values: np.ndarray, edge: np.ndarray) -> np.ndarray:
    found = np.full(len(values), NUM_LEVELS // 2)
    known = np.isfinite(values)
    shares = np.linspace(0.0, 1.0, len(edge))
    # Quantiles may be equal: the mean of both sides is the middle of their shares.
    distinct, first = np.unique(edge, return_index=True)
    last = len(edge) - 1 - np.unique(edge[::-1], return_index=True)[1]
    middle = 0.5 * (shares[first] + shares[last])
    share = np.interp(values[known], distinct, middle)
    found[known] = np.round((NUM_LEVELS - 1) * share)
    return found


def with_descriptors(
    fingerprints: np.ndarray, descriptors: np.ndarray, scaling: dict[str, Any]
) -> np.ndarray:
    """Fingerprints with a slot for each descriptor before them.

    Args:
      fingerprints: `(n, slots, 2)`.
      descriptors: of the same molecules, as from `descriptors_of`.
      scaling: of `scaling_of`.

    Raises:
      InputError: as `levels_of`.
    """
    levels = levels_of(descriptors, scaling)
    slots = np.empty((*levels.shape, 2), np.uint16)
    slots[..., 0], slots[..., 1] = NUM_BITS, levels
    return np.concatenate([slots, fingerprints], axis=1)
