import numpy as np
import pytest
from tiny_molecules import write_fsmol, write_moleculenet

from jmeta.data.collection import compact, of_classes
from jmeta.errors import InputError
from jmeta.fewshot.sources import Options, read_tasks
from jmeta.fewshot.splits import apart, held_out, named_classes

PLAIN = Options()


def write_images(path, num_classes=6, each=3, size=8):
    """An archive whose images are as dark as their class is early."""
    labels = np.repeat(np.arange(num_classes), each)
    images = np.zeros((len(labels), size, size), np.uint8) + 20 * labels[:, None, None]
    names = np.array([f"class{i}" for i in range(num_classes)])
    np.savez(path, images=images.astype(np.uint8), labels=labels, class_names=names)
    return path


def test_a_folder_holds_the_split_that_the_role_asks_for(tmp_path):
    write_fsmol(tmp_path, "train", sizes=(40, 30))
    write_fsmol(tmp_path, "valid", sizes=(20, 20, 20))
    assert len(read_tasks(tmp_path, "train", PLAIN).data.tasks) == 2
    assert len(read_tasks(tmp_path, "valid", PLAIN).data.tasks) == 3
    assert len(read_tasks(tmp_path, "test", PLAIN).data.tasks) == 3  # There is no test.
    other = Options(split="train")
    assert len(read_tasks(tmp_path, "valid", other).data.tasks) == 2


def test_a_file_says_which_of_its_tasks_are_for_testing(tmp_path):
    path = write_moleculenet(tmp_path)
    names = {
        role: list(read_tasks(path, role, PLAIN).data.tasks)
        for role in ("train", "test")
    }
    assert names == {"train": ["tox-0"], "test": ["tox-1"]}
    assert len(read_tasks(path, "train", Options(split="all")).data.tasks) == 2


def test_assays_of_one_protein_are_a_family(tmp_path):
    write_fsmol(tmp_path, "train", sizes=(20, 20, 20))
    (tmp_path / "target_info.csv").write_text(
        "chembl_id,target_id\nCHEMBL0,7\nCHEMBL2,7\nCHEMBL1,\n"
    )
    data = read_tasks(tmp_path, "train", PLAIN).data
    assert list(data.family) == ["7", "CHEMBL1", "7"]
    judged = data._replace(family=np.array(["7", "other", "other"]))
    assert list(apart(data, judged).tasks) == ["CHEMBL1"]


def test_families_never_straddle_what_is_held_out(tmp_path):
    data = read_tasks(write_fsmol(tmp_path, sizes=(9,) * 30), "train", PLAIN).data
    data = data._replace(family=np.array([f"f{i // 3}" for i in range(30)]))
    for seed in range(5):
        rest, held = held_out(data, 0.2, seed=seed)
        assert not set(rest.family) & set(held.family)
        assert len(held.tasks) == 6 and len(rest.tasks) == 24
    assert len(held_out(data, 0.9, most=9)[1].tasks) == 9


def test_one_family_cannot_be_held_out(tmp_path):
    data = read_tasks(write_fsmol(tmp_path, sizes=(9,)), "train", PLAIN).data
    with pytest.raises(InputError, match="name other tasks by --valid"):
        held_out(data, 0.1)


def test_classes_of_a_single_pool_are_held_out(tmp_path):
    data = read_tasks(write_images(tmp_path / "a.npz"), "train", PLAIN).data
    rest, held = held_out(data, 0.1, ways=2)
    assert len(rest.classes[0]) == 4 and len(held.classes[0]) == 2
    assert not set(rest.classes[0]) & set(held.classes[0])
    # Images are still those of their class.
    for part in (rest, held):
        dark = part.x[part.rows].reshape(len(part.rows), -1)[:, 0] // 20
        named = [int(part.classes[0][label][-1]) for label in part.label]
        np.testing.assert_array_equal(dark, named)
    with pytest.raises(InputError, match="name other tasks"):
        held_out(data, 0.1, ways=4)


def test_classes_are_chosen_by_name(tmp_path):
    path = write_images(tmp_path / "a.npz")
    data = read_tasks(path, "train", Options(classes=("class1", "class4"))).data
    assert data.classes == (("class1", "class4"),)
    assert sorted(set(data.x[data.rows].ravel())) == [20, 80]
    with pytest.raises(InputError, match="no class is called 'dog'"):
        named_classes(data, ["dog"])


def test_compact_keeps_the_rows_of_the_tasks_alone(tmp_path):
    data = read_tasks(write_images(tmp_path / "a.npz"), "train", PLAIN).data
    few = of_classes(data, [np.array([2])])
    small = compact(few)
    assert len(small.x) == 3 < len(few.x)
    np.testing.assert_array_equal(small.x[small.rows], few.x[few.rows])


def test_tables_with_smiles_are_molecules(tmp_path):
    pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")
    lines = [f"{'C' * n}O,{n % 2},{2 - n % 2}" for n in range(1, 9)]
    (tmp_path / "assays.csv").write_text("\n".join(["Smiles,a,b", *lines]))
    found = read_tasks(tmp_path, "train", Options(kind="classes"))
    assert found.reader["name"] == "molecules" and found.data.form == "fingerprint"
    assert found.data.tasks.tolist() == ["a", "b"] and not found.pools
    # A model of molecules reads them too.
    assert read_tasks(tmp_path, "test", PLAIN, found.reader).kind == "classes"


def test_tables_are_encoded_as_those_of_training(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("north", "south"):
        rows = [f"{a:.3f},{'yes' if a > 0 else 'no'}" for a in rng.normal(size=30)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["age,died", *rows]))
    found = read_tasks(tmp_path, "train", Options(targets=("died",)))
    assert list(found.data.family) == ["north", "south"] and not found.pools
    again = read_tasks(tmp_path / "north.csv", "test", PLAIN, found.reader).data
    np.testing.assert_array_equal(again.x, found.data.x[:30])
    with pytest.raises(InputError, match="say by --target"):
        read_tasks(tmp_path, "train", PLAIN)
    with pytest.raises(InputError, match="trained on tables"):
        read_tasks(write_images(tmp_path / "a.npz"), "test", PLAIN, found.reader)


@pytest.mark.parametrize("name", ["notes.txt", "x.pkl"])
def test_other_files_are_refused_by_what_is_known(tmp_path, name):
    (tmp_path / name).write_text("what")
    if name.endswith("txt"):  # Separated text, that is: a table.
        with pytest.raises(InputError):
            read_tasks(tmp_path / name, "train", Options(targets=("y",)))
        return
    with pytest.raises(InputError, match="of no kind that is known"):
        read_tasks(tmp_path / name, "train", PLAIN)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        read_tasks(tmp_path / "missing", "train", PLAIN)
