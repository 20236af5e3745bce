import pathlib

import numpy as np
import pytest

from jmeta.data import descriptors
from jmeta.errors import InputError

pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_descriptors_are_those_of_rdkit():
    found = descriptors.descriptors_of([ASPIRIN])
    named = dict(zip(descriptors.descriptor_names(), found[0]))
    np.testing.assert_allclose(named["MolWt"], 180.159, rtol=1e-5)
    assert named["NumHDonors"] == 1 and named["fr_ester"] == 1
    assert len(named) == found.shape[1] > 150


def test_molecules_that_come_again_are_described_alike():
    every = ["CO", ASPIRIN, "CO"]
    found = descriptors.descriptors_of(every)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], descriptors.descriptors_of([ASPIRIN])[0])
    assert descriptors.descriptors_of([]).shape == (0, found.shape[1])


def test_levels_are_shares_among_the_molecules_learnt_from():
    numbers = np.zeros((1001, len(descriptors.descriptor_names())))
    numbers[:, 0], numbers[:, 1] = np.arange(1001.0), np.repeat([0.0, 1.0], [900, 101])
    scaling = descriptors.scaling_of(numbers)
    asked = numbers[:3].copy()
    asked[:, :2] = [[500.0, 0.0], [-5.0, np.nan], [2000.0, 1.0]]
    levels = descriptors.levels_of(asked, scaling)
    np.testing.assert_array_equal(levels[:, 0], [128, 0, 255])
    # Nine tenths are 0: the middle of the shares that they take.
    np.testing.assert_array_equal(levels[:, 1], [112, 128, 243])
    # Columns are found by name, whatever else an rdkit describes.
    fewer = {name: scaling[name][1::-1] for name in ("names", "edges")}
    np.testing.assert_array_equal(
        descriptors.levels_of(asked, fewer), levels[:, [1, 0]]
    )
    x = np.zeros((3, 4, 2), np.uint16)
    made = descriptors.with_descriptors(x, asked, fewer)
    assert made.shape == (3, 6, 2)
    np.testing.assert_array_equal(made[:, :2, 1], levels[:, [1, 0]])
    fewer["names"][0] = "Charm"
    with pytest.raises(InputError, match="the descriptor 'Charm'"):
        descriptors.levels_of(asked, fewer)


def test_what_was_described_is_kept(tmp_path, monkeypatch):
    every = ["CO", ASPIRIN]
    made = descriptors.kept_descriptors(every, tmp_path)
    (file,) = tmp_path.iterdir()

    def again(smiles, report):
        raise AssertionError("described anew")

    with monkeypatch.context() as patch:
        patch.setattr(descriptors, "descriptors_of", again)
        np.testing.assert_array_equal(
            descriptors.kept_descriptors(every, tmp_path), made
        )
        with pytest.raises(AssertionError):
            descriptors.kept_descriptors([ASPIRIN, "CO"], tmp_path)
    for damaged in (file.read_bytes()[:-9], b"", b"no array"):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(
            descriptors.kept_descriptors(every, tmp_path), made
        )
        np.testing.assert_array_equal(np.load(file), made)
    missing = pathlib.Path(tmp_path / "file")
    missing.write_text("")  # Where no folder can be.
    np.testing.assert_array_equal(descriptors.kept_descriptors(every, missing), made)
