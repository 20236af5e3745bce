import numpy as np
import pytest
from real_folders import real_folder
from tiny_molecules import tiny_counts, write_fsmol, write_moleculenet

from jmeta.data.molecules import NUM_BITS, padded_counts, read_molecules
from jmeta.errors import InputError


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_either_file_and_their_folder_give_the_same(tmp_path):
    path = write_fsmol(tmp_path)
    data = read_molecules(path)
    same(data, read_molecules(tmp_path / "train_ecfp_counts.npz"))
    same(data, read_molecules(tmp_path, "train"))
    assert list(data.tasks) == ["CHEMBL0", "CHEMBL1", "CHEMBL2"]
    np.testing.assert_array_equal(data.rows, np.arange(82))
    assert data.train_tasks is None and data.test_tasks is None


def test_rows_of_moleculenet_point_into_the_fingerprints(tmp_path):
    path = write_moleculenet(tmp_path)
    data = read_molecules(path)
    same(data, read_molecules(tmp_path, "tox"))
    same(data, read_molecules(tmp_path / "tox_ecfp4_counts.npz"))
    np.testing.assert_array_equal(data.rows, [0, 1, 2, 3, 4, 1, 0])
    assert np.isnan(data.value).all() and list(data.tasks) == ["tox-0", "tox-1"]
    np.testing.assert_array_equal(data.test_tasks, [1])


def test_padded_counts_hold_the_entries_in_order(tmp_path):
    data = read_molecules(write_fsmol(tmp_path))
    padded, found = padded_counts(data), tiny_counts(82)
    assert padded.shape == (82, found["n"].max(), 2)
    there = padded[..., 1] > 0
    np.testing.assert_array_equal(there.sum(axis=1), found["n"])
    np.testing.assert_array_equal(padded[there], np.c_[found["idx"], found["cnt"]])
    with pytest.raises(ValueError, match="does not fit in slots=2"):
        padded_counts(data, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"offset": None}, "lacks offset"),
        ({"offset": np.array([0, 90])}, "must rise from 0 to the number of labels, 82"),
        ({"offset": np.array([[0, 82]])}, "has 2 axes"),
        ({"label": np.full(82, 2)}, "0 and 1 alone"),
        ({"label": np.full(82, 0.5)}, "type float64"),
        ({"log_value": np.zeros(3)}, "log_value or task_id"),
        ({"mol": np.full(82, 100)}, "do not belong together"),
        ({"mol": np.full(82, -1)}, "one molecule for each label"),
        ({"train_tasks": np.array([3])}, "places of the 3 tasks"),
        ({"extra": np.array([{}])}, "no NumPy archive of plain arrays"),
    ],
)
def test_a_file_that_says_something_else_is_named(tmp_path, changes, said):
    path = write_fsmol(tmp_path, **changes)
    with pytest.raises(InputError, match=said) as error:
        read_molecules(path)
    assert "train_core.npz" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": np.ones(82, int)}, "n promises 82 entries"),
        ({"n": np.ones(3)}, "type float64"),
        ({"idx": None}, "lacks idx"),
        ({"idx": NUM_BITS}, r"idx must be in \[0, 2048\)"),
        ({"cnt": 0}, "cnt must be from 1"),
    ],
)
def test_fingerprints_that_are_none_are_named(tmp_path, changes, said):
    path = write_fsmol(tmp_path)
    counts = tiny_counts(82)
    for name, value in changes.items():
        if value is None:
            del counts[name]
        elif np.ndim(value):
            counts[name] = value
        else:
            counts[name][0] = value
    np.savez(tmp_path / "train_ecfp_counts.npz", **counts)
    with pytest.raises(InputError, match=said) as error:
        read_molecules(path)
    assert "train_ecfp_counts.npz" in str(error.value)


def test_a_file_cut_anywhere_is_refused_in_a_sentence(tmp_path):
    path = write_fsmol(tmp_path)
    content = path.read_bytes()
    for length in (0, 1, 30, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut short or no NumPy archive"):
            read_molecules(path)


def test_what_is_not_there_is_named(tmp_path):
    path = write_fsmol(tmp_path)
    for asked in ((tmp_path / "no.npz",), (tmp_path, "test"), (tmp_path,)):
        with pytest.raises(InputError):
            read_molecules(*asked)
    with pytest.raises(InputError, match="no folder"):
        read_molecules(path, "train")
    with pytest.raises(InputError, match="must end in"):
        read_molecules(tmp_path / "a.csv")
    np.save(tmp_path / "one_core.npz", np.zeros(3))
    (tmp_path / "one_core.npz.npy").rename(tmp_path / "one_core.npz")
    with pytest.raises(InputError, match="no NumPy archive"):
        read_molecules(tmp_path / "one_core.npz")


def test_the_real_files_have_the_counts_that_their_notes_say():
    data = read_molecules(real_folder("molecules", "fsmol"), "valid")
    assert len(data.tasks) == 39 and len(data.label) == data.offset[-1] == 14311
    assert data.idx.max() < NUM_BITS and np.isfinite(data.value).any()
    tox = read_molecules(real_folder("molecules", "moleculenet") / "tox21.npz")
    assert len(tox.test_tasks) == 3 and len(tox.tasks) == 12
