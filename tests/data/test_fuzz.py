"""Whatever comes in: a sentence or a sound encoding, never another exception."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmeta.data.encode import (
    TableEncoder,
    TargetEncoder,
    fit_encoder,
    fit_target,
    known_rows,
)
from jmeta.data.tables import SUFFIXES, as_frame, read_table, split_target
from jmeta.errors import InputError
from jmeta.tasks import CATEGORY, INDICATOR, NUMBER

FUZZ = settings(max_examples=60, deadline=None, derandomize=True)

CELLS = {
    "float": st.floats(allow_nan=True, allow_infinity=False),
    "any float": st.floats(),
    "small int": st.integers(0, 3),
    "int": st.integers(-(2**62), 2**62),
    "huge int": st.integers(-(10**400), 10**400),
    "bool": st.booleans(),
    "code": st.sampled_from(["a", "b", "Ä", " a", "1", "1.0", "", "NA", "?"]),
    "text": st.text(max_size=5),
    "number text": st.floats().map(str),
    "date": st.dates(),
    "datetime": st.datetimes(),
    "date text": st.dates().map(str),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=3),
    "constant": st.just("same"),
    "missing": st.just(None),
    "odd": st.sampled_from([[1], {"a": 1}, b"x", object, 1j, datetime.time(1)]),
}
NAMES = st.one_of(
    st.text(max_size=6),
    st.integers(0, 9),
    st.sampled_from(["", " ", "a,b", 'a"b', "a\nb", "nan", "größe", "1e5"]),
)


@st.composite
def frames(draw) -> pd.DataFrame:
    """Up to 12 rows and 5 columns; an odd column now and then."""
    rows = draw(st.integers(0, 12))
    names = draw(st.lists(NAMES, max_size=5))
    columns = []
    for _ in names:
        kinds = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=2))
        cells = st.one_of(*(CELLS[kind] for kind in kinds), st.just(None))
        cells = CELLS[kinds[0]] if draw(st.booleans()) else cells
        column = pd.Series(
            draw(st.lists(cells, min_size=rows, max_size=rows)), dtype=object
        )
        if draw(st.booleans()):
            column = column.infer_objects()
        columns.append(column)
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(rows))
    frame.columns = pd.Index(names, dtype=object)
    return frame


def check_encoding(frame: pd.DataFrame) -> None:
    encoder = fit_encoder(frame)
    x, kinds = encoder.encode(frame)
    assert x.dtype == np.float32 and not np.isinf(x).any()
    assert x.shape == (len(frame), encoder.width) == (len(frame), len(encoder.names))
    assert len(kinds) == len(encoder.source) == encoder.width
    assert set(kinds.tolist()) <= {NUMBER, CATEGORY, INDICATOR}
    assert not np.isnan(x[:, kinds != NUMBER]).any()
    again = TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    np.testing.assert_array_equal(again.encode(frame)[0], x)
    if len(frame) > 1:
        some = fit_encoder(frame.iloc[::2])
        assert not np.isinf(some.encode(frame)[0]).any()


def check_target(series: pd.Series, kind: str | None) -> None:
    target = fit_target(series, kind)
    known = known_rows(series)
    y = target.encode(series)
    assert np.isfinite(y[known]).all() and len(target.decode(y[known])) == known.sum()
    assert target.kind == "number" or set(y[known]) == set(range(len(target.classes)))
    content = json.loads(json.dumps(target.to_json()))
    assert TargetEncoder.from_json(content) == target


def or_a_sentence(function, *args):
    """Call it; an `InputError` is fine if it is one line."""
    try:
        return function(*args)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None


@FUZZ
@given(frame=frames(), kind=st.sampled_from([None, "classes", "number"]))
def test_any_frame_is_encoded_or_refused(frame, kind):
    frame = or_a_sentence(as_frame, frame)
    if frame is None:
        return
    or_a_sentence(check_encoding, frame)
    for name in map(str, frame.columns):
        features, series = split_target(frame, name)
        or_a_sentence(check_target, series, kind)
        or_a_sentence(check_encoding, features)


@FUZZ
@given(frame=frames(), separator=st.sampled_from(",;\t|"))
def test_any_frame_written_as_text_is_read_or_refused(
    tmp_path_factory, frame, separator
):
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    frame.to_csv(path, index=False, sep=separator)
    read = or_a_sentence(read_table, path)
    if read is not None:
        or_a_sentence(check_encoding, read)


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        st.text("ab1.,;\t|\n\r\"' ?é", max_size=60).map(str.encode),
        st.text("{}',?%\na1 ", max_size=40).map(
            lambda text: f"@relation r\n@attribute a {{1,a}}\n@data\n{text}".encode()
        ),
        st.sampled_from(
            [b"PK\x03\x04", b"\x93NUMPY", b"PAR1", b"\x1f\x8b\x08"]
        ).flatmap(lambda magic: st.binary(max_size=60).map(lambda rest: magic + rest)),
    ),
    suffix=st.sampled_from([*SUFFIXES, ".csv.gz", ""]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"t{suffix}"
    path.write_bytes(content)
    read = or_a_sentence(read_table, path)
    if read is not None:
        assert len(read) and len(set(read.columns)) == read.shape[1]
        or_a_sentence(check_encoding, read)


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_parquet_file_cut_anywhere_is_refused(tmp_path, cut):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError):
        read_table(path)
