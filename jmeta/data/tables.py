"""Readers of tables: files, data frames and arrays become a pandas frame.

Files are data and nothing else: no pickle is read, nothing in them is evaluated.
"""

import difflib
import gzip
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jmeta.data.arff import is_arff, read_arff
from jmeta.data.columns import check_names, quote
from jmeta.data.separated import read_separated
from jmeta.errors import InputError

__all__ = [
    "SUFFIXES",
    "as_frame",
    "column_names",
    "did_you_mean",
    "read_table",
    "split_target",
]

SUFFIXES = (".csv", ".tsv", ".txt", ".arff", ".parquet", ".npy", ".npz")
"""What `read_table` reads, each also with .gz behind it."""

_ZIP, _GZIP, _PARQUET, _NPY = b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"\x93NUMPY"


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table from a file: CSV, TSV or other separated text, ARFF, Parquet, NumPy.

    The separator of text (comma, semicolon, tab or |) is found from the content,
    whatever the suffix, and gzip is recognised. Text is UTF-8; its first line names
    the columns. A first column without a name whose values all differ numbers the
    rows and becomes the index.

    Raises:
      InputError: if the file cannot be read as a table; says why, and where.
    """
    path = Path(path)
    what = repr(str(path))  # Whole, unlike other values.
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if packed else suffixes)[-1:] or [""]
    content = _content(path, what, packed)
    if suffix[0] not in SUFFIXES:
        raise InputError(
            f"{what} has no suffix that tells its format; use one of "
            f"{', '.join(SUFFIXES)} (also with .gz); export spreadsheets as CSV."
        )
    if not content.strip():
        raise InputError(f"{what} is empty; it must hold a table.")
    if content.startswith(_PARQUET) or suffix[0] == ".parquet":
        frame = _read_parquet(content, what)
    elif suffix[0] in (".npy", ".npz"):
        frame = _read_numpy(content, what)
    else:
        text = _decoded(content, what)
        if suffix[0] == ".arff" or is_arff(text):
            frame = read_arff(text, what)
        else:
            frame = read_separated(text, what)
    check_names(column_names(frame, check=False), what)
    if frame.columns.empty or frame.empty:
        raise InputError(f"{what} has a header and no rows; it must hold a table.")
    return frame


def _content(path: Path, what: str, packed: bool) -> bytes:
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{what} is a folder; name the file in it.") from None
    except (FileNotFoundError, NotADirectoryError):
        near = _siblings(path)
        hint = f"; did you mean {quote(near[0])}?" if near else "; check its path."
        raise InputError(f"there is no file {what}{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name.
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} cannot be read: {reason}.") from None
    if packed and content and not content.startswith(_GZIP):
        raise InputError(
            f"{what} is not a gzip file, whatever its name says; remove .gz from it."
        )
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise InputError(f"{what} is a gzip file cut short; fetch it again.") from None
    except (OSError, zlib.error):
        raise InputError(f"{what} is a damaged gzip file; fetch it again.") from None


def _siblings(path: Path) -> list[str]:
    try:
        names = os.listdir(path.parent)
    except (OSError, ValueError):
        return []
    return difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)


def _decoded(content: bytes, what: str) -> str:
    advice = "save it as UTF-8 (spreadsheets call it 'CSV UTF-8')"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{what} is UTF-16 text from byte 0 on; {advice}.")
    zero = content.find(b"\0")
    if zero >= 0:
        raise InputError(
            f"{what} has a zero byte at byte {zero}: it is no text, or UTF-16; "
            f"{advice}."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark.
        start = error.start + 3 * content.startswith(b"\xef\xbb\xbf")
        line = content.count(b"\n", 0, start) + 1
        raise InputError(
            f"{what} is not UTF-8: byte {start} (0x{content[start]:02x}, line {line}) "
            f"does not fit, as in Latin-1 or Windows-1252 text; {advice}."
        ) from None


def _read_parquet(content: bytes, what: str) -> pd.DataFrame:
    try:
        import pyarrow as pa  # An optional dependency.
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{what} is a Parquet file, which needs pyarrow; "
            "pip install 'jmeta[parquet]', or export it as CSV."
        ) from None
    try:
        table = parquet.read_table(io.BytesIO(content))
        check_names([str(name) for name in table.column_names], what)
        return table.to_pandas()
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{what} is not a sound Parquet file: {reason}.") from None


def _read_numpy(content: bytes, what: str) -> pd.DataFrame:
    if not content.startswith((_NPY, _ZIP)):
        raise InputError(f"{what} holds no NumPy arrays, whatever its name says.")
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return as_frame(loaded)
        arrays = {name: loaded[name] for name in loaded.files}
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own.
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{what} cannot be read as NumPy arrays: {reason}.") from None
    parts = []
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or len(array) != len(next(iter(arrays.values()))):
            raise InputError(
                f"{what}: the array {quote(name)} has shape {array.shape}; every array "
                "must have one or two axes and as many rows as the first."
            )
        wide = array.ndim == 2
        names = [f"{name}{place}" for place in range(array.shape[1])] if wide else None
        part = pd.DataFrame(array)
        part.columns = names or [name]
        parts.append(part)
    if not parts:
        raise InputError(f"{what} holds no arrays.")
    return pd.concat(parts, axis=1)


def column_names(frame: pd.DataFrame, *, check: bool = True) -> list[str]:
    """The columns' names as text.

    Raises:
      InputError: if two are the same.
    """
    names = [str(name) for name in frame.columns]
    if check:
        check_names(names, "the table")
    return names


def did_you_mean(name: str, names: Sequence[str]) -> list[str]:
    """Up to three of `names` that are spelt almost like `name`, nearest first."""
    lower: dict[str, str] = {}
    for other in names:
        lower.setdefault(other.lower().strip(), other)
    near = difflib.get_close_matches(name.lower().strip(), list(lower), cutoff=0.6)
    return [lower[other] for other in near]


def split_target(frame: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """The features and the target column of a table.

    Raises:
      InputError: if there is no such column, or no other.
    """
    names = column_names(frame)
    if target not in names:
        near = did_you_mean(target, names)
        shown = ", ".join(quote(name) for name in names[:8])
        more = ", ..." if len(names) > 8 else ""
        hint = f"; did you mean {quote(near[0])}?" if near else "."
        raise InputError(
            f"there is no target column {quote(target)}; the table has "
            f"[{shown}{more}]{hint}"
        )
    place = names.index(target)
    keep = [other for other in range(len(names)) if other != place]
    return frame.iloc[:, keep], frame.iloc[:, place].rename(target)


def as_frame(X: Any, feature_names: Sequence[str] | None = None) -> pd.DataFrame:
    """A table in memory as a pandas frame; the rows keep their order.

    Args:
      X: a pandas, polars or pyarrow table, a dictionary of columns, a 2-D array or
        list of rows (columns x0, x1, ...), or a list of dictionaries.
      feature_names: replace the columns' names.

    Raises:
      InputError: if it is something else, sparse, ragged, or not a table of two axes;
        if names repeat or do not fit.
    """
    frame = _frame_of(X)
    if feature_names is not None:
        if len(feature_names) != frame.shape[1]:
            raise InputError(
                f"{len(feature_names)} feature names do not fit a table of "
                f"{frame.shape[1]} columns."
            )
        frame = frame.set_axis(list(feature_names), axis=1)
    check_names(column_names(frame, check=False), "the table")
    return frame


def _frame_of(X: Any) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        return X
    package = type(X).__module__.partition(".")[0]
    if package == "scipy" and hasattr(X, "toarray"):
        raise InputError(
            "the table is a sparse matrix, and sparse data is not supported; pass "
            "X.toarray() if it fits in memory."
        )
    if package == "polars" and hasattr(X, "get_columns"):
        columns = {column.name: _polars_column(column) for column in X.get_columns()}
        return pd.DataFrame(columns)
    if package == "pyarrow" and hasattr(X, "to_pandas"):
        return X.to_pandas()
    if isinstance(X, dict) or (isinstance(X, list) and X and isinstance(X[0], dict)):
        try:
            return pd.DataFrame(X)
        except (ValueError, TypeError) as error:
            raise InputError(f"the columns do not form a table: {error}.") from None
    return _frame_of_array(X)


def _polars_column(column: Any) -> pd.Series:
    dtype = str(column.dtype)
    if dtype.startswith(("Int", "UInt", "Float")):
        return pd.Series(column.to_numpy())
    if dtype.startswith(("Categorical", "Enum")):
        return pd.Series(pd.Categorical(column.to_list()))
    return pd.Series(column.to_list(), dtype=bool if _complete(column) else object)


def _complete(column: Any) -> bool:
    return str(column.dtype) == "Boolean" and not column.null_count()


def _frame_of_array(X: Any) -> pd.DataFrame:
    mixed = isinstance(X, list | tuple)
    try:
        array = np.array(X, dtype=object) if mixed else np.asarray(X)
    except ValueError:
        raise InputError(
            "the rows differ in length; every row must have a cell for every column."
        ) from None
    if array.dtype.names:
        return pd.DataFrame({name: array[name] for name in array.dtype.names})
    if array.ndim != 2:
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead: a table has rows and "
            "columns. Reshape your data with X.reshape(-1, 1) if it is one column."
        )
    if array.dtype.kind == "c":
        raise InputError(
            "Complex data not supported: the table must hold real numbers."
        )
    if array.dtype.kind not in "biufOUSTmM":
        raise InputError(f"the table holds {array.dtype} cells, which are no values.")
    array = array.astype(str) if array.dtype.kind == "S" else array
    frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    return frame.infer_objects() if array.dtype == object else frame
