"""Meta-datasets built from tables: by jmeta's learners, and by scikit-learn's."""

import json
import os
import pickle
import signal
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import jmeta
from jmeta import build, screen
from jmeta.build_estimators import out_of_fold
from jmeta.candidates import candidates_of
from jmeta.data.metadataset import read_meta_dataset, write_folder
from jmeta.describe import names
from jmeta.survey import read_families, survey

ROWS = 40
CHEAP = {
    "classes": [
        *candidates_of("logistic", [{"penalty": 1.0}, {"penalty": 30.0}]),
        *candidates_of("naive_bayes", [{}]),
    ],
    "number": [
        *candidates_of("ridge", [{"penalty": 1.0}, {"penalty": 100.0}]),
        *candidates_of("knn_regressor", [{}]),
    ],
}


def frame(seed: int, last: str = "class") -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(ROWS, 3)).round(3)
    risk = x[:, 0] + 0.5 * x[:, 1] + random.normal(0, 0.5, ROWS)
    out = pd.DataFrame(x, columns=["a", "b", "c"])
    out["ward"] = random.choice(["north", "south"], ROWS)
    out[last] = np.where(risk > 0, "yes", "no")
    return out


@pytest.fixture
def folder(tmp_path):
    """Three tables of classes, and what is no table."""
    path = tmp_path / "tables"
    path.mkdir()
    frame(0).to_csv(path / "one.csv", index=False)
    frame(1).to_csv(path / "two.tsv.gz", index=False, sep="\t")
    frame(2, "died").to_csv(path / "three.csv", index=False)
    (path / "LICENSE").write_text("free")
    return path


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(build, "default_candidates", lambda kind: tuple(CHEAP[kind]))


def content(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


# From a folder of tables.


@pytest.mark.usefixtures("cheap")
def test_a_folder_of_tables_becomes_a_meta_dataset(run, folder, tmp_path):
    (folder / "constant.csv").write_text("a,class\n" + "1,x\n2,x\n" * 10)
    (folder / "short.csv").write_text("a,class\n" + "1,x\n2,y\n3,x\n" * 3)
    meta = tmp_path / "meta"
    code, out, err = run("build", folder, "--out", meta, "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "out": str(meta),
        "name": "tables",
        "kind": "classes",
        "metric": "log_loss",
        "tasks": 3,
        "families": 3,
        "candidates": 3,
        "skipped": {
            "constant.csv": "the target 'class' has only one class, 'x'; there is "
            "nothing to tell apart.",
            "short.csv": "9 rows are too few for 5 folds.",
        },
    }
    assert "Left out constant.csv: the target 'class' has only one class" in err
    assert "'class' in 2; the last column in 1 (three.csv: 'died')" in err
    assert "no families.csv" in err
    assert not (tmp_path / "meta.parts").exists()

    data = read_meta_dataset(meta)
    assert data.tasks == ("one", "three", "two")
    assert data.features == names("classes")
    assert data.metric.name == "log_loss" and not data.metric.maximize
    assert data.candidates[0].startswith("logistic penalty=1")
    assert data.settings is not None
    assert list(data.settings["learner"]) == ["logistic"] * 2 + ["naive_bayes"]
    assert data.settings["penalty"][2] is None
    np.testing.assert_allclose(list(data.settings["penalty"][:2]), [1, 30], rtol=1e-4)
    assert np.isfinite(data.descriptions).all()
    # Better than knowing nothing, worse than knowing all.
    assert (data.costs > 0).all() and (data.costs[:, 0] < np.log(2)).all()
    rows = data.descriptions[:, data.features.index("log_rows")]
    np.testing.assert_allclose(rows, rows[0])


@pytest.mark.usefixtures("cheap")
def test_a_stopped_build_goes_on_to_the_same_bytes(run, folder, tmp_path, monkeypatch):
    whole, meta = tmp_path / "whole", tmp_path / "meta"
    parts = tmp_path / "meta.parts"
    assert run("build", folder, "--out", whole, "--seed", 3)[0] == 0
    assert run("build", folder, "--out", meta, "--seed", 3, "--resume")[0] == 2

    measured, told = [], screen.Bars.__call__
    measure = build._measure
    monkeypatch.setattr(
        build,
        "_measure",
        lambda source, *rest: measured.append(source.name) or measure(source, *rest),
    )

    def listen(self, stage, done, total, numbers):
        told(self, stage, done, total, numbers)
        if stage == "tables" and done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(screen.Bars, "__call__", listen)
        code, out, err = run("build", folder, "--out", meta, "--seed", 3)
    signal.signal(signal.SIGINT, before)
    assert (code, out, len(measured)) == (130, "", 2)
    last = err.splitlines()[-1]
    assert last.startswith("jmeta: stopped") and str(parts) in last
    assert "--resume" in last
    assert not meta.exists() and len(list(parts.glob("*.npz"))) == 2

    code, _, err = run("build", folder, "--out", meta, "--seed", 3)
    assert code == 2 and "--resume" in err and len(err.splitlines()) == 1
    code, _, err = run("build", folder, "--out", meta, "--seed", 4, "--resume")
    assert code == 2 and "seed was 3" in err and len(err.splitlines()) == 1
    assert run("build", folder, "--out", meta, "--seed", 3, "--resume")[0] == 0
    assert len(measured) == 3
    assert content(meta) == content(whole)
    assert not parts.exists()


@pytest.mark.usefixtures("cheap")
def test_a_part_serves_only_the_table_and_seed_it_was_made_for(folder, tmp_path):
    sources, _ = survey(folder)
    one, _ = build.measure_folder(sources[:1], tmp_path / "parts")
    again, _ = build.measure_folder(sources[:1], tmp_path / "parts")
    np.testing.assert_array_equal(one.scores, again.scores)
    build.measure_folder(sources[:1], tmp_path / "parts", seed=1)
    frame(7).to_csv(folder / "one.csv", index=False)
    changed, _ = survey(folder)
    assert changed[0].name == "one"
    other, _ = build.measure_folder(changed[:1], tmp_path / "parts")
    assert not np.array_equal(one.scores, other.scores)
    assert len(list((tmp_path / "parts").iterdir())) == 3


@pytest.mark.usefixtures("cheap")
def test_numbers_families_and_another_metric(run, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for seed, name in enumerate(["p", "q", "r"]):
        table = frame(seed).drop(columns="class")
        # Units must not matter: costs are in deviations of the target.
        table["target"] = 1e6 * (table["a"] + 0.1 * table["b"])
        table.to_csv(folder / f"{name}.csv", index=False)
    frame(5).to_csv(folder / "classes.csv", index=False)
    (folder / "families.csv").write_text("task,family\np,first\nr,first\n")
    meta = tmp_path / "meta"
    code, out, err = run(
        *("build", folder, "--out", meta, "--metric", "rmse", "--folds", 3)
    )
    assert (code, out) == (0, ""), err
    assert "Left out classes.csv" in err and "of kind 'classes'" in err
    assert "families.csv lacks q" in err
    data = read_meta_dataset(meta)
    assert data.tasks == ("p", "q", "r")
    assert data.families.tolist() == [0, 1, 0]
    assert (data.costs[:, 0] < 0.3).all()
    meta = tmp_path / "other"
    assert run("build", folder, "--out", meta, "--metric", "r2", "--folds", 3)[0] == 0
    data = read_meta_dataset(meta)
    assert data.metric.maximize and (data.costs[:, 0] < -0.9).all()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--target", "nothing"], "no target column 'nothing'"),
        (["--metric", "rmse", "--kind", "classes"], "metric must be one of"),
        (["--metric", "rmse"], "metric must be one of"),
        (["--metric", "price"], "metric must be one of"),
        (["--folds", "1"], "--folds must be at least 2"),
        (["--folds", "21"], "40 rows are too few for 21 folds"),
        (["--seed", "-1"], "--seed must be between"),
        (["--resume"], "holds no run to resume"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(run, folder, tmp_path, args, said):
    code, out, err = run("build", folder, "--out", tmp_path / "meta", *args)
    lines = err.splitlines()
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("jmeta: ") and said in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def nowhere(folder):
    return folder / "none", "there is no folder"


def empty(folder):
    for path in folder.iterdir():
        path.unlink()
    return folder, "holds 0 tables of use"


def one_table(folder):
    (folder / "two.tsv.gz").unlink()
    (folder / "three.csv").write_text("")
    return folder, "holds 1 table of use; a meta-dataset needs at least 2. Left out was"


def wrong_families(folder):
    (folder / "families.csv").write_text("task,family\nten,x\n")
    return folder, "names none of the tables"


def no_families(folder):
    (folder / "families.csv").write_text("one,x\ntwo,x\n")
    return folder, "line 1 must be task,family"


@pytest.mark.parametrize(
    "spoil", [nowhere, empty, one_table, wrong_families, no_families]
)
def test_bad_folders_are_refused_in_one_sentence(run, folder, tmp_path, spoil):
    path, said = spoil(folder)
    code, out, err = run("build", path, "--out", tmp_path / "meta")
    lines = err.splitlines()
    assert (code, out, len(lines)) == (2, "", 1), err
    assert said in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_a_full_out_is_refused_before_a_table_is_read(run, folder, tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "mine").write_text("kept")
    code, _, err = run("build", folder, "--out", tmp_path / "meta")
    assert code == 2 and "is not empty" in err and len(err.splitlines()) == 1
    assert content(tmp_path / "meta") == {"mine": b"kept"}


def test_files_of_one_stem_keep_their_whole_names(folder):
    frame(4).to_csv(folder / "one.tsv", index=False, sep="\t")
    sources, skipped = survey(folder)
    assert [s.name for s in sources] == ["one.csv", "one.tsv", "three", "two"]
    assert not skipped
    assert read_families(folder, ["one.csv"]) is None


def test_help_says_what_every_option_is(run):
    code, out, _ = run("build", "--help")
    assert code == 0
    assert "None" not in out and "--resume" in out


# With estimators of one's own.


def estimators():
    return {
        "tree": DecisionTreeClassifier(max_depth=2),
        "line": make_pipeline(StandardScaler(), LogisticRegression(C=0.5)),
    }


def arrays(seed: int, num_classes: int = 2):
    random = np.random.default_rng(seed)
    x = random.normal(size=(ROWS, 3))
    noisy = x[:, 0] + 0.3 * random.normal(size=ROWS)
    return x, np.digitize(noisy, np.linspace(-1, 1, num_classes + 1)[1:-1])


def tables_of_arrays():
    return {"one": arrays(0), "two": arrays(1, 3)}


@pytest.mark.parametrize("back_end", ["threading", "loky"])
def test_every_back_end_gives_the_same(back_end):
    wanted = jmeta.build_with(estimators(), tables_of_arrays(), n_jobs=1)
    with joblib.parallel_config(back_end, n_jobs=2):
        found = jmeta.build_with(estimators(), tables_of_arrays())
    np.testing.assert_array_equal(found.costs, wanted.costs)
    np.testing.assert_array_equal(found.descriptions, wanted.descriptions)
    assert np.isfinite(wanted.costs).all()


def test_workers_import_no_jax():
    program = "import sys, jmeta.build_estimators; assert 'jax' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_what_runs_in_workers_can_be_pickled():
    x, y = arrays(0)
    run = pickle.loads(pickle.dumps(out_of_fold))
    out, why = run(DecisionTreeClassifier(), x, y, np.arange(ROWS) % 2, 2, 0)
    assert why == "" and out.shape == (ROWS, 2)


def test_scores_are_those_of_scikit_learn():
    x, y = arrays(0, 3)
    tables = {"one": (x, y), "two": arrays(1, 3)}
    some = {"line": LogisticRegression(), "none": DummyClassifier(strategy="prior")}
    for metric, score in (
        ("log_loss", lambda p, y: log_loss(y, p, labels=[0, 1, 2])),
        ("balanced_accuracy", lambda p, y: balanced_accuracy_score(y, p.argmax(1))),
    ):
        data = jmeta.build_with(some, tables, metric=metric, folds=4)
        assert data.metric.maximize == (metric == "balanced_accuracy")
        split = build.split_table(pad(x, y), 4, 0)
        each = []
        for support, query in zip(*map(np.asarray, split)):
            fitted = LogisticRegression().fit(x[support[:ROWS]], y[support[:ROWS]])
            rows = query[:ROWS]
            each.append(score(fitted.predict_proba(x[rows]), y[rows]))
        sign = -1 if data.metric.maximize else 1
        np.testing.assert_allclose(data.costs[0, 0], sign * np.mean(each), rtol=1e-5)


def pad(x, y):
    from jmeta.tasks import NUMBER, pad_table

    kinds = np.full(x.shape[1], NUMBER, np.int32)
    return pad_table(x.astype(np.float32), y, kinds)


def test_errors_of_numbers_are_in_deviations_and_survive_a_folder(tmp_path):
    random = np.random.default_rng(0)
    tables = {}
    for name, unit in (("one", 1e-3), ("two", 1e5)):
        x = random.normal(size=(ROWS, 2))
        tables[name] = x, unit * (7 + x[:, 0] + 0.1 * random.normal(size=ROWS))
    some = {"ridge": Ridge(alpha=1e-6), "tree": DecisionTreeRegressor(max_depth=1)}
    families = {"one": "same", "two": "same"}
    data = jmeta.build_with(some, tables, families=families)
    assert data.metric.name == "rmse" and data.families.tolist() == [0, 0]
    x, y = tables["two"]
    fold = np.argmin(build.split_table(pad(x, y.astype(np.float32)), 5, 0).support, 0)
    each = []
    for k in range(5):
        fitted = Ridge(alpha=1e-6).fit(x[fold[:ROWS] != k], y[fold[:ROWS] != k])
        rows = fold[:ROWS] == k
        each.append(root_mean_squared_error(y[rows], fitted.predict(x[rows])))
    np.testing.assert_allclose(data.costs[1, 0], np.mean(each) / np.std(y), rtol=1e-4)

    write_folder(tmp_path / "meta", data)
    back = read_meta_dataset(tmp_path / "meta")
    np.testing.assert_array_equal(back.costs, data.costs)
    assert back.settings is not None
    assert list(back.settings["learner"]) == ["Ridge", "DecisionTreeRegressor"]
    assert list(back.settings["alpha"]) == [1e-6, None]
    assert list(back.settings["max_depth"]) == [None, 1]


class Fussy(DecisionTreeClassifier):
    """Refuses tables of two classes."""

    def fit(self, X, y):
        if len(np.unique(y)) == 2:
            raise ArithmeticError("two is not enough\nof classes")
        return super().fit(X, y)


def test_an_estimator_that_fails_is_a_missing_run_and_a_warning_names_both():
    some = {"fussy": Fussy(), "tree": DecisionTreeClassifier()}
    told = "'fussy' failed on table 'one', .* ArithmeticError: two is not enough$"
    with pytest.warns(RuntimeWarning, match=told) as warned:
        data = jmeta.build_with(some, tables_of_arrays())
    assert len(warned) == 1
    np.testing.assert_array_equal(np.isnan(data.costs), [[True, False], [False, False]])
    np.testing.assert_array_equal(data.solved, ~np.isnan(data.costs))


def test_predictions_that_are_not_finite_are_a_missing_run():
    class Broken(DecisionTreeClassifier):
        def predict_proba(self, X):
            return np.full((len(X), len(self.classes_)), np.nan)

    with pytest.warns(RuntimeWarning, match="not all finite"):
        data = jmeta.build_with(
            {"broken": Broken(), "tree": DecisionTreeClassifier()}, tables_of_arrays()
        )
    assert np.isnan(data.costs[:, 0]).all() and np.isfinite(data.costs[:, 1]).all()


def test_frames_reach_pipelines_as_frames_and_rows_without_target_are_left_out():
    columns = make_column_transformer(
        (OneHotEncoder(), ["ward"]), remainder="passthrough"
    )
    some = {
        "columns": make_pipeline(columns, LogisticRegression()),
        "none": DummyClassifier(strategy="prior"),
    }
    tables = {}
    for seed, name in enumerate(["one", "two"]):
        table = frame(seed).set_index(np.arange(100, 100 + ROWS))
        table.loc[[103, 120], "class"] = None
        tables[name] = table.drop(columns="class"), table["class"]
    data = jmeta.build_with(some, tables)
    assert (data.costs[:, 0] < data.costs[:, 1]).all()


def test_a_class_with_one_row_is_not_judged():
    x, y = arrays(0)
    rare = y.copy()
    rare[3] = 2
    some = {"line": LogisticRegression(), "none": DummyClassifier(strategy="prior")}
    data = jmeta.build_with(some, {"plain": (x, y), "rare": (x, rare)})
    # A row of a class never seen would cost -log(1e-7) = 16 on its fold.
    assert (data.costs < 1.0).all()


def test_what_cannot_be_built_is_refused():
    two, some = tables_of_arrays(), estimators()
    with pytest.raises(ValueError, match="at least 2 estimators"):
        jmeta.build_with({"tree": some["tree"]}, two)
    with pytest.raises(ValueError, match="'svm' has no predict_proba"):
        jmeta.build_with(some | {"svm": LinearSVC()}, two)
    with pytest.raises(jmeta.InputError, match="table 'bad': 40 rows and 39 values"):
        jmeta.build_with(some, two | {"bad": (two["one"][0], two["one"][1][:39])})
    with pytest.raises(jmeta.InputError, match=r"\['classes', 'number'\]"):
        jmeta.build_with(some, two | {"number": (two["one"][0], two["one"][0][:, 0])})
    with pytest.raises(jmeta.InputError, match="too few for 30 folds"):
        jmeta.build_with(some, two, folds=30)
    with pytest.raises(jmeta.InputError, match="metric must be one of"):
        jmeta.build_with(some, two, metric="rmse")


def test_without_probabilities_the_labels_are_judged():
    some = {"ridge": RidgeClassifier(), "none": DummyClassifier(strategy="prior")}
    data = jmeta.build_with(some, tables_of_arrays(), metric="balanced_accuracy")
    assert (data.costs[:, 0] < data.costs[:, 1]).all()
