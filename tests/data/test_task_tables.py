import json

import numpy as np
import pandas as pd
import pytest

from jmeta.data.task_encoding import TaskEncoding, encode
from jmeta.data.task_tables import encode_tasks, fit_tasks, read_tables
from jmeta.episodes import eligible, make_bank
from jmeta.errors import InputError

ROWS = 30


def clinic(seed=0, rows=ROWS):
    """Rows of two hospitals, in turn; `rare` is known for three of them."""
    rng = np.random.default_rng(seed)
    rare = np.full(rows, np.nan)
    rare[[1, 8, 20]] = [1.0, 2.0, 4.0]
    return pd.DataFrame(
        {
            "hospital": ["north", "south"] * (rows // 2),
            "age": rng.normal(60.0, 10.0, rows),
            "pain": rng.choice(["none", "chest", "arm"], rows),
            "rare": rare,
            "sick": ["yes", "yes", "no", "no", "yes"] * (rows // 5),
            "died": ["no", "no", "no", "yes", "yes"] * (rows // 5),
            "days": rng.normal(9.0, 2.0, rows),
        }
    )


def test_a_column_names_the_task_of_each_row():
    frame = clinic().drop(columns=["died", "days"])
    data, encoding = fit_tasks({"all": frame}, "sick", task="hospital")
    assert data.form == "numbers" and data.tasks.tolist() == ["north", "south"]
    assert data.classes == (("no", "yes"),) * 2
    south = slice(data.offset[1], data.offset[2])
    assert data.rows[south].tolist() == list(range(1, ROWS, 2))
    np.testing.assert_array_equal(data.label[south], frame["sick"].iloc[1::2] == "yes")
    assert eligible(make_bank(data), 5, 5).tolist() == [True, True]
    assert "hospital" not in {column.name for column in encoding.features.columns}


def test_a_folder_of_files_is_read_as_one_task_a_file(tmp_path):
    frame = clinic().drop(columns=["died", "days"])
    for name, part in frame.groupby("hospital"):
        part.drop(columns="hospital").to_csv(tmp_path / f"{name}.csv.gz", index=False)
    (tmp_path / "notes.md").write_text("no table")
    data, _ = fit_tasks(read_tables(tmp_path), "sick")
    by_column, _ = fit_tasks({"all": frame}, "sick", task="hospital")
    assert data.tasks.tolist() == ["north", "south"] == data.family.tolist()
    np.testing.assert_array_equal(data.label, by_column.label)
    np.testing.assert_array_equal(data.x[data.rows], by_column.x[by_column.rows])


def test_each_target_of_each_group_is_a_task_without_the_rows_that_lack_it():
    frame = clinic().drop(columns="days")
    frame.loc[[0, 1, 4], "died"] = None
    data, encoding = fit_tasks({"all": frame}, ["sick", "died"], task="hospital")
    assert data.tasks.tolist() == [
        "north: sick",
        "north: died",
        "south: sick",
        "south: died",
    ]
    assert data.family.tolist() == ["north", "north", "south", "south"]
    assert np.diff(data.offset).tolist() == [15, 13, 15, 14]
    died = slice(data.offset[1], data.offset[2])
    assert not {0, 4} & set(data.rows[died].tolist())
    np.testing.assert_array_equal(
        data.label[died], frame["died"].iloc[data.rows[died]] == "yes"
    )
    # No target is a feature of another's task.
    names = {column.name for column in encoding.features.columns}
    assert names == {"age", "pain", "rare"}


def test_targets_of_one_table_are_tasks_of_their_own_family():
    frame = clinic().drop(columns=["hospital", "days"])
    data, _ = fit_tasks({"all": frame}, ["sick", "died"])
    assert data.tasks.tolist() == ["sick", "died"] == data.family.tolist()


def test_numbers_keep_their_unit():
    frame = clinic().drop(columns=["sick", "died"])
    frame.loc[2, "days"] = np.nan
    data, _ = fit_tasks({"all": frame}, "days", task="hospital")
    assert np.diff(data.offset).tolist() == [14, 15] and data.classes == ((), ())
    np.testing.assert_allclose(
        data.value, frame["days"].to_numpy()[data.rows], rtol=1e-6
    )
    assert make_bank(data).known.tolist() == [14, 15]


def test_columns_that_are_mostly_missing_survive_with_their_indicator():
    frame = clinic().drop(columns=["died", "days"])
    data, encoding = fit_tasks({"all": frame}, "sick", task="hospital")
    names = encoding.features.names
    rare, gone = names.index("rare"), names.index("rare missing")
    assert np.isfinite(data.x).all() and data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x[:, gone], frame["rare"].isna())
    # 2.0 is the median, and where it is missing.
    assert data.x[20, rare] > 0 > data.x[1, rare]
    assert data.x[8, rare] == 0 == data.x[0, rare]


def test_an_encoding_through_json_encodes_new_tasks_alike():
    frame = clinic().drop(columns=["died", "days"])
    data, encoding = fit_tasks({"all": frame}, "sick", task="hospital")
    again = TaskEncoding.from_json(json.loads(json.dumps(encoding.to_json())))
    assert again == encoding
    np.testing.assert_array_equal(encode(again, frame), data.x)
    # Scales are those of meta-training: shifted ages stay shifted.
    east = clinic(1).assign(age=lambda t: t["age"] + 30.0, pain="leg")
    east = east.drop(columns=["hospital", "died", "days"])
    new = encode_tasks(again, {"east": east})
    assert new.tasks.tolist() == ["east"]
    names = encoding.features.names
    age = names.index("age")
    assert new.x[:, age].mean() > 1.0 > abs(data.x[:, age].mean())
    # A level that was not there is none of those that were.
    assert not new.x[:, [n.startswith("pain=") for n in names]].any()


def test_targets_and_columns_with_gaps_may_be_absent_when_encoding():
    frame = clinic().drop(columns=["died", "days"])
    _, encoding = fit_tasks({"all": frame}, "sick", task="hospital")
    x = encode(encoding, frame[["pain", "age"]])
    assert x[:, encoding.features.names.index("rare missing")].all()
    with pytest.raises(InputError, match=r"columns missing: \['age'\]"):
        encode(encoding, frame[["pain"]])


def test_columns_that_some_tables_lack_are_told():
    north, south = (clinic(s)[["age", "pain", "sick"]] for s in (0, 1))
    data, encoding = fit_tasks({"n": north, "s": south.drop(columns="pain")}, "sick")
    assert "'pain' is absent from 's'" in encoding.notes[-1]
    assert data.x[ROWS:, encoding.features.names.index("pain missing")].all()


FRAME = clinic()
ONE = {"all": FRAME}
TWO = {"a": FRAME, "b": FRAME.rename(columns={"sick": "ill", "died": "dead"})}
UNNAMED = {"all": FRAME.assign(hospital=[None, *FRAME["hospital"][1:]])}
WORD = {"a": FRAME, "b": FRAME.assign(age=["old", *FRAME["age"][1:].round(2)])}
FAULTS = {
    "no target": (ONE, "ill", None, "no target column 'ill'"),
    "no target in one table": (TWO, "sick", None, "table 'b': .*'sick'.*'ill'"),
    "a target in no table": (ONE, ["sick", "dyed"], None, "'dyed'; did you mean 'died"),
    "no task column": (ONE, "sick", "hospitl", "did you mean 'hospital'"),
    "a row without a task": (UNNAMED, "sick", "hospital", "row 1 .* no task"),
    "two kinds": (ONE, ["sick", "days"], None, "'sick' as classes, 'days' as number"),
    "no targets": (ONE, [], None, "at least one"),
    "the task is a target": (ONE, "sick", "sick", "must differ"),
    "text among numbers": (WORD, "sick", None, r"'old' in row 31 .*through 'a', 'b'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_told_in_a_sentence(fault):
    tables, targets, task, match = FAULTS[fault]
    with pytest.raises(InputError, match=match):
        fit_tasks(tables, targets, task=task)


def test_columns_and_classes_that_meta_training_did_not_have_are_refused_by_name():
    frame = FRAME[["age", "pain", "sick"]]
    _, encoding = fit_tasks({"all": frame}, "sick")
    with pytest.raises(InputError, match=r"'ages'; did you mean 'age' for 'ages'"):
        encode(encoding, frame.rename(columns={"age": "ages"}))
    with pytest.raises(InputError, match=r"table 'b': .*'maybe' in row 30.*2 classes"):
        worse = frame.assign(sick=[*frame["sick"][:-1], "maybe"])
        encode_tasks(encoding, {"a": frame, "b": worse})
    with pytest.raises(InputError, match="no row has a target"):
        encode_tasks(encoding, {"a": frame.assign(sick=None)})


def test_folders_without_tables_and_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no table"):
        read_tables(tmp_path)
    for name in ("a.csv", "a.tsv"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="two tables are called 'a'"):
        read_tables(tmp_path)


@pytest.mark.parametrize("field", ["format", "version", "features", "targets", "task"])
def test_damaged_encodings_are_refused(field):
    _, encoding = fit_tasks({"all": FRAME[["age", "sick"]]}, "sick")
    with pytest.raises(InputError):
        TaskEncoding.from_json(encoding.to_json() | {field: 7})
