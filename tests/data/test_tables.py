"""Files, frames and arrays become the same table, or one sentence says why not."""

import gzip
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from jmeta.data.builtin import load
from jmeta.data.encode import fit_encoder
from jmeta.data.tables import as_frame, read_table, split_target
from jmeta.errors import InputError

ROWS = 40


def mixed() -> pd.DataFrame:
    """Numbers, whole numbers, texts, truth values and dates, with gaps."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.normal(50.0, 10.0, ROWS).round(3),
            "visits": random.integers(0, 5, ROWS),
            "blood type": random.choice(["A", "B, rare", "it's O"], ROWS),
            "smoker": random.choice([True, False], ROWS),
            "größe": random.normal(1e9, 1e-2, ROWS),
            "seen": [f"2024-0{1 + i % 9}-17" for i in range(ROWS)],
        }
    )
    frame.loc[3, "age"] = np.nan
    frame["blood type"] = frame["blood type"].where(frame.index != 5, None)
    return frame


def arff(frame: pd.DataFrame) -> str:
    types = {
        "age": "numeric",
        "visits": "INTEGER",
        "blood type": r"{A, 'B, rare', 'it\'s O'}",
        "smoker": "{False,True}",
        "größe": "real",
        "seen": 'date "yyyy-MM-dd"',
    }
    lines = ["% a comment", "", "@RELATION 'a test'"]
    lines += [f"@attribute '{name}' {kind}" for name, kind in types.items()]
    lines += ["@data"]
    for row in frame.itertuples(index=False):
        cells = ["?" if pd.isna(cell) else str(cell) for cell in row]
        cells[2] = cells[2].replace("'", r"\'")
        cells[2] = cells[2] if cells[2] == "?" else f"'{cells[2]}'"
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def write(frame: pd.DataFrame, path) -> None:
    kinds = {".csv": ",", ".tsv": "\t", ".txt": ";", ".gz": "|"}
    if path.suffix == ".arff":
        path.write_text(arff(frame), encoding="utf-8")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep=kinds[path.suffix], index=False)


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.parquet", "T.ARFF", "t.arff"]
)
def test_every_format_gives_the_encoding_of_the_frame(tmp_path, name):
    frame, path = mixed(), tmp_path / name.lower()
    write(frame, path)
    path = path.rename(tmp_path / name)
    encoder = fit_encoder(frame)
    x, kinds = encoder.encode(frame)
    read = read_table(path)
    again, _ = encoder.encode(read)
    np.testing.assert_allclose(again, x, atol=1e-6)
    fitted = fit_encoder(read)
    assert fitted.names == encoder.names
    np.testing.assert_array_equal(fitted.kinds, kinds)
    np.testing.assert_allclose(fitted.encode(frame)[0], x, atol=1e-6)


def test_polars_gives_the_encoding_of_pandas():
    frame = mixed()
    encoder = fit_encoder(frame)
    polars = pl.DataFrame(
        {name: column.tolist() for name, column in frame.items()}, strict=False
    ).with_columns(pl.col("blood type").cast(pl.Categorical))
    x, _ = fit_encoder(as_frame(polars)).encode(as_frame(polars))
    np.testing.assert_allclose(x, encoder.encode(frame)[0], atol=1e-6)


def test_arrays_and_lists_become_columns_x0_x1():
    rows = [[1.0, 2.0], [3.0, 4.5]]
    for table in (np.array(rows), rows, np.array(rows, dtype=object)):
        frame = as_frame(table)
        assert list(frame) == ["x0", "x1"]
        np.testing.assert_array_equal(frame.to_numpy(dtype=float), rows)
    assert list(as_frame(np.array(rows), ["a", "b"])) == ["a", "b"]
    assert as_frame([["a", 1], ["b", 2]])["x1"].dtype.kind == "i"


@pytest.mark.parametrize("name", ["t.npy", "t.npz"])
def test_numpy_files_are_read(tmp_path, name):
    x = np.arange(6.0).reshape(3, 2)
    if name == "t.npy":
        np.save(tmp_path / name, x)
        expected = ["x0", "x1"]
    else:
        np.savez(tmp_path / name, x=x, y=np.array(["a", "b", "a"]))
        expected = ["x0", "x1", "y"]
    frame = read_table(tmp_path / name)
    assert list(frame) == expected
    np.testing.assert_array_equal(frame[["x0", "x1"]], x)


def test_a_pickle_in_a_numpy_file_is_not_loaded(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"t\.npy.*cannot be read"):
        read_table(tmp_path / "t.npy")


def test_separator_and_gzip_are_found_whatever_the_suffix(tmp_path):
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"a\tb\n1\t2,5\n3\t4,5\n"))
    frame = read_table(tmp_path / "t.csv")
    assert frame.to_dict("list") == {"a": [1, 3], "b": ["2,5", "4,5"]}


def test_decimal_commas_between_semicolons_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1,5;x\n-2,25;y\n")
    assert read_table(tmp_path / "t.csv")["a"].tolist() == [1.5, -2.25]


def test_missing_values_have_many_spellings(tmp_path):
    spellings = ["", "NA", "NaN", "null", "?", "N/A", " ? "]
    rows = "".join(f"{cell},1\n" for cell in spellings)
    (tmp_path / "t.csv").write_text(f"a,b\n{rows}2.5,1\n")
    x, _ = fit_encoder(pd.DataFrame({"a": [1.0, 2.0]})).encode(
        read_table(tmp_path / "t.csv")
    )
    np.testing.assert_array_equal(np.isnan(x[:, 0]), [True] * 7 + [False])


def test_byte_order_mark_blank_lines_and_quoted_line_ends_are_read(tmp_path):
    text = '"first\nname", b \r\n\r\n"x, ""y""\nz",1\r\n  \r\nw,2\r\n\r\n'
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    frame = read_table(tmp_path / "t.csv")
    assert frame.to_dict("list") == {"first\nname": ['x, "y"\nz', "w"], "b": [1, 2]}


def test_an_unnamed_first_column_numbers_the_rows(tmp_path):
    mixed().to_csv(tmp_path / "t.csv")
    assert list(read_table(tmp_path / "t.csv")) == list(mixed())
    (tmp_path / "u.csv").write_text("a,,b\n1,2,3\n1,2,4\n")
    assert list(read_table(tmp_path / "u.csv")) == ["a", "unnamed_2", "b"]


ARFF = b"@relation r\n@attribute a numeric\n@attribute b {x,'y z'}\n@data\n"
BAD_FILES = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n \n", "is empty"),
    "header.csv": (b"a,b\n", "a header and no rows"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), "UTF-16 text.*save it as UTF-8"),
    "nobom.csv": ("a,b\n1,2\n".encode("utf-16-le"), "zero byte at byte 1"),
    "latin.csv": ("a,b\n1,ü\n".encode("latin-1"), "byte 6 \\(0xfc, line 2\\)"),
    "twice.csv": (b"a,b,a\n1,2,3\n", "duplicate column names: 'a'; rename"),
    "nohead.csv": (b"1,0,1\n2,0,1\n", "duplicate column names: '1'; does the first"),
    "ragged.csv": (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields and the header has 2"),
    "short.csv": (b"a,b\n1,2\n1\n", "line 3 has 1 fields and the header has 2"),
    "quote.csv": (b'a,b\n1,"2\n3,4\n', "not well-formed"),
    "cut.csv.gz": (gzip.compress(b"a,b\n1,2\n" * 99)[:30], "cut short"),
    "plain.csv.gz": (b"a,b\n1,2\n", "not a gzip file"),
    "broken.csv.gz": (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "damaged gzip"),
    "t.xlsx": (b"PK\x03\x04", "no suffix that tells its format"),
    "t.parquet": (b"PAR1 is not enough", "not a sound Parquet file"),
    "u.parquet": (b"a,b\n1,2\n", "not a sound Parquet file"),
    "t.npy": (b"a,b\n1,2\n", "holds no NumPy arrays"),
    "t.npz": (b"PK\x03\x04 is not enough", "cannot be read as NumPy"),
    "sparse.arff": (ARFF + b"{0 1, 1 x}\n", "line 5 is a sparse row"),
    "level.arff": (ARFF + b"1,x\n2,q\n", "line 6 \\(row 2\\) has 'q'.*'b'"),
    "number.arff": (ARFF + b"one,x\n", "line 5 \\(row 1\\) has 'one'.*'a'"),
    "wide.arff": (ARFF + b"1,x,2\n", "line 5 has 3 values.* 2 columns"),
    "open.arff": (ARFF + b"1,'x\n", "line 5 has unbalanced quotes"),
    "norows.arff": (ARFF, "a header and no rows"),
    "nodata.arff": (ARFF[:40], "no @data line|line 3"),
    "type.arff": (b"@relation r\n@attribute a relational\n", "type 'relational'"),
    "bad.arff": (b"@relation r\nhello\n", "line 2 is 'hello'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_in_one_sentence(tmp_path, name):
    content, pattern = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=pattern) as raised:
        read_table(tmp_path / name)
    message = str(raised.value)
    assert name in message and "\n" not in message


def test_no_such_file_and_a_folder_are_said_so(tmp_path):
    (tmp_path / "heart.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no file .*did you mean 'heart\.csv'"):
        read_table(tmp_path / "haert.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="no file"):
        read_table(tmp_path / "heart.csv" / "x.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_table("a\0b.csv")


def test_a_missing_pyarrow_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'jmeta\[parquet\]'"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "table, pattern",
    [
        (sparse.csr_matrix(np.eye(3)), "sparse"),
        (np.zeros(3), "Expected 2D array, got 1D array.*Reshape your data"),
        (np.zeros((2, 2, 2)), "got 3D"),
        (np.zeros((2, 2), complex), "Complex data not supported"),
        ([[1, 2], [3]], "1D array|differ in length"),
        ({"a": [1, 2], "b": [1]}, "do not form a table"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "duplicate column names: 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "duplicate column names: '1'"),
        (5, "got 0D"),
    ],
)
def test_what_is_no_table_is_refused(table, pattern):
    with pytest.raises(InputError, match=pattern) as raised:
        as_frame(table)
    assert "\n" not in str(raised.value)


def test_feature_names_must_fit():
    with pytest.raises(InputError, match=r"1 feature names do not fit .* 2 columns"):
        as_frame(np.zeros((3, 2)), ["a"])


def test_the_target_is_split_off_by_name():
    features, target = split_target(mixed(), "visits")
    assert "visits" not in features and target.name == "visits"
    with pytest.raises(InputError, match=r"no target column 'Visit'.*mean 'visits'"):
        split_target(mixed(), "Visit")


@pytest.mark.parametrize("name, shape", [("breast_cancer", 30), ("diabetes", 10)])
def test_builtin_tables_are_complete(name, shape):
    frame, target, kind = load(name)
    assert frame.shape == (len(target), shape)
    assert kind == ("number" if name == "diabetes" else "classes")
    assert not frame.isna().any(axis=None)


def test_an_unknown_builtin_table_is_refused():
    with pytest.raises(InputError, match="no built-in table 'titanic'"):
        load("titanic")
