"""Folders of tables become the record and come back equal, or say why not."""

import gzip
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_folders import real_folder

from jmeta.data.cells import parse_setting, print_setting
from jmeta.data.metadataset import (
    FeatureGroup,
    MetaDataset,
    Metric,
    read_folder,
    read_meta_dataset,
    write_folder,
)
from jmeta.errors import InputError

FILES = {
    "scores.csv": "task,c0,c1,c2\nt1,0.1,0.25,\nt2,1,-2e-3,0\nt3,,,\n007,,0.5,NA\n",
    "descriptions.csv": "task,rows,width\n007,3,\nt3,4,4\nt1,1e3,0.5\nt9,1,1\n",
    "tasks.csv": "task,family\nt9,x\nt1,iris\nt3,y\n007,iris\n",
    "candidates.csv": (
        "candidate,depth,rate,kernel,flag\nc2,3,0.5,rbf,True\nc9,1,1,x,False\n"
        "c0,,1e-3,none,\n"
    ),
}


def folder_of(path, **changes):
    """Write a folder of tables; `changes` are contents by stem, None leaves one out."""
    path.mkdir(exist_ok=True)
    for name, content in FILES.items():
        content = changes.pop(name.removesuffix(".csv"), content)
        if content is not None:
            (path / name).write_bytes(content.encode(errors="surrogateescape"))
    assert not changes
    return path


def check_equal(data, other):
    """Compare two records, the types of their cells included."""
    for field, ours, theirs in zip(data._fields, data, other):
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, field
            np.testing.assert_array_equal(ours, theirs, err_msg=field)
        elif isinstance(ours, pd.DataFrame):
            assert list(ours) == list(theirs)
            rows, others = ours.to_numpy(), theirs.to_numpy()
            assert [list(map(repr, row)) for row in rows] == [
                list(map(repr, row)) for row in others
            ]
        else:
            assert ours == theirs, field


def test_a_folder_is_the_record_worked_out_by_hand(tmp_path):
    data = read_folder(folder_of(tmp_path / "mine"))
    assert data.name == "mine"
    assert data.metric == Metric("score", maximize=True, cutoff=None)
    assert data.tasks == ("t1", "t2", "007")  # Nothing ran on the third of the four.
    assert data.candidates == ("c0", "c1", "c2")
    assert data.features == ("rows", "width")
    nan = np.nan
    np.testing.assert_array_equal(
        data.costs, [[-0.1, -0.25, nan], [-1, 2e-3, 0], [nan, -0.5, nan]]
    )
    np.testing.assert_array_equal(data.solved, ~np.isnan(data.costs))
    np.testing.assert_array_equal(
        data.descriptions, [[1000, 0.5], [nan, nan], [3, nan]]
    )
    np.testing.assert_array_equal(data.families, [0, 1, 0])
    assert data.settings.to_dict("list") == {
        "depth": [None, None, 3],
        "rate": [1e-3, None, 0.5],
        "kernel": ["none", None, "rbf"],
        "flag": [None, None, True],
    }
    assert data.groups == () and data.group_costs.shape == (3, 0)
    assert data.folds is None


def test_what_is_not_always_there_may_be_absent(tmp_path):
    data = read_folder(folder_of(tmp_path, tasks=None, candidates=None))
    np.testing.assert_array_equal(data.families, [0, 1, 2])
    assert data.settings is None


def test_a_column_of_dictionaries_is_a_column_per_hyperparameter(tmp_path):
    text = (
        "candidate,parameters\nc1,\"{'C': 0.1, 'depth': None, 'layers': (5, 2)}\"\n"
        "c0,\"{'C': 10, 'kernel': 'rbf', 'flag': False}\"\nc2,\n"
    )
    data = read_folder(folder_of(tmp_path, candidates=text))
    assert data.settings.to_dict("list") == {
        "C": [10, 0.1, None],
        "depth": [None, None, None],
        "layers": [None, (5, 2), None],
        "kernel": ["rbf", None, None],
        "flag": [False, None, None],
    }


def test_nothing_in_a_table_is_evaluated(tmp_path):
    text = "candidate,parameters\nc0,\"{'C': __import__('os').getpid()}\"\n"
    with pytest.raises(InputError, match=r"line 2 .*a Python dictionary is expected"):
        read_folder(folder_of(tmp_path, candidates=text))


def test_gzip_margins_and_line_ends_do_not_matter(tmp_path):
    plain = read_folder(folder_of(tmp_path / "plain"))
    other = tmp_path / "other"
    other.mkdir()
    for name, content in FILES.items():
        text = "\ufeff" + content.replace("\n", "\r\n\r\n").replace(",", " , ")
        (other / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    check_equal(read_folder(other)._replace(name="plain"), plain)


BAD = {
    "word": ("scores", "-2e-3", "good", r"line 3 has 'good' in the column 'c1'"),
    "inf": ("scores", "0.25", "inf", r"line 2 has 'inf' in the column 'c1'"),
    "huge": ("scores", "0.25", "1e999", r"line 2 has '1e999'"),
    "underscore": ("scores", "0.25", "2_5", r"line 2 has '2_5'"),
    "described inf": ("descriptions", "1e3", "-inf", r"line 4 has '-inf' .*'rows'"),
    "task twice": ("scores", "t2,", "t1,", "line 3 names 't1' again"),
    "described twice": ("descriptions", "t9,", "t1,", "line 5 names 't1' again"),
    "family twice": ("tasks", "t9", "t1", "line 3 names 't1' again"),
    "candidate twice": ("scores", "c1", "c0", "line 1 has duplicate.*'c0'"),
    "feature twice": ("descriptions", "rows", "width", "line 1 has dupl.*'width'"),
    "settings twice": ("candidates", "c9", "c2", "line 3 names 'c2' again"),
    "no name": ("scores", "t2,", " ,", "line 3 has no name"),
    "no column": ("scores", "c1", "", "line 1 has no name for column 3"),
    "short": ("scores", "t2,1,", "t2,", "line 3 has 3 fields and the header has 4"),
    "quote": ("scores", "t2,1", 't2,"1', "line 5 is no comma-separated"),
    "no rows": ("descriptions", FILES["descriptions.csv"][15:], "", "no rows below"),
    "no features": (
        "descriptions",
        FILES["descriptions.csv"],
        "task\nt1\n",
        "no features",
    ),
    "strangers": (
        *("descriptions", FILES["descriptions.csv"], "task,a\nx1,1\n"),
        r"none of the tasks of .*scores\.csv.*'x1' in line 2.*'t1'",
    ),
    "unknown settings": ("candidates", "\nc", "\nd", "none of the candidates.*'d2'"),
    "no family": ("tasks", "family", "kin", "line 1 must name the columns task,family"),
    "one candidate": (
        *("scores", FILES["scores.csv"], "task,c0\nt1,1\nt2,2\n"),
        "line 1 names 1 candidates",
    ),
    "semicolons": (
        *("scores", FILES["scores.csv"], FILES["scores.csv"].replace(",", ";")),
        "line 1 names 0 candidates.*separated by commas",
    ),
    "one task": ("scores", "t2,1,-2e-3,0\nt3,,,\n007,,0.5,NA", "t2,,,", "of 1 task;"),
    "no score": (
        "scores",
        FILES["scores.csv"],
        "t,a,b\nx,,\ny,?,\n",
        "no score at all",
    ),
    "latin": ("scores", "t2", "t\udcfc", "line 3 is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_folder_is_named_by_file_and_line(tmp_path, case):
    stem, old, new, pattern = BAD[case]
    text = FILES[f"{stem}.csv"]
    assert old in text
    with pytest.raises(InputError, match=pattern) as raised:
        read_folder(folder_of(tmp_path, **{stem: text.replace(old, new)}))
    message = str(raised.value)
    assert f"{stem}.csv" in message and "\n" not in message


def test_damaged_gzip_and_two_tables_of_one_name_are_refused(tmp_path):
    packed = gzip.compress(FILES["scores.csv"].encode())
    folder = folder_of(tmp_path)
    (folder / "scores.csv.gz").write_bytes(packed)
    with pytest.raises(InputError, match=r"both scores\.csv and scores\.csv\.gz"):
        read_folder(folder)
    (folder / "scores.csv").unlink()
    read_folder(folder)
    for damaged in (packed[:20], packed[:30] + b"\xff" * 9):
        (folder / "scores.csv.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"scores\.csv\.gz' cannot be read"):
            read_folder(folder)


def test_a_folder_of_neither_format_hears_what_both_need(tmp_path):
    with pytest.raises(InputError, match=r"scores\.csv .*descriptions\.csv.*ASlib"):
        read_meta_dataset(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        read_meta_dataset(tmp_path / "absent")
    file = tmp_path / "scores.csv"
    file.write_text(FILES["scores.csv"])
    with pytest.raises(InputError, match="is a file; name the folder"):
        read_meta_dataset(file)
    with pytest.raises(InputError, match=r"has no descriptions\.csv"):
        read_meta_dataset(tmp_path)


@pytest.mark.parametrize(
    "text, pattern",
    [
        ('{"metric": "AUC",\n "maximize" true}', "line 2 is no JSON"),
        ("[1]", "must hold an object"),
        ('{"maximize": 1}', "maximize is true or false"),
        ('{"metric": null}', "name and metric are texts"),
        ('{"cutoff": -1}', "positive seconds"),
        ('{"cutoff": NaN}', "positive seconds"),
        ('{"groups": [{"name": "a"}]}', "a list of objects"),
    ],
)
def test_bad_meta_json_is_refused(tmp_path, text, pattern):
    (folder_of(tmp_path) / "meta.json").write_text(text)
    with pytest.raises(InputError, match=rf"meta\.json'.*{pattern}"):
        read_folder(tmp_path)


def test_meta_json_tells_what_the_scores_mean(tmp_path):
    meta = {"metric": "log loss", "maximize": False, "source": "a paper"}
    (folder_of(tmp_path) / "meta.json").write_text(json.dumps(meta))
    data = read_folder(tmp_path)
    assert data.metric == Metric("log loss", maximize=False, cutoff=None)
    np.testing.assert_array_equal(data.costs[1], [1, -2e-3, 0])


def test_folds_must_be_whole_numbers(tmp_path):
    (folder_of(tmp_path) / "folds.csv").write_text("task,r\nt1,0\n\nt2,0.5\n")
    with pytest.raises(InputError, match=r"folds\.csv': line 4 must hold whole"):
        read_folder(tmp_path)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5
).map(str.strip)
NUMBERS = st.floats(allow_infinity=False, allow_subnormal=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS.filter(lambda x: x == x),
    lambda inner: st.tuples(inner, inner),
    max_leaves=3,
) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


def names(draw, size):
    named = NAMES.filter(bool)
    return tuple(draw(st.lists(named, min_size=size, max_size=size, unique=True)))


@st.composite
def meta_datasets(draw):
    """Records such as readers return."""
    num_tasks, num_candidates, num_features = (
        draw(st.integers(low, 4)) for low in (2, 2, 1)
    )
    shape = (num_tasks, num_candidates)
    costs = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
    costs[:, 0] = np.nan_to_num(costs[:, 0])  # Every task has a cost.
    features = names(draw, num_features)
    numbers: dict[int, int] = {}
    labels = draw(st.lists(st.integers(0, 3), min_size=num_tasks, max_size=num_tasks))
    columns = names(draw, draw(st.integers(1, 3)))
    rows = [[draw(VALUES) for _ in columns] for _ in range(num_candidates)]
    frame = pd.DataFrame(
        {
            c: pd.Series([row[i] for row in rows], dtype=object)
            for i, c in enumerate(columns)
        }
    )
    places = st.lists(st.integers(0, num_features - 1), unique=True).map(tuple)
    groups = tuple(
        FeatureGroup(name, draw(places), requires=("x",))
        for name in names(draw, draw(st.integers(0, 2)))
    )
    seconds = st.floats(0, 1e300)
    cutoff = draw(st.none() | st.floats(1e-3, 1e9))
    folds = hnp.arrays(int, (2, num_tasks), elements=st.integers(-1, 9))
    return MetaDataset(
        name=draw(NAMES),
        tasks=names(draw, num_tasks),
        families=np.array([numbers.setdefault(x, len(numbers)) for x in labels]),
        candidates=names(draw, num_candidates),
        features=features,
        descriptions=draw(
            hnp.arrays(np.float64, (num_tasks, num_features), elements=NUMBERS)
        ),
        costs=costs,
        metric=Metric(draw(NAMES), draw(st.booleans()), cutoff),
        settings=draw(st.none() | st.just(frame)),
        groups=groups,
        group_costs=draw(
            hnp.arrays(np.float64, (num_tasks, len(groups)), elements=seconds)
        ),
        solved=draw(hnp.arrays(bool, shape)),
        folds=draw(st.none() | folds),
    )


@settings(max_examples=60, deadline=None)
@given(data=meta_datasets())
def test_a_written_folder_is_read_back_equal(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("folders") / "written"
    write_folder(path, data)
    check_equal(read_meta_dataset(path), data)


def test_a_hyperparameter_may_be_called_parameters(tmp_path):
    text = "candidate,parameters\nc1,{'parameters': 5}\n"
    data = read_folder(folder_of(tmp_path / "source", candidates=text))
    write_folder(tmp_path / "source2", data)
    copy = read_folder(tmp_path / "source2")
    assert copy.settings.to_dict("list") == {"parameters": [None, 5, None]}


@given(value=VALUES)
def test_a_printed_setting_is_parsed_as_the_same_value(value):
    assert repr(parse_setting(print_setting(value).strip())) == repr(value)


@pytest.mark.parametrize("value", [np.float64(0.1), np.int64(3), np.bool_(True)])
def test_settings_of_numpy_are_python_values(value):
    assert parse_setting(print_setting(value)) == value.item()
    assert print_setting(np.nan) == print_setting(None) == print_setting(pd.NA) == ""


def written(tmp_path):
    return read_folder(folder_of(tmp_path / "source"))


def test_equal_records_give_equal_bytes(tmp_path):
    data = written(tmp_path)
    for name in ("a", "b"):
        write_folder(tmp_path / "deep" / name, data)
    files = sorted(path.name for path in (tmp_path / "deep" / "a").iterdir())
    assert files == [
        *("candidates.csv.gz", "descriptions.csv.gz", "meta.json", "scores.csv.gz"),
        "tasks.csv.gz",
    ]
    for name in files:
        ours, theirs = (tmp_path / "deep" / which / name for which in "ab")
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_folder_with_content_is_not_written_over(tmp_path):
    data = written(tmp_path)
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", data)
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        write_folder(tmp_path / "empty", data)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; name a new folder"):
        write_folder(tmp_path / "file", data)


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path, monkeypatch):
    data = written(tmp_path)

    def fail(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(InputError, match="No space left"):
        write_folder(tmp_path / "new", data)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_record_that_could_not_be_read_is_not_written(tmp_path):
    data = written(tmp_path)
    for place, value in ((0, np.inf), (slice(None), np.nan)):
        costs = data.costs.copy()
        costs[0, place] = value
        with pytest.raises(ValueError, match="write_folder: "):
            write_folder(tmp_path / "new", data._replace(costs=costs))
    assert not (tmp_path / "new").exists()


REAL = {  # Tasks, candidates, features, families, hyperparameters.
    "autosklearn-acc": (140, 106, 46, 63, 159),
    "autosklearn-bac": (140, 106, 46, 63, 159),
    "autosklearn2-policies": (208, 8, 2, 208, None),
    "pmlb-algorithms": (160, 6, 35, 123, None),
    "pmlb-boosting": (154, 48, 35, 117, 7),
    "pmlb-forest": (163, 56, 35, 126, 7),
    "pmlb-knn": (164, 12, 35, 127, 3),
    "pmlb-logreg": (163, 12, 35, 126, 4),
    "pmlb-svm": (137, 81, 35, 105, 6),
    "pmlb-tree": (164, 28, 35, 127, 6),
    "rpart-bac": (116, 512, 98, 100, 6),
    "xgboost-auc": (116, 512, 98, 100, 14),
    "xgboost-bac": (116, 512, 98, 100, 14),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_folder_is_read_whole(name):
    data = read_meta_dataset(real_folder("meta", name))
    tasks, candidates, features, families, hyperparameters = REAL[name]
    assert data.costs.shape == (tasks, candidates) and data.solved.all()
    assert data.descriptions.shape == (tasks, features)
    assert len(set(data.families)) == families
    if hyperparameters is None:
        assert data.settings is None
    else:
        assert data.settings.shape == (candidates, hyperparameters)


@pytest.mark.parametrize(
    "kind, name",
    [
        ("meta", "autosklearn-bac"),
        ("meta", "pmlb-tree"),
        ("meta", "rpart-bac"),
        ("aslib", "SAT11-INDU"),
        ("aslib", "OPENML-WEKA-2017"),
    ],
)
def test_a_real_meta_dataset_is_written_and_read_back_equal(tmp_path, kind, name):
    data = read_meta_dataset(real_folder(kind, name))
    write_folder(tmp_path / "copy", data)
    check_equal(read_meta_dataset(tmp_path / "copy"), data)
