"""Any table is either refused in one sentence or predicted with finite numbers."""

import decimal
import json

import numpy as np
import pandas as pd
import pytest
import untrained
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jmeta import MetaClassifierCV, MetaRegressorCV
from jmeta.cli import main

pytestmark = pytest.mark.slow

MAX_ROWS, MAX_COLUMNS = 60, 4  # One bucket of rows, two of encoded columns.

numbers = st.one_of(
    st.floats(-10, 10),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 1e300, -1e300, 1e-300, 5e-324]),
)
plain_cells = st.one_of(
    numbers,
    st.integers(-3, 3),
    st.integers(-(10**20), 10**20),
    st.booleans(),
    st.sampled_from(["a", "b", " a", "", "NA", "nan", "inf", "1", "1.0", "é", "🐟\n"]),
    st.none(),
)
weird_cells = st.one_of(
    plain_cells,
    st.sampled_from([np.inf, -np.inf, b"bytes", (1, 2), pd.NaT, 1j]),
    st.text(max_size=5),
    st.dates(),
    st.decimals(allow_nan=True),
)


@st.composite
def columns(draw, rows: int):
    """One column: of one type, of few levels, constant, missing or anything."""
    kinds = [numbers, st.integers(-3, 3), st.booleans(), st.sampled_from("abc")]
    cells = draw(st.sampled_from([*kinds, *kinds, plain_cells, weird_cells]))
    shape = draw(st.sampled_from(["free", "free", "levels", "constant", "missing"]))
    if shape == "free":
        made = draw(st.lists(cells, min_size=rows, max_size=rows))
    else:
        levels = {"levels": 3, "constant": 1, "missing": 0}[shape]
        some = [draw(cells) for _ in range(levels)] or [None]
        places = st.integers(0, len(some) - 1)
        made = [some[draw(places)] for _ in range(rows)]
    holes = draw(st.sets(st.integers(0, max(rows - 1, 0)), max_size=rows // 3))
    made = [None if place in holes else cell for place, cell in enumerate(made)]
    return pd.Series(made, dtype=object)


@st.composite
def tables(draw):
    """A frame of up to 60 rows, whose columns may share a name, and a target."""
    rows = draw(st.sampled_from([30, 12, MAX_ROWS, 6, 30, 12, MAX_ROWS, 5, 0]))
    names = st.one_of(
        st.text(min_size=0, max_size=6), st.sampled_from(["x", "X ", "p(a)", "a=b"])
    )
    unique = draw(st.integers(0, 9)) < 9
    chosen = draw(
        st.lists(
            names, min_size=1, max_size=MAX_COLUMNS, unique_by=str if unique else None
        )
    )
    made = [draw(columns(rows)) for _ in chosen]
    infer = draw(st.booleans())
    made = [column.infer_objects() if infer else column for column in made]
    frame = pd.concat(made, axis=1) if made else pd.DataFrame()
    frame.columns = chosen
    labels = draw(
        st.sampled_from(
            [[0, 1], [1, 0], ["a", "b", "c"], [True, False], ["é", "e"], [1]]
        )
    )
    places = draw(
        st.lists(st.integers(0, len(labels) - 1), min_size=rows, max_size=rows)
    )
    return frame, np.array([labels[place] for place in places], dtype=object)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(untrained.write(tmp_path_factory.mktemp("model") / "m.safetensors"))


fuzz = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


def is_sentence(error: Exception) -> bool:
    return bool(str(error)) and "\n" not in str(error)


@fuzz
@given(table=tables())
def test_a_classifier_gives_probabilities_or_one_sentence(model, table):
    frame, y = table
    if y.size and all(isinstance(label, int) for label in y):
        y = y.astype(int)
    try:
        fitted = MetaClassifierCV(model=model).fit(frame, y)
        probabilities = fitted.predict_proba(frame)
    except ValueError as error:
        assert is_sentence(error), error
        return
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-9)
    assert (probabilities >= 0).all()


@fuzz
@given(table=tables(), data=st.data())
def test_a_regressor_gives_numbers_or_one_sentence(model, table, data):
    frame, _ = table
    y = data.draw(st.lists(numbers, min_size=len(frame), max_size=len(frame)))
    try:
        fitted = MetaRegressorCV(model=model).fit(frame, np.array(y))
        predicted, ends = fitted.predict(frame), fitted.predict_interval(frame)
    except ValueError as error:
        assert is_sentence(error), error
        return
    assert np.isfinite(predicted).all() and np.isfinite(ends).all()
    assert (ends[:, 0] <= predicted).all() and (predicted <= ends[:, 1]).all()


@fuzz
@given(table=tables(), budget=st.sampled_from([0, 2]))
def test_the_command_line_gives_one_object_or_one_sentence(
    model, table, budget, tmp_path, capsys
):
    frame, y = table
    path = tmp_path / "t.csv"
    try:
        frame.assign(target=y).to_csv(path, index=False)
    except decimal.InvalidOperation:  # pandas cannot write a signalling NaN.
        assume(False)
    fit, out = tmp_path / "fit", tmp_path / "out.csv"
    for left in (fit / "model.safetensors", *fit.glob("re*"), out):
        left.unlink(missing_ok=True)
    args = ["recommend", str(path), "--target", "target", "--json", "--model", model]
    try:
        main([*args, "--budget", str(budget), "--fit", str(fit)])
        plain = json.loads(capsys.readouterr().out)
        main(["predict", str(fit), str(path), "--out", str(out)])
    except SystemExit as stopped:
        told = capsys.readouterr()
        assert stopped.code == 2
        assert told.out == ""
        assert len(told.err.splitlines()) == 1, told.err
        assert not list(fit.glob("*")) and not out.exists()
        return
    capsys.readouterr()
    written = pd.read_csv(out)
    some = written.iloc[:, 1:].to_numpy()
    assert np.isfinite(some).all()
    if plain["task"]["kind"] == "classes":
        np.testing.assert_allclose(some.sum(axis=1), 1.0, atol=1e-9)
