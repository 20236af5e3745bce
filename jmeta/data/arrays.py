"""NumPy archives from outside: arrays of numbers and texts, never objects."""

import math
import os
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jmeta.errors import InputError

__all__ = ["array_names", "read_arrays"]


def _opened(path: Path) -> zipfile.ZipFile:
    what = repr(str(path))
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {what}.") from None
    except (OSError, zipfile.BadZipFile):
        raise InputError(f"{what} is cut short or no NumPy archive.") from None


def array_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the arrays of an `.npz`, in its order.

    Raises:
      InputError: if there is none.
    """
    with _opened(Path(path)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_arrays(
    path: str | os.PathLike[str], names: Collection[str], *, most_bytes: int
) -> dict[str, np.ndarray]:
    """Some arrays of an `.npz`; what an array claims to be is checked beforehand.

    Args:
      path: of the archive.
      names: of arrays that it has.
      most_bytes: of all of them together, unpacked.

    Raises:
      InputError: if it is cut short, holds objects, or more bytes than that.
    """
    what = repr(str(path))
    found, left = {}, most_bytes
    with _opened(Path(path)) as archive:
        for name in names:
            try:
                info = archive.getinfo(f"{name}.npy")
                with archive.open(info) as file:
                    promised = _promised_bytes(file)
                left -= promised
                if left < 0:
                    raise InputError(
                        f"{what} holds more than {most_bytes} bytes once it is "
                        "unpacked; read a part of it from a file of its own."
                    )
                if promised > info.file_size:
                    raise ValueError
                with archive.open(info) as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read(1):  # The end is where the checksum is compared.
                        raise ValueError
            except InputError:
                raise
            except (
                OSError,
                EOFError,
                KeyError,
                ValueError,
                RuntimeError,
                zipfile.BadZipFile,
                zlib.error,
            ):
                raise InputError(
                    f"{what}: {name} is cut short or no plain array."
                ) from None
    return found


def _promised_bytes(file: Any) -> int:
    """How many bytes of numbers follow the header.

    Raises:
      ValueError: if it is no header, or one of objects.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(version)
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError(dtype)
    return math.prod(shape) * dtype.itemsize
