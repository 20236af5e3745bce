"""Column types, the encoder and the target."""

import json
import math
import time

import numpy as np
import pandas as pd
import pytest

from jmeta.data.encode import (
    MAX_CATEGORIES,
    TableEncoder,
    TargetEncoder,
    fit_encoder,
    fit_target,
    infer_types,
    known_rows,
    subsample,
)
from jmeta.errors import InputError
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER

ROWS = 40
RANDOM = np.random.default_rng(0)


def column(cells, **options) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(cells, **options)})


def times(cells, rows=ROWS):
    return [cells[i % len(cells)] for i in range(rows)]


TYPES = {
    "floats": (RANDOM.normal(size=ROWS), "number"),
    "codes": (times([0, 1, 2]), "number"),
    "bools": (times([True, False]), "number"),
    "bools with gaps": (times([True, False, None]), "number"),
    "number texts": (times(["1.5", " 2 ", "-3e2", "?"]), "number"),
    "truth texts": (times(["true", "False", ""]), "number"),
    "dates": ([f"20{10 + i}-01-31" for i in range(ROWS)], "number"),
    "times": (times(["2024-02-29T12:30", "2024-02-29 12:30:01+02:00"]), "number"),
    "no dates": (times(["2024-02-30", "2024-13-01"]), "category"),
    "texts": (times(["x", "y", None]), "category"),
    "numbers and words": (times(["0", "1", "2", "3+"]), "category"),
    "ten and one word": (times(["1", "2", "3", *"123123123", "3+"]), "category"),
    "declared": (pd.Categorical(times([1, 2])), "category"),
    "names": ([f"name {i}" for i in range(ROWS)], "ignore"),
    "nearly names": (["twice", *(f"name {i}" for i in range(ROWS - 1))], "ignore"),
    "constant": (times([3.0]), "ignore"),
    "constant text": (times(["x"]), "ignore"),
    "missing": (times([None, "", np.nan]), "ignore"),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_are_inferred(name):
    cells, expected = TYPES[name]
    cells = cells if isinstance(cells, pd.Categorical) else list(cells)
    assert infer_types(column(cells)) == {"a": expected}


def test_overrides_win():
    frame = pd.DataFrame({"code": times([0, 1, 2]), "n": times(["1", "2.5"])})
    overrides = {"code": "category", "n": "ignore"}
    assert infer_types(frame, overrides) == {"code": "category", "n": "ignore"}
    assert fit_encoder(frame, overrides).names == ["code=0", "code=1", "code=2"]
    names = column([f"name {i}" for i in range(ROWS)])
    assert infer_types(names, {"a": "category"}) == {"a": "category"}
    with pytest.raises(InputError, match=r"columns missing: \['cod'\].*'code' for"):
        infer_types(frame, {"cod": "number"})
    with pytest.raises(InputError, match="must be 'number', 'category' or 'ignore'"):
        infer_types(frame, {"code": "float"})
    with pytest.raises(InputError, match=r"column 'a' has text.*'name 0' in row 1"):
        infer_types(names, {"a": "number"})


def test_an_encoding_is_what_it_should_be():
    frame = pd.DataFrame(
        {
            "n": [0.0, 1.0, 2.0, 3.0, 4.0, np.nan],
            "same": [1, 1, 1, 1, 1, 1],
            "c": ["y", "x", "y", None, "x", "x"],
            "partly": [None, "yes", "yes", None, "yes", "yes"],
        }
    )
    encoder = fit_encoder(frame)
    x, kinds = encoder.encode(frame)
    z = 1.349 / 2.0  # The quartiles of 0..4 are 1 and 3, the median is 2.
    expected = [
        [-2 * z, 0, 0, 1, 0, 1],
        [-z, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [z, 0, 0, 0, 1, 1],
        [2 * z, 0, 1, 0, 0, 0],
        [np.nan, 1, 1, 0, 0, 0],
    ]
    assert x.dtype == np.float32 and kinds.dtype == np.int32
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert kinds.tolist() == [
        *(NUMBER, INDICATOR, CATEGORY, CATEGORY, INDICATOR, INDICATOR)
    ]
    names = "n|n missing|c=x|c=y|c missing|partly missing"
    assert encoder.names == names.split("|")
    assert encoder.source.tolist() == [0, 0, 2, 2, 2, 3]
    assert encoder.width == 6
    assert encoder.notes == (
        "column 'same' is ignored: it is constant.",
        "column 'partly' is constant: only where it is missing counts.",
    )


def test_unseen_levels_are_zeros_and_new_gaps_are_missing():
    encoder = fit_encoder(pd.DataFrame({"c": times(["x", "y"]), "n": times([1, 2])}))
    x, _ = encoder.encode(pd.DataFrame({"c": ["z", None, "y"], "n": [1, None, 5]}))
    np.testing.assert_array_equal(x[:, :2], [[0, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(np.isnan(x[:, 2]), [False, True, False])


def test_many_levels_become_their_place_in_sorted_order():
    levels = [str(i) for i in range(MAX_CATEGORIES)] + ["word"]
    frame = column(times(levels, 3 * len(levels)))
    encoder = fit_encoder(frame, {"a": "category"})
    assert encoder.columns[0].levels == tuple(levels)
    assert "17 levels" in encoder.notes[0]
    x, kinds = encoder.encode(column([*levels, "new"]))
    assert kinds.tolist() == [NUMBER]
    assert (np.diff(x[:-1, 0]) > 0).all() and np.isnan(x[-1, 0])


def test_rows_are_encoded_alike_alone_and_together():
    frame = pd.DataFrame({"n": RANDOM.normal(size=ROWS), "c": times(["x", "y", "z"])})
    encoder = fit_encoder(frame.iloc[:20])
    together, _ = encoder.encode(frame)
    alone = [encoder.encode(frame.iloc[[row]])[0][0] for row in range(ROWS)]
    np.testing.assert_array_equal(together, alone)


def test_equal_numbers_are_one_level_however_they_are_spelt():
    encoder = fit_encoder(column(times(["1", "2", "x"])), {"a": "category"})
    for cells in ([1, 2], [1.0, 2.0], ["1.0", " 2"], pd.Categorical([1, 2])):
        x, _ = encoder.encode(column(cells))
        np.testing.assert_array_equal(x, [[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    "values",
    [
        1e9 + np.arange(ROWS) * 1e-3,
        np.arange(ROWS) * 1e300,
        np.linspace(-1.0, 1.0, ROWS) * 1.7e308,
        np.arange(1, ROWS) * 5e-324,
        np.arange(ROWS) * 1e-300,
    ],
)
def test_small_differences_and_huge_numbers_survive_float32(values):
    x, _ = fit_encoder(column(values)).encode(column(values))
    assert (np.diff(x[:, 0]) >= 0).all() and len(np.unique(x)) >= 0.5 * len(x)
    assert np.abs(x).max() < 1e9


def test_columns_are_found_by_name():
    frame = pd.DataFrame({"Age": RANDOM.normal(size=ROWS), "sex": times(["f", "m"])})
    encoder = fit_encoder(frame)
    moved = frame[["sex", "Age"]].assign(more=1)
    np.testing.assert_array_equal(encoder.encode(moved)[0], encoder.encode(frame)[0])
    assert encoder.extra(moved) == ["more"]
    with pytest.raises(InputError) as raised:
        encoder.encode(frame.rename(columns={"Age": "age"}))
    assert str(raised.value) == (
        "columns missing: ['Age']; the table has ['age', 'sex']; "
        "did you mean 'age' for 'Age'?"
    )


def test_ignored_columns_need_not_be_there_again():
    frame = pd.DataFrame({"n": times([1, 2]), "same": times([1])})
    assert fit_encoder(frame).encode(frame[["n"]])[0].shape == (ROWS, 1)


NUMBERS = [float(i) / 3 for i in range(ROWS)]
BAD_COLUMNS = {
    "text": ([*NUMBERS[:6], "abc", *NUMBERS[7:]], "text in a number .*'abc' in row 7"),
    "typo in codes": ([*times([1, 2, 3]), "x"], "text in a number .*'x' in row 41"),
    "infinite": ([1.0, 2.0, np.inf], "infinite values, the first in row 3"),
    "infinite text": (["1", "1e400", "2"], "infinite values, the first in row 2"),
    "huge integer": ([1, 10**400, 2], "infinite values, the first in row 2"),
    "lists": ([1, [2], 3], "holds a list in row 2"),
    "bytes": (["x", "y", b"z"], "holds a bytes in row 3"),
    "complex": ([1j, 2j, 3.0], "Complex data not supported"),
    "constant": ([1.0, 1.0, 1.0], "no feature column is left of 1"),
    "all missing": ([None, None, None], "no feature column is left.*missing"),
    "names": (["x", "y", "z"], "no feature column is left.*identifiers"),
    "no rows": ([], "the table has no rows"),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_a_bad_column_is_named_in_one_sentence(name):
    cells, pattern = BAD_COLUMNS[name]
    with pytest.raises(InputError, match=pattern) as raised:
        fit_encoder(column(cells))
    message = str(raised.value)
    assert "'a'" in message or name in ("no rows",)
    assert "\n" not in message


def test_a_table_of_constants_or_without_columns_is_refused():
    frame = pd.DataFrame({"a": [1, 1], "b": ["x", "x"]})
    with pytest.raises(InputError, match="no feature column is left of 2: every col"):
        fit_encoder(frame)
    with pytest.raises(InputError, match="no column beside the target"):
        fit_encoder(frame[[]])


@pytest.mark.parametrize(
    "fitted, given, pattern",
    [
        ([1, 2, 3], ["1", "", "abc"], "'a' has text in a number .*'abc' in row 3"),
        ([1, 2, 3], [1.0, -np.inf], "infinite values, the first in row 2"),
        ([1, 2, 3], pd.to_datetime(["2024-01-01"]), "where a number is expected"),
        (["2024-01-01", "2024-01-02"], ["soon"], "'soon' in row 1.*a date is expected"),
        (["2024-01-01", "2024-01-02"], [5], "'5' in row 1.*a date is expected"),
        ([True, False], ["maybe"], "'maybe' in row 1.*true or false is expected"),
    ],
)
def test_another_type_when_encoding_is_refused(fitted, given, pattern):
    encoder = fit_encoder(column(fitted))
    with pytest.raises(InputError, match=pattern):
        encoder.encode(column(given))


def test_dates_in_any_form_are_days():
    texts = times(["1970-01-02", "2000-01-01", "2024-02-29"])
    encoder = fit_encoder(column(texts))
    assert encoder.columns[0].kind == "date"
    expected, _ = encoder.encode(column(texts))
    for cells in (
        pd.to_datetime(texts),
        pd.to_datetime(texts, utc=True),
        [pd.Timestamp(text).date() for text in texts],
        [f"{text}T00:00:00Z" for text in texts],
    ):
        np.testing.assert_allclose(encoder.encode(column(cells))[0], expected)


def test_an_encoder_survives_json():
    frame = pd.DataFrame(
        {"n": [0.1, 1 / 3, np.nan], "c": ["x", "y", "y"], "same": [1, 1, 1]}
    )
    encoder = fit_encoder(frame)
    again = TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(frame)[0], encoder.encode(frame)[0])
    for kind in ("classes", "number"):
        target = fit_target(pd.Series([1, 2, 3, 4] * 5, name="t"), kind)
        content = json.loads(json.dumps(target.to_json()))
        assert TargetEncoder.from_json(content) == target


@pytest.mark.parametrize("reader", [TableEncoder, TargetEncoder])
def test_foreign_or_damaged_json_is_refused(reader):
    frame = pd.DataFrame({"n": [0.1, 1 / 3, np.nan]})
    whole = {
        TableEncoder: fit_encoder(frame),
        TargetEncoder: fit_target(pd.Series(times([0, 1]), name="t")),
    }[reader].to_json()
    for content, pattern in [
        (None, "format"),
        ([1], "format"),
        ({"format": "other"}, "not written by jmeta"),
        (whole | {"version": 99}, "version 1, got version 99; fit"),
        ({key: whole[key] for key in ("format", "version")}, "damaged"),
        (whole | {"columns": [{"name": "n"}], "scale": 0.0}, "damaged"),
        (whole | {"notes": [1]}, "damaged"),
    ]:
        with pytest.raises(InputError, match=pattern):
            reader.from_json(content)
    if reader is TableEncoder:
        for damage in [{"scale": math.inf}, {"kind": "?"}, {"levels": [1]}]:
            columns = [whole["columns"][0] | damage]
            with pytest.raises(InputError, match="damaged"):
                reader.from_json(whole | {"columns": columns})


def test_encoding_4096_rows_of_100_columns_takes_less_than_a_tenth_of_a_second():
    frame = pd.DataFrame(
        {f"n{i}": RANDOM.normal(size=4096) for i in range(60)}
        | {f"c{i}": RANDOM.choice(list("abcdef"), 4096) for i in range(40)}
    )
    encoder = fit_encoder(frame)

    def seconds() -> float:
        start = time.perf_counter()
        encoder.encode(frame)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.1


TARGETS = {
    "texts": (times(["sick", "well", None]), "classes", ("sick", "well")),
    "bools": (times([True, False]), "classes", (False, True)),
    "codes": (times([3, 1, 2]), "classes", (1, 2, 3)),
    "two floats": (times([0.5, 1.5]), "classes", (0.5, 1.5)),
    "codes with a gap": ([None, *times([1, 2])], "classes", (1, 2)),
    "whole floats": (times([2.0, 1.0]), "classes", (1.0, 2.0)),
    "declared": (pd.Categorical(times([7, 8, 9])), "classes", (7, 8, 9)),
    "mixed": (times(["x", 1, 2]), "classes", ("1", "2", "x")),
    "number texts": (times(["10", "9"]), "classes", ("10", "9")),
    "floats": (list(NUMBERS), "number", ()),
    "counts": (list(range(ROWS)), "number", ()),
    "few rows each": ([1, 2, 3, 4, 5, 6, 7, 7], "number", ()),
    "many whole": (times(list(range(21)), 210), "number", ()),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_inferred_encoded_and_decoded(name):
    cells, kind, classes = TARGETS[name]
    series = pd.Series(cells, name="t")
    target = fit_target(series)
    assert (target.kind, target.classes) == (kind, classes)
    assert [type(label) for label in target.classes] == [
        type(label) for label in classes
    ]
    known = known_rows(series)
    y = target.encode(series[known])
    assert y.dtype == (np.int32 if kind == "classes" else np.float32)
    decoded, expected = target.decode(y), series[known].tolist()
    if kind == "number":
        np.testing.assert_allclose(decoded, expected, atol=1e-5)
    else:
        as_given = [str(cell) for cell in expected] if name == "mixed" else expected
        assert decoded.tolist() == as_given


def test_the_kind_of_target_can_be_set():
    codes = pd.Series(times([1, 2, 3]), name="t")
    number = fit_target(codes, "number")
    np.testing.assert_allclose(number.decode(number.encode(codes)), codes, rtol=1e-6)
    np.testing.assert_allclose(number.encode(codes).std(), 1.0, rtol=1e-6)
    counts = pd.Series(range(ROWS), name="t")
    assert fit_target(counts, "classes").classes == tuple(range(ROWS))
    with pytest.raises(InputError, match="must be 'classes' or 'number', got 'both'"):
        fit_target(codes, "both")


def test_numbers_near_1e9_and_1e300_come_back():
    for values in (1e9 + np.arange(ROWS) * 1e-2, np.arange(ROWS) * 1e300):
        series = pd.Series(values, name="t")
        target = fit_target(series)
        decoded = target.decode(target.encode(series))
        np.testing.assert_allclose(decoded, values, atol=1e-5 * np.ptp(values))


def test_a_class_with_one_row_is_noted():
    target = fit_target(pd.Series(["x"] * 9 + ["y"], name="t"))
    assert "1 class(es) with one row, 'y'" in target.notes[0]


def test_missing_targets_are_masked():
    series = pd.Series(["x", None, "?", "y"] * 4, name="t")
    np.testing.assert_array_equal(known_rows(series), [True, False, False, True] * 4)
    assert fit_target(series).encode(series).tolist() == [0, -1, -1, 1] * 4


BAD_TARGETS = {
    "missing": ([None] * 9, None, "every value of the target 't' is missing"),
    "three": ([1, 2, 3], None, "has 3 sample.*at least 6 are needed"),
    "one row": ([1.0], None, "1 sample"),
    "one class": (["x"] * 9, None, "only one class, 'x'"),
    "one class of numbers": ([1] * 9, "classes", "only one class, '1'"),
    "one number": ([2.5] * 9, "number", "one value 2.5 in every row"),
    "many": ([f"c{i % 101}" for i in range(303)], None, "101 classes, more than 100"),
    "infinite": ([*NUMBERS, np.inf], None, "'t' has infinite values.*row 41"),
    "infinite class": ([1.0, np.inf] * 5, "classes", "'t' has infinite.*row 2"),
    "text": ([*NUMBERS, "abc"], None, "'t' has text in a number.*'abc' in row 41"),
    "text as number": (["x", "y"] * 9, "number", "'t' has text.*'x' in row 1"),
    "dates": (pd.to_datetime(["2024-01-01"] * 9), None, "'t' holds dates"),
    "lists": ([[1]] * 9, None, "holds a list in row 1"),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_a_bad_target_is_named_in_one_sentence(name):
    cells, kind, pattern = BAD_TARGETS[name]
    with pytest.raises(InputError, match=pattern) as raised:
        fit_target(pd.Series(cells, name="t"), kind)
    assert "'t'" in str(raised.value) and "\n" not in str(raised.value)


def test_an_unseen_class_is_named_with_its_row():
    target = fit_target(pd.Series(times(["x", "y"]), name="t"))
    with pytest.raises(InputError, match="'z' in row 2, which is none of its 2"):
        target.encode(pd.Series(["x", "z"]))


def test_a_subsample_keeps_the_shares_of_the_classes():
    y = np.repeat([0, 1, 2], [7000, 2990, 10])
    rows = subsample(y, "classes", limit=1000, seed=3)
    assert len(np.unique(rows)) == 1000 and (np.diff(rows) > 0).all()
    np.testing.assert_allclose(np.bincount(y[rows]), [700, 299, 1], atol=1)
    np.testing.assert_array_equal(rows, subsample(y, "classes", limit=1000, seed=3))
    assert (rows != subsample(y, "classes", limit=1000, seed=4)).any()


def test_a_subsample_keeps_every_class():
    y = np.r_[np.zeros(5000, int), np.arange(1, 51)]
    rows = subsample(y, "classes", limit=60)
    assert len(rows) == 60 and len(np.unique(y[rows])) == 51
    with pytest.raises(ValueError, match="limit=50 is below the 51 classes"):
        subsample(y, "classes", limit=50)


def test_a_short_table_is_not_sampled_and_numbers_are_sampled_evenly():
    assert subsample(np.zeros(5), "number").tolist() == [0, 1, 2, 3, 4]
    rows = subsample(np.linspace(0, 1, 9000), "number", limit=100)
    assert len(np.unique(rows)) == 100
