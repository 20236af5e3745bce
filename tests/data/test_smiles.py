import lzma
import pathlib

import numpy as np
import pytest

from jmeta.data import smiles
from jmeta.data.molecules import padded_counts, read_molecules
from jmeta.errors import InputError

pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")

FSMOL = pathlib.Path(__file__).parents[3] / "shared/data/molecules/fsmol"


def entries(row):
    return {(int(p), int(c)) for p, c in row if c}


@pytest.mark.skipif(not FSMOL.exists(), reason=f"no molecules at {FSMOL}")
def test_fingerprints_are_those_that_fs_mol_stores():
    stored = padded_counts(read_molecules(FSMOL, "valid"))
    every = smiles.read_smiles(FSMOL / "valid_smiles.txt.xz")
    assert len(every) == len(stored)
    some = np.arange(0, len(every), len(every) // 50)
    made = smiles.fingerprints_of([every[i] for i in some])
    assert [entries(row) for row in made] == [entries(stored[i]) for i in some]


def test_many_molecules_are_those_of_one_by_one(monkeypatch):
    monkeypatch.setattr(smiles, "_CHUNK", 2)
    every = ["C" * n + "O" for n in range(1, 6)]
    made = smiles.fingerprints_of(every)
    for row, one in zip(made, every):
        assert entries(row) == entries(smiles.fingerprints_of([one])[0])


def test_what_is_no_molecule_is_named(tmp_path):
    with pytest.raises(InputError, match="molecule 2 is no SMILES: 'C1CC'"):
        smiles.fingerprints_of(["CC", "C1CC"])
    with pytest.raises(InputError, match="there is no file"):
        smiles.read_smiles(tmp_path / "none.txt")
    cut = tmp_path / "cut.txt.xz"
    cut.write_bytes(lzma.compress(b"CC\n" * 1000)[:40])
    with pytest.raises(InputError, match=r"cut\.txt\.xz.* is cut short"):
        smiles.read_smiles(cut)
