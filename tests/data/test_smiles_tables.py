import numpy as np
import pandas as pd
import pytest

from jmeta.data.smiles import fingerprints_of
from jmeta.data.smiles_tables import smiles_tasks
from jmeta.errors import InputError

pytest.importorskip("rdkit", reason="reading SMILES needs rdkit")

ALKANES = ["C" * n for n in range(1, 9)]


def table(**columns):
    return pd.DataFrame({"SMILES": ALKANES} | columns)


def test_every_target_is_a_task_on_the_molecules_that_have_it():
    toxic = ["no", "yes", "no", None, "yes", "no", "no", "yes"]
    data = smiles_tasks({"a": table(toxic=toxic, active=["x", "y"] * 4)})
    assert data.form == "fingerprint" and data.tasks.tolist() == ["toxic", "active"]
    assert data.offset.tolist() == [0, 7, 15]
    assert data.rows[:7].tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert data.classes[0] == ("no", "yes")
    assert data.label[:7].tolist() == [0, 1, 0, 1, 0, 0, 1]
    np.testing.assert_array_equal(data.x, fingerprints_of(ALKANES))


def test_groups_and_tables_are_tasks_and_numbers_stay_numbers():
    assay = ["p"] * 3 + ["q"] * 5
    frame = table(assay=assay, value=np.arange(8.0) / 7.0)
    data = smiles_tasks({"a": frame}, ["value"], task="assay", kind="number")
    assert data.tasks.tolist() == ["p", "q"] and data.offset.tolist() == [0, 3, 8]
    np.testing.assert_allclose(data.value, np.arange(8.0) / 7.0, rtol=1e-5, atol=1e-6)
    two = smiles_tasks({"a": table(y=[0, 1] * 4), "b": table(y=[1, 0] * 4)})
    assert two.tasks.tolist() == ["a", "b"] and two.rows.tolist() == list(range(16))


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="table 'a' has no column smiles"):
        smiles_tasks({"a": pd.DataFrame({"x": [1, 2]})})
    with pytest.raises(InputError, match="no column beside the SMILES"):
        smiles_tasks({"a": table()})
    with pytest.raises(InputError, match="different kinds"):
        smiles_tasks({"a": table(y=["a", "b"] * 4, z=np.arange(8) / 7.0)})
