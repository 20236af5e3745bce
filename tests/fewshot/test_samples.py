"""Supports and queries, in the files that they come in."""

import numpy as np
import pytest
from PIL import Image
from tiny_molecules import write_fsmol

from jmeta.errors import InputError
from jmeta.fewshot.samples import READERS
from jmeta.fewshot.sources import Options, read_tasks

MOLECULES = {"name": "molecules", "kind": "classes", "row": [8, 2], "classes": []}
IMAGES = {"name": "images", "kind": "classes", "row": [8, 8, 1], "classes": []}


def read(reader, path, target=None, labelled=True):
    return READERS[reader["name"]](reader, path, target, labelled)


def write_pictures(folder, names, size=8):
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size), 10 * place, np.uint8)).save(path)
    return folder


def test_an_archive_of_one_task_is_read_with_its_labels_or_numbers(tmp_path):
    path = write_fsmol(tmp_path, sizes=(12,))
    found = read(MOLECULES, path)
    assert list(found.y) == ["inactive", "active"] * 6
    assert len(found.x) == len(found.names) == 12
    numbers = read(MOLECULES | {"kind": "number"}, path)
    np.testing.assert_allclose(numbers.y, np.linspace(4.0, 9.0, 12), rtol=1e-6)
    assert read(MOLECULES, path, labelled=False).y is None
    with pytest.raises(InputError, match="holds 3 tasks"):
        read(MOLECULES, write_fsmol(tmp_path))


def test_a_table_of_smiles_is_read_with_the_only_other_column(tmp_path):
    pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")
    path = tmp_path / "a.csv"
    path.write_text("SMILES,toxic\nCCO,1\nc1ccccc1,0\n")
    found = read(MOLECULES, path)
    assert list(found.y) == [1, 0] and list(found.names["smiles"]) == [
        "CCO",
        "c1ccccc1",
    ]
    assert found.x.shape[0] == 2 and found.x.shape[2] == 2
    path.write_text("SMILES,toxic,dose\nCCO,1,2\nC,0,3\n")
    with pytest.raises(InputError, match="say by --target which holds the labels"):
        read(MOLECULES, path)
    assert list(read(MOLECULES, path, "dose").y) == [2, 3]
    path.write_text("SMILES,toxic\nCCO,1\n,0\n")
    with pytest.raises(InputError, match="no SMILES in row 2"):
        read(MOLECULES, path)
    path.write_text("name,toxic\nethanol,1\n")
    with pytest.raises(InputError, match="has no column smiles"):
        read(MOLECULES, path)


def test_the_class_of_a_picture_is_its_folder(tmp_path):
    names = ["cat/a.png", "cat/b.png", "dog/a.png"]
    found = read(IMAGES, write_pictures(tmp_path / "s", names))
    assert list(found.y) == ["cat", "cat", "dog"]
    assert found.x.shape == (3, 8, 8, 1) and list(found.names["file"]) == names
    asked = write_pictures(tmp_path / "q", ["new/x.png", "y.png"], size=20)
    found = read(IMAGES, asked, labelled=False)
    assert found.y is None and found.x.shape == (2, 8, 8, 1)  # Brought to that size.
    with pytest.raises(InputError, match="must lie in the folder of its class"):
        read(IMAGES, asked)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        read(IMAGES, tmp_path / "empty")
    with pytest.raises(InputError, match="the class of an image is its folder"):
        read(IMAGES, asked, "kind")


def test_a_table_is_encoded_as_those_of_training(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{'yes' if a > 0 else 'no'}" for a in rng.normal(size=30)]
    path = tmp_path / "north.csv"
    path.write_text("\n".join(["age,died", *rows]))
    source = read_tasks(path, "train", Options(targets=("died",)))
    reader = {**source.reader, "kind": source.kind}
    found = read(reader, path)
    np.testing.assert_array_equal(found.x, source.data.x)
    assert list(found.y) == [row.split(",")[1] for row in rows]
    path.write_text("\n".join(["age", *(row.split(",")[0] for row in rows)]))
    np.testing.assert_array_equal(read(reader, path, labelled=False).x, source.data.x)
    with pytest.raises(InputError, match="died"):
        read(reader, path)
