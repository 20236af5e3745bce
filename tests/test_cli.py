"""The command line: what it prints, what it refuses, and what it leaves on the disk."""

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import untrained
from safetensors import safe_open
from safetensors.numpy import save_file

import jmeta
from jmeta import metatrain, pipeline, plans, screen
from jmeta.cli import main
from jmeta.data import tables
from jmeta.metadata import Bucket
from jmeta.plans import Plan, Share

ROWS = 60


def frame_of_patients() -> pd.DataFrame:
    random = np.random.default_rng(3)
    age, dose = random.uniform(20, 90, ROWS), random.uniform(0, 5, ROWS)
    ward = random.choice(["north", "south", "west"], ROWS)
    risk = 0.05 * (age - 55) + (ward == "north") + random.normal(0, 0.5, ROWS)
    frame = pd.DataFrame({"age": age.round(1), "dose": dose.round(3), "ward": ward})
    frame.loc[::9, "dose"] = np.nan
    frame["died"] = np.where(risk > 0.3, "yes", "no")
    frame["stay"] = (3 + risk + 0.5 * dose).round(3)
    return frame


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(untrained.write(tmp_path_factory.mktemp("model") / "m.safetensors"))


@pytest.fixture
def patients(tmp_path):
    path = tmp_path / "patients.csv"
    frame_of_patients().to_csv(path, index=False)
    return path


def shell(*args, **options):
    """Run a command in a process of its own, as a user does."""
    call = "import sys; from jmeta.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", call, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def one_sentence(err: str) -> str:
    """The one line that was printed."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("jmeta: ")
    assert "Traceback" not in err
    return lines[0]


# What it prints.


def test_json_is_one_object_with_the_promised_keys(run, patients, model):
    code, out, _ = run(
        "recommend", patients, "--target", "died", "--json", "--model", model
    )
    assert code == 0
    plain = json.loads(out)
    assert {
        "task": {"rows", "features", "kind", "classes"},
        "recommendation": {"model", "settings", "expected"},
        "meta_model": {"name", "version", "trained_on"},
    }.items() <= {
        name: set(part) for name, part in plain.items() if isinstance(part, dict)
    }.items()
    assert set(plain) == {
        "task",
        "recommendation",
        "ranking",
        "abstained",
        "single_best",
        "evidence",
        "explanation",
        "meta_model",
    }
    expected = plain["recommendation"]["expected"]
    assert set(expected) == {"metric", "value", "low", "high"}
    assert expected["low"] <= expected["value"] <= expected["high"]
    assert {"model", "settings", "expected", "std"} <= set(plain["ranking"][0])
    assert set(plain["explanation"][0]) == {"feature", "effect"}
    assert set(plain["single_best"]) == {"model", "settings"}
    assert plain["abstained"] in (True, False)
    # age, dose, "dose missing", three wards, stay.
    assert plain["task"] == {
        "rows": ROWS,
        "features": 7,
        "kind": "classes",
        "classes": 2,
    }


def test_the_same_explanation_is_given_twice(run, patients, model):
    args = ("recommend", patients, "--target", "died", "--json", "--model", model)
    first, second = run(*args), run(*args)
    assert first == second
    assert json.loads(first[1])["explanation"]


def test_a_budget_and_another_metric_are_told_in_json(run, patients, model):
    code, out, _ = run(
        *("recommend", patients, "--target", "died", "--json", "--model", model),
        *("--budget", 2, "--metric", "auc"),
    )
    plain = json.loads(out)
    assert code == 0
    assert plain["recommendation"]["expected"]["metric"] == "auc"
    assert plain["evidence"]["cross_validated"] == 2
    assert 0.5 < plain["recommendation"]["expected"]["value"] <= 1.0


def test_the_words_name_the_model_and_the_ignored_column(run, patients, model):
    frame = frame_of_patients().assign(country="here")
    frame.to_csv(patients, index=False)
    code, out, err = run("recommend", patients, "--target", "died", "--model", model)
    assert (code, err) == (0, "")
    plain = json.loads(
        run("recommend", patients, "--target", "died", "--model", model, "--json")[1]
    )
    assert f"Use {plain['recommendation']['model']}" in out
    assert "'country' is ignored" in out.replace("\n", " ")


def test_describe_prints_every_feature_of_the_description(run, patients):
    from jmeta.describe import names

    code, out, err = run("describe", patients, "--target", "stay", "--json")
    plain = json.loads(out)
    assert (code, err) == (0, "")
    assert set(plain) == {"schema", "kind", "rows", "description"}
    assert plain["kind"] == "number"
    assert list(plain["description"]) == list(names("number"))
    code, words, _ = run("describe", patients, "--target", "stay")
    assert code == 0
    assert all(name in words for name in names("number"))


def test_overrides_of_types_are_heeded(run, patients):
    args = ("describe", patients, "--target", "stay", "--json")
    plain = json.loads(run(*args, "--ignore", "ward", "--ignore", "died")[1])
    fewer = json.loads(run(*args)[1])
    assert plain["description"] != fewer["description"]
    code, _, err = run(*args, "--ignore", "ward", "--number", "ward")
    assert code == 2
    assert "'ward' is given as number and as ignore" in one_sentence(err)


def test_version_is_printed(run):
    assert run("--version") == (0, f"jmeta {jmeta.__version__}\n", "")


@pytest.mark.parametrize(
    "command", ["recommend", "predict", "describe", "train", "quickstart"]
)
def test_help_says_what_every_option_is(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "None" not in out


# From a table to predictions.


def test_a_fitted_folder_predicts_what_the_process_that_fitted_predicts(
    run, patients, model, tmp_path
):
    fitted, out = tmp_path / "fitted", tmp_path / "out.csv"
    code, _, err = run(
        *("recommend", patients, "--target", "died", "--model", model),
        *("--fit", fitted, "--budget", 2),
    )
    assert code == 0
    assert f"jmeta predict {fitted} TABLE" in err
    assert sorted(path.name for path in fitted.iterdir()) == [
        "model.safetensors",
        "recommendation.json",
        "report.html",
    ]
    json.loads((fitted / "recommendation.json").read_text())
    code, text, err = run("predict", fitted, patients, "--out", out)
    assert (code, text) == (0, "")
    assert err.splitlines() == [
        f"{ROWS} predictions written to {out}.",
        "Columns that the model does not use: died.",
    ]
    frame = tables.read_table(patients)
    features, target = tables.split_target(frame, "died")
    encoded = pipeline.encode_table(features, target)
    made = pipeline.recommend_table(encoded, model=model, budget=2)
    expected = pipeline.fit_table(encoded, made).predict(features)
    written = pd.read_csv(out, keep_default_na=False)
    assert list(written) == ["prediction", "p(no)", "p(yes)"]
    assert list(written["prediction"]) == list(expected["prediction"])
    np.testing.assert_allclose(written["p(yes)"], expected["p(yes)"], atol=1e-6)
    np.testing.assert_allclose(written.iloc[:, 1:].sum(axis=1), 1.0, atol=1e-9)


@pytest.fixture(scope="module")
def fitted(model, tmp_path_factory):
    """A fitted folder for a number."""
    folder = tmp_path_factory.mktemp("number")
    frame_of_patients().to_csv(folder / "t.csv", index=False)
    main(
        [
            *("recommend", str(folder / "t.csv"), "--target", "stay", "--json"),
            *("--model", model, "--fit", str(folder / "fitted")),
        ]
    )
    return folder / "fitted"


def test_reordered_columns_a_new_one_and_no_target_change_no_prediction(
    run, patients, fitted, tmp_path
):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    assert run("predict", fitted, patients, "--out", one)[0] == 0
    frame = frame_of_patients().drop(columns="stay")[::1]
    frame = frame[frame.columns[::-1]].assign(note="new")
    frame.to_csv(patients, index=False)
    code, _, err = run("predict", fitted, patients, "--out", other)
    assert code == 0 and "does not use: note." in err
    assert one.read_text() == other.read_text()
    written = pd.read_csv(one)
    assert list(written) == ["prediction", "low", "high"]
    assert (written["low"] < written["prediction"]).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.drop(columns=["age", "ward"]), ["'age'", "'ward'"]),
        (
            lambda frame: frame.rename(columns={"dose": "Dose_"}),
            ["missing: ['dose']", "did you mean 'Dose_'"],
        ),
        (lambda frame: frame.astype({"age": object}).replace(
            {"age": {frame["age"][4]: "old"}}), ["'age'", "'old'", "row 5"]),
    ],
)  # fmt: skip
def test_predict_names_columns_that_are_missing_renamed_or_no_numbers(
    run, patients, fitted, tmp_path, change, named
):
    change(frame_of_patients()).to_csv(patients, index=False)
    code, out, err = run("predict", fitted, patients, "--out", tmp_path / "out.csv")
    sentence = one_sentence(err)
    assert (code, out) == (2, "")
    assert all(words in sentence for words in named), sentence
    assert not (tmp_path / "out.csv").exists()


def test_predictions_never_replace_the_table(run, patients, fitted):
    before = patients.read_bytes()
    code, _, err = run("predict", fitted, patients, "--out", patients)
    assert code == 2
    assert "is the table itself" in one_sentence(err)
    assert patients.read_bytes() == before


# Bad input: one sentence, exit code 2, nothing written.


def text_in_number(folder):
    frame = frame_of_patients().astype({"age": object})
    frame.loc[16, "age"] = "seventy"
    return frame


def infinite(folder):
    frame = frame_of_patients()
    frame.loc[2, "dose"] = np.inf
    return frame


BAD_TABLES = {
    "no such file": (lambda f: None, ["there is no file"]),
    "an empty file": (lambda f: b"", ["is empty"]),
    "a header only": (lambda f: b"age,died\n", ["header and no rows"]),
    "no such column": (
        lambda f: frame_of_patients().rename(columns={"died": "dead"}),
        ["no target column 'died'", "did you mean 'dead'"],
    ),
    "one class only": (
        lambda f: frame_of_patients().assign(died="no"),
        ["only one class, 'no'"],
    ),
    "a target that is all missing": (
        lambda f: frame_of_patients().assign(died=np.nan),
        ["every value of the target 'died' is missing"],
    ),
    "duplicate column names": (
        lambda f: b"age,age,died\n" + 9 * b"1,2,no\n3,4,yes\n",
        ["duplicate column names: 'age'"],
    ),
    "three rows": (lambda f: frame_of_patients()[:3], ["3 sample(s)"]),
    "constant columns": (
        lambda f: frame_of_patients()[["died"]].assign(a=1, b="x"),
        ["no feature column is left", "constant"],
    ),
    "infinite values": (infinite, ["'dose' has infinite values", "row 3"]),
    "text in a number column": (text_in_number, ["'age'", "'seventy'", "row 17"]),
    "a wrong encoding": (
        lambda f: "name,died\nJosé,no\n".encode("latin-1"),
        ["is not UTF-8", "line 2"],
    ),
    "UTF-16": (lambda f: "a,died\n1,no\n".encode("utf-16"), ["UTF-16"]),
    "ragged rows": (lambda f: b"a,died\n1,no\n1,2,3\n", ["line 3 has 3 fields"]),
    "a gzip file cut short": (
        lambda f: gzip.compress(frame_of_patients().to_csv().encode())[:200],
        ["gzip file cut short"],
    ),
    "a folder": (lambda f: f, ["is a folder"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused_in_one_sentence_and_leaves_nothing(
    run, model, tmp_path, case
):
    make, named = BAD_TABLES[case]
    table = tmp_path / "bad.csv"
    content = make(tmp_path)
    if isinstance(content, pd.DataFrame):
        content.to_csv(table, index=False)
    elif isinstance(content, bytes):
        table.write_bytes(content)
    elif content is not None:
        table.mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(
        *("recommend", table, "--target", "died", "--model", model),
        *("--fit", tmp_path / "new" / "fit", "--report", tmp_path / "page.html"),
    )
    sentence = one_sentence(err)
    assert (code, out) == (2, "")
    assert all(words in sentence for words in named), sentence
    assert sorted(tmp_path.rglob("*")) == before
    code, _, err = run("describe", table, "--target", "died")
    assert (code, one_sentence(err)) == (2, sentence)


BAD_ARGUMENTS = {
    "a metric of another kind": (["--metric", "rmse"], "metric must be one of"),
    "no such metric": (["--metric", "nope"], "'nope'"),
    "a negative budget": (["--budget", "-1"], "--budget must be at least 0"),
    "a negative seed": (["--seed", "-1"], "--seed must be between 0"),
    "a huge seed": (["--seed", str(2**40)], "--seed must be between 0"),
    "a type for no column": (["--ignore", "wards"], "did you mean 'ward'"),
    "a number that is text": (["--number", "ward"], "text in a number column"),
    "a number of words": (["--kind", "number"], "text in a number column"),
    "no such meta-model": (["--model", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_in_one_sentence_and_leaves_nothing(
    run, patients, model, tmp_path, case
):
    given, words = BAD_ARGUMENTS[case]
    fit = ["--fit", tmp_path / "new" / "fit"]
    given = given if "--model" in given else [*given, "--model", model]
    code, out, err = run("recommend", patients, "--target", "died", *fit, *given)
    assert (code, out) == (2, "")
    assert words in one_sentence(err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["patients.csv"]


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["bogus"],
        ["recommend"],
        ["recommend", "t.csv"],
        ["recommend", "t.csv", "--target", "y", "--budget", "many"],
        ["recommend", "t.csv", "--target", "y", "--kind", "colour"],
        ["recommend", "t.csv", "--target", "y", "--nonsense"],
        ["predict", "folder"],
        ["train", "--steps", "1.5"],
    ],
)
def test_what_does_not_parse_ends_with_code_2(run, args):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def changed(path, target, *, cut=None, **header):
    """A model file, cut or with other entries in its header."""
    if cut is not None:
        target.write_bytes(path.read_bytes()[:cut])
        return
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
        params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(metadata["header"])
    for name, value in header.items():
        if name in metadata:
            metadata[name] = value
        else:
            content[name] = value
    save_file(params, target, metadata | {"header": json.dumps(content)})


BAD_MODELS = {
    "cut in half": ({"cut": 5000}, "damaged"),
    "empty": ({"cut": 0}, "damaged"),
    "of another file version": ({"version": "9"}, "version 9"),
    "of another layout": ({"layout": 7}, "layout 7"),
    "of another program": ({"format": "pt"}, "was not written by jmeta"),
    "without kinds": ({"kinds": None}, "damaged"),
    "of half a header": ({"kinds": {"classes": {"schema": 1}}}, "m.safetensors"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_bad_meta_model_is_refused_in_one_sentence(
    run, patients, model, tmp_path, case
):
    import pathlib

    how, words = BAD_MODELS[case]
    changed(pathlib.Path(model), tmp_path / "m.safetensors", **how)
    before = sorted(tmp_path.iterdir())
    code, out, err = run(
        *("recommend", patients, "--target", "died", "--fit", tmp_path / "fit"),
        *("--model", tmp_path / "m.safetensors"),
    )
    assert (code, out) == (2, "")
    assert words in one_sentence(err)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"cut": 1000}, "damaged"),
        ({"layout": 7}, "layout 7"),
        ({"predictor": {}}, "damaged"),
        ({"encoder": {"format": "other"}}, "not written by jmeta"),
        ({"content": "meta-model"}, "not a fitted model"),
    ],
)
def test_a_bad_fitted_model_is_refused_in_one_sentence(
    run, patients, fitted, tmp_path, how, words
):
    (tmp_path / "other").mkdir()
    changed(
        fitted / "model.safetensors", tmp_path / "other" / "model.safetensors", **how
    )
    code, out, err = run(
        "predict", tmp_path / "other", patients, "--out", tmp_path / "out.csv"
    )
    assert (code, out) == (2, "")
    assert words in one_sentence(err)
    assert not (tmp_path / "out.csv").exists()


def test_a_folder_without_a_model_says_how_to_make_one(run, patients, tmp_path):
    code, _, err = run("predict", tmp_path, patients, "--out", tmp_path / "out.csv")
    assert code == 2
    assert "--fit DIR" in one_sentence(err)


def test_a_full_folder_is_refused_before_the_table_is_read(run, tmp_path):
    (tmp_path / "kept").write_text("mine")
    code, _, err = run(
        "recommend", tmp_path / "none.csv", "--target", "y", "--fit", tmp_path
    )
    assert code == 2
    assert "is not empty" in one_sentence(err)
    assert (tmp_path / "kept").read_text() == "mine"


def test_an_empty_folder_is_filled(run, patients, model, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, _ = run(
        *("recommend", patients, "--target", "stay", "--json", "--model", model),
        *("--fit", tmp_path / "empty"),
    )
    assert code == 0
    assert (tmp_path / "empty" / "model.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "patients.csv"]


def test_a_place_that_cannot_be_written_is_refused_in_one_sentence(
    run, patients, model, fitted, tmp_path
):
    blocked = patients / "below"  # A file is no folder.
    given = ("recommend", patients, "--target", "stay", "--model", model)
    cases = [
        (*given, "--fit", blocked),
        (*given, "--fit", patients),
        (*given, "--report", blocked / "page.html"),
        (*given, "--report", tmp_path),
        ("predict", fitted, patients, "--out", blocked / "out.csv"),
        ("predict", fitted, patients, "--out", "out.parquet"),
        ("train", "--out", blocked),
        ("quickstart", "--out", blocked),
    ]
    for args in cases:
        code, out, err = run(*args)
        assert (code, out) == (2, ""), args
        one_sentence(err)
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


def test_a_fit_that_fails_half_way_leaves_nothing(
    run, patients, model, tmp_path, monkeypatch
):
    from jmeta import report

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "recommendation_report", full)
    code, out, err = run(
        *("recommend", patients, "--target", "stay", "--model", model),
        *("--fit", tmp_path / "fit"),
    )
    assert (code, out) == (2, "")
    assert "No space left" in one_sentence(err)
    assert [path.name for path in tmp_path.iterdir()] == ["patients.csv"]


# Training, stopping and going on.

TINY = Plan(
    shares=(Share(Bucket(64, 8, 2, 24, 40), 8, 4),),
    num_steps=4,
    optimizer_steps=2,
    through_steps=0,
    batch=4,
    shape=untrained.SHAPE,
)


@pytest.fixture
def tiny(monkeypatch):
    """Make `jmeta train` a matter of seconds."""
    monkeypatch.setattr(plans, "default_plan", lambda *_, **__: TINY)
    candidates = untrained.untrained("number").candidates
    monkeypatch.setattr(metatrain, "default_candidates", lambda _: candidates)


def stop_at(monkeypatch, stage, number):
    """Send this process a signal when a stage is first reported."""
    told = screen.Bars.__call__

    def listen(self, name, done, total, numbers):
        told(self, name, done, total, numbers)
        if name.endswith(stage):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(screen.Bars, "__call__", listen)


TRAIN = ("train", "--kinds", "number", "--steps", 4, "--out")


@pytest.fixture
def interruptible():
    """Listen to Ctrl-C as a command in a terminal does, also from a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_a_run_that_was_stopped_goes_on_to_the_same_model(
    run, tiny, monkeypatch, tmp_path
):
    whole, run_folder = tmp_path / "whole", tmp_path / "run"
    code, out, _ = run(*TRAIN, whole)
    assert (code, out) == (0, "")
    names = {path.name for path in whole.iterdir()}
    assert {"config.json", "metrics.jsonl", "model.safetensors"} <= names
    # While measuring; while learning, where the loop itself listens; and by SIGTERM.
    stops = [
        ("fixed settings", signal.SIGINT, 130),
        ("learn settings", signal.SIGINT, 130),
        ("proposed settings", signal.SIGTERM, 143),
    ]
    resume = ()
    for stage, number, expected in stops:
        with monkeypatch.context() as patch:
            stop_at(patch, stage, number)
            code, _, err = run(*TRAIN, run_folder, *resume)
        assert code == expected
        last = err.splitlines()[-1]
        assert last.startswith("jmeta: stopped") and "--resume" in last, err
        assert str(run_folder) in last and "Traceback" not in err
        assert not (run_folder / "model.safetensors").exists()
        resume = ("--resume",)
    assert run(*TRAIN, run_folder, *resume)[0] == 0
    with (
        safe_open(whole / "model.safetensors", framework="numpy") as one,
        safe_open(run_folder / "model.safetensors", framework="numpy") as other,
    ):
        assert sorted(one.keys()) == sorted(other.keys())
        for name in one.keys():  # noqa: SIM118
            np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name))


def test_resume_is_refused_without_a_run_or_with_other_arguments(run, tiny, tmp_path):
    code, out, err = run(*TRAIN, tmp_path / "none", "--resume")
    assert (code, out) == (2, "")
    assert "holds no run to resume" in one_sentence(err)
    assert not (tmp_path / "none").exists()
    begun = tmp_path / "run"
    begun.mkdir()
    config = {"command": "train", "steps": 4, "batch": 64, "tasks": 2000}
    config |= {"seed": 0, "kinds": ["number"]}
    (begun / "config.json").write_text(json.dumps(config))
    code, _, err = run(*TRAIN, begun, "--resume", "--seed", 3)
    assert code == 2
    assert "seed was 0" in one_sentence(err)
    (begun / "config.json").write_text("[]")
    assert run(*TRAIN, begun, "--resume")[0] == 2
    code, _, err = run(*TRAIN, begun)
    assert code == 2
    assert "is not empty" in one_sentence(err)
    assert [path.name for path in begun.iterdir()] == ["config.json"]


@pytest.mark.parametrize("option", ["--steps", "--batch", "--tasks"])
def test_a_training_of_nothing_is_refused(run, tmp_path, option):
    code, _, err = run("train", "--out", tmp_path / "run", option, 0)
    assert code == 2
    assert f"{option} must be at least 1" in one_sentence(err)
    assert not (tmp_path / "run").exists()


# As a user starts it.


def test_help_and_import_are_quick_and_import_no_jax(tmp_path):
    program = """
import sys
import jmeta
assert not {"jax", "pandas", "sklearn"} & set(sys.modules), "import jmeta"
from jmeta.cli import main
try:
    main(["--help"])
except SystemExit as stopped:
    assert not stopped.code
assert not {"jax", "flax", "pandas", "sklearn"} & set(sys.modules), "--help"
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "recommend" in done.stdout
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    # Twice what is promised: machines that run tests are busy.
    assert spent < 0.8


@pytest.mark.slow
def test_a_process_prints_one_object_or_one_sentence(patients, model, tmp_path):
    args = ("recommend", patients, "--target", "died", "--model", model)
    good = shell(*args, "--json", "--fit", tmp_path / "fit")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["task"]["rows"] == ROWS
    bad = shell(*args, "--metric", "rmse", "--fit", tmp_path / "other")
    assert (bad.returncode, bad.stdout) == (2, "")
    one_sentence(bad.stderr)
    assert not (tmp_path / "other").exists()
    none = shell("recommend", tmp_path / "none.csv", "--target", "died")
    assert (none.returncode, none.stdout) == (2, "")
    one_sentence(none.stderr)
    shutil.rmtree(tmp_path / "fit")


def test_a_reader_that_leaves_early_is_no_error(patients):
    call = (
        f"{sys.executable} -c 'from jmeta.cli import main; main()' describe "
        f"{patients} --target died --json | true"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {call}"], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.returncode == 0
