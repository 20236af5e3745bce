"""Pictures from outside, one at a time: files below a folder, or members of a zip.

Nothing is ever unpacked to the disk; what is cut short, no picture, or too large is
refused by name.
"""

import contextlib
import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from jmeta.errors import InputError

__all__ = ["MOST_BYTES", "SUFFIXES", "File", "decoded", "files_below", "resized"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of pictures end in."""

MOST_BYTES = 2**34
"""Of all pictures of one source together, once they are unpacked."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_MOST_PIXELS = 2**26
_MOST_BYTES_OF_FILE = 2**28
_GREY, _COLOUR = ("1", "L", "LA", "La"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_OMNIGLOT = (105, 105)


class File(NamedTuple):
    """One file of a folder or zip.

    Attributes:
      name: for error messages, the folder or zip included.
      parts: of its path from there on.
      read: gives its bytes, or raises InputError.
    """

    name: str
    parts: tuple[str, ...]
    read: Callable[[], bytes]


@contextlib.contextmanager
def files_below(path: str | os.PathLike[str]) -> Iterator[list[File]]:
    """All files of a folder or zip in the order of their paths, hidden ones left out.

    Raises:
      InputError: if there is neither, or a path in the zip leaves it.
    """
    path = Path(path)
    if path.is_dir():
        found = [
            File(
                name=repr(str(file)),
                parts=file.relative_to(path).parts,
                read=lambda file=file: _read_file(file),
            )
            for file in path.rglob("*")
            if file.is_file()
        ]
        yield _sorted(found)
        return
    what = repr(str(path))
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"there is no file or folder {what}.") from None
    except (OSError, zipfile.BadZipFile):
        raise InputError(f"{what} is cut short or no zip.") from None
    with archive:
        yield _sorted([_member(archive, info, path) for info in archive.infolist()])


def _sorted(files: list[File]) -> list[File]:
    shown = [
        file
        for file in files
        if file.parts and not any(p.startswith((".", "__MACOSX")) for p in file.parts)
    ]
    return sorted(shown, key=lambda file: file.parts)


def _read_file(path: Path) -> bytes:
    what = repr(str(path))
    try:
        if path.stat().st_size > _MOST_BYTES_OF_FILE:
            raise InputError(_too_large(what, f"{_MOST_BYTES_OF_FILE} bytes"))
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror}.") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> File:
    what = repr(f"{path}/{info.filename}")
    inside = PurePosixPath(info.filename)
    if inside.is_absolute() or ".." in inside.parts or "\\" in info.filename:
        raise InputError(f"{what} is a path that leaves the zip; it is not read.")

    def read() -> bytes:
        if info.file_size > _MOST_BYTES_OF_FILE:
            raise InputError(_too_large(what, f"{_MOST_BYTES_OF_FILE} bytes"))
        try:
            return archive.read(info)
        # A password is a RuntimeError, an unknown compression NotImplementedError.
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
            raise InputError(f"{what} is cut short or cannot be unpacked.") from None

    return File(name=what, parts=() if info.is_dir() else inside.parts, read=read)


def _too_large(what: str, limit: str) -> str:
    return f"{what} is larger than {limit}; make it smaller before it is read."


def decoded(
    what: str, content: bytes, *, size: int | None = None, channels: int | None = None
) -> np.ndarray:
    """The pixels of one picture, `(height, width, channels)` uint8.

    Pictures of Omniglot, which are 105 by 105 with one bit a pixel, are turned to
    bright strokes on dark, and are 28 by 28 unless told otherwise. What is transparent
    is shown on white.

    Args:
      what: its name in quotes, for error messages.
      content: of its file.
      size: to which height and width are brought; None for as they are.
      channels: 1 for grey, 3 for colours; None for as it is.

    Raises:
      InputError: if it is cut short, no picture of 8 bits or less, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of metadata; the pixels are checked here.
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise InputError(_too_large(what, f"{_MOST_PIXELS} pixels"))
                if image.mode not in _GREY + _COLOUR:
                    raise InputError(
                        f"{what} has pixels of mode {image.mode}; scale them to 8 bits "
                        "a channel."
                    )
                return _pixels(image, size, channels)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(_too_large(what, f"{_MOST_PIXELS} pixels")) from None
    except (
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
        struct.error,
        zlib.error,
    ):
        raise InputError(
            f"{what} is cut short or no picture of {', '.join(_FORMATS)}."
        ) from None


def _pixels(image: Image.Image, size: int | None, channels: int | None) -> np.ndarray:
    omniglot = image.mode == "1" and image.size == _OMNIGLOT
    if channels is None:
        channels = 1 if image.mode in _GREY else 3
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "La", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("L" if channels == 1 else "RGB")
    if omniglot:
        image = ImageOps.invert(image)
        size = 28 if size is None else size
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def resized(
    x: np.ndarray, *, size: int | None = None, channels: int | None = None
) -> np.ndarray:
    """Pictures `(n, height, width, 1 or 3)` of another size, or in grey or colours.

    Args:
      x: uint8.
      size, channels: see `decoded`.
    """
    same = size is None or x.shape[1:3] == (size, size)
    if same and channels in (None, x.shape[3]):
        return x
    if same and channels == 3:
        return np.broadcast_to(x, (*x.shape[:3], 3))
    of_array = (one[..., 0] if one.shape[2] == 1 else one for one in x)
    found = (_pixels(Image.fromarray(one), size, channels) for one in of_array)
    return np.stack(list(found))
