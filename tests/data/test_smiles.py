import lzma
import pathlib

import numpy as np
import pytest

from jmeta.data import smiles
from jmeta.data.molecules import padded_counts, read_molecules
from jmeta.errors import InputError

pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")

FSMOL = pathlib.Path(__file__).parents[3] / "shared/data/molecules/fsmol"
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


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


def test_descriptors_are_those_of_rdkit():
    found = smiles.descriptors_of([ASPIRIN])
    named = dict(zip(smiles.descriptor_names(), found[0]))
    np.testing.assert_allclose(named["MolWt"], 180.159, rtol=1e-5)
    assert named["NumHDonors"] == 1 and named["fr_ester"] == 1
    assert len(named) == found.shape[1] > 150


def test_many_molecules_are_those_of_one_by_one(monkeypatch):
    monkeypatch.setattr(smiles, "_CHUNK", 2)
    every = ["C" * n + "O" for n in range(1, 6)]
    made = smiles.fingerprints_of(every)
    for row, one in zip(made, every):
        assert entries(row) == entries(smiles.fingerprints_of([one])[0])


def test_levels_are_shares_among_the_molecules_learnt_from():
    numbers = np.stack([np.arange(1001.0), np.repeat([0.0, 1.0], [900, 101])], axis=1)
    edges = smiles.edges_of(numbers)
    asked = np.array([[500.0, 0.0], [-5.0, np.nan], [2000.0, 1.0]])
    levels = smiles.levels_of(asked, edges)
    np.testing.assert_array_equal(levels[:, 0], [128, 0, 255])
    # Nine tenths are 0: the middle of the shares that they take.
    np.testing.assert_array_equal(levels[:, 1], [112, 128, 243])
    assert smiles.joined(np.zeros((3, 4, 2), np.uint16), levels).shape == (3, 6, 2)


def test_what_is_no_molecule_is_named(tmp_path):
    with pytest.raises(InputError, match="molecule 2 is no SMILES: 'C1CC'"):
        smiles.fingerprints_of(["CC", "C1CC"])
    with pytest.raises(InputError, match="there is no file"):
        smiles.read_smiles(tmp_path / "none.txt")
    cut = tmp_path / "cut.txt.xz"
    cut.write_bytes(lzma.compress(b"CC\n" * 1000)[:40])
    with pytest.raises(InputError, match=r"cut\.txt\.xz.* is cut short"):
        smiles.read_smiles(cut)
