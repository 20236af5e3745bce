"""Tasks on images: zips and folders of pictures, MedMNIST's archives, NumPy arrays.

A task is what classes are drawn from together: an alphabet of Omniglot, a folder of
classes, all classes of an archive.

Sources: Omniglot, Lake et al., 2015, https://doi.org/10.1126/science.aab3050;
MedMNIST, Yang et al., 2023, https://doi.org/10.1038/s41597-022-01721-8.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jmeta.data.arrays import array_names, read_arrays
from jmeta.data.collection import Collection
from jmeta.data.pictures import (
    MOST_BYTES,
    SUFFIXES,
    File,
    decoded,
    files_below,
    resized,
)
from jmeta.errors import InputError

__all__ = ["collection_of", "joined", "read_images"]

_SPLITS = ("train", "val", "test")
_CLASS_NAMES = ("class_names", "label_names")


def read_images(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    channels: int | None = None,
    split: str | None = None,
) -> Collection:
    """Read a collection of images; what kind it is is seen from the path.

    A folder, or a zip of one, holds CLASS/picture, or GROUP/CLASS/picture where classes
    are drawn from one group at a time, as from one alphabet. Files that are not named
    like pictures are passed over. An `.npz` holds `images` and `labels`, or those of
    MedMNIST's splits, and possibly `class_names`.

    Args:
      path: of a folder, a `.zip` or an `.npz`.
      size: to which height and width are brought; None for as they are, which must be
        one size for all, and 28 for Omniglot.
      channels: 1 for grey, 3 for colours; None for as they are.
      split: of MedMNIST, "train", "val" or "test", or a folder in the folder; None for
        all.

    Raises:
      InputError: if a file is missing, cut short, too large or something else, or
        images have several labels each.
      ValueError: if `size` is below 1, or `channels` neither 1 nor 3.
    """
    if (size is not None and size < 1) or channels not in (None, 1, 3):
        raise ValueError(
            "read_images: needs a size of at least 1, and 1 or 3 channels, got "
            f"{size} and {channels}."
        )
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return _of_arrays(path, size, channels, split)
    if split is not None:
        if not (path / split).is_dir():
            raise InputError(f"{str(path)!r} has no folder {split!r} to read.")
        path = path / split
    elif not path.is_dir() and path.suffix.lower() != ".zip":
        raise InputError(
            f"{str(path)!r} is no source of images; it must be a folder, a .zip or an "
            ".npz."
        )
    with files_below(path) as files:
        return _of_pictures(path, _placed(path, files), size, channels)


def collection_of(
    x: np.ndarray,
    y: np.ndarray | Sequence[str] | Sequence[int],
    *,
    classes: Sequence[str] | None = None,
    groups: np.ndarray | Sequence[str] | None = None,
    name: str = "images",
) -> Collection:
    """Images and their classes, as arrays. `x` is not copied, and may lie on the disk.

    Args:
      x: uint8, `(n, height, width)` or `(n, height, width, 1 or 3)`.
      y: `(n,)`, the class of each: a text, or an integer.
      classes: names of the classes 0, 1, ... of which `y` speaks; None for those that
        are found in it, in order.
      groups: `(n,)`, which task each image belongs to; None for one task.
      name: of that task.

    Raises:
      ValueError: if shapes, types or classes do not fit.
    """
    y = np.asarray(y)
    x = x[..., None] if x.ndim == 3 else x
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in (1, 3) or not x.size:
        raise ValueError(
            "collection_of: images must be uint8 (n, height, width) or (n, height, "
            f"width, 1 or 3), got {x.dtype} {x.shape}."
        )
    if y.shape != (len(x),) or y.dtype.kind not in "iuU":
        raise ValueError(
            "collection_of: classes must be integers or texts, one for each of "
            f"{len(x)} images, got {y.dtype} {y.shape}."
        )
    if classes is None:
        found, label = np.unique(y, return_inverse=True)
        classes = [str(one) for one in found]
    else:
        label = y
        if y.dtype.kind == "U" or not 0 <= y.min() <= y.max() < len(classes):
            raise ValueError(
                f"collection_of: classes must be in [0, {len(classes)}), got {y.min()} "
                f"to {y.max()}."
            )
    label = label.astype(np.int32)
    names = np.array([name])
    order, counts, each = np.arange(len(x)), np.array([len(x)]), (tuple(classes),)
    if groups is not None:
        names, of_row, counts = np.unique(
            np.asarray(groups), return_inverse=True, return_counts=True
        )
        order = np.argsort(of_row, kind="stable")
        label, each = _within(label[order], counts, classes)
    return Collection(
        form="image",
        x=x,
        tasks=names,
        family=names,
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        rows=order.astype(np.int32),
        label=label,
        value=np.full(len(x), np.nan, np.float32),
        classes=each,
    )


def _within(
    label: np.ndarray, counts: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """Labels that begin at 0 in each task, and the classes that each holds."""
    labels, each = [], []
    for part in np.split(label, np.cumsum(counts)[:-1]):
        found, places = np.unique(part, return_inverse=True)
        labels.append(places.astype(np.int32))
        each.append(tuple(classes[one] for one in found))
    return np.concatenate(labels), tuple(each)


def joined(collections: Sequence[Collection]) -> Collection:
    """The tasks of several collections of one form and shape.

    Raises:
      ValueError: if rows differ in form or shape.
    """
    shapes = {(one.form, one.x.shape[1:]) for one in collections}
    if len(shapes) != 1:
        raise ValueError(
            "joined: all rows must be of one form and shape, got "
            f"{sorted(map(str, shapes))}; read them with one size and one number of "
            "channels."
        )
    rows = np.cumsum([0] + [len(one.x) for one in collections])
    entries = np.cumsum([0] + [len(one.rows) for one in collections])

    def both(field: str) -> np.ndarray:
        return np.concatenate([getattr(one, field) for one in collections])

    shifted = [one.rows + first for one, first in zip(collections, rows)]
    offsets = [one.offset[:-1] + first for one, first in zip(collections, entries)]
    return Collection(
        form=collections[0].form,
        x=both("x"),
        tasks=both("tasks"),
        family=both("family"),
        offset=np.concatenate([*offsets, entries[-1:]]),
        rows=np.concatenate(shifted).astype(np.int32),
        label=both("label"),
        value=both("value"),
        classes=sum((one.classes for one in collections), start=()),
    )


def _placed(path: Path, files: list[File]) -> list[File]:
    """The pictures among the files, as CLASS/picture or GROUP/CLASS/picture."""
    what = repr(str(path))
    files = [file for file in files if file.parts[-1].lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(f"{what} holds no pictures ({', '.join(SUFFIXES)}).")
    # A zip of a folder begins all its paths with the folder.
    while len({file.parts[0] for file in files}) == 1 and all(
        len(file.parts) > 2 for file in files
    ):
        files = [file._replace(parts=file.parts[1:]) for file in files]
    depth = len(files[0].parts)
    for file in files:
        if len(file.parts) not in (2, 3) or len(file.parts) != depth:
            raise InputError(
                f"{what} must hold CLASS/picture or GROUP/CLASS/picture throughout, "
                f"unlike {file.name}."
            )
    return files


def _of_pictures(
    path: Path, files: list[File], size: int | None, channels: int | None
) -> Collection:
    found: list[np.ndarray] = []
    left = MOST_BYTES
    for file in files:
        pixels = decoded(file.name, file.read(), size=size, channels=channels)
        if found and pixels.shape[:2] != found[0].shape[:2]:
            raise InputError(
                f"{file.name} is {pixels.shape[1]} by {pixels.shape[0]} pixels and "
                f"{files[0].name} {found[0].shape[1]} by {found[0].shape[0]}; say to "
                "which size to bring them."
            )
        left -= pixels.nbytes
        if left < 0:
            raise InputError(
                f"{str(path)!r} holds more than {MOST_BYTES} bytes of pixels; say to "
                "which size to bring them."
            )
        found.append(pixels)
    most = max(pixels.shape[2] for pixels in found)
    shape = (*found[0].shape[:2], most)
    x = np.stack([np.broadcast_to(pixels, shape) for pixels in found])
    grouped = len(files[0].parts) == 3
    return collection_of(
        x,
        np.array([file.parts[-2] for file in files]),
        groups=np.array([file.parts[0] for file in files]) if grouped else None,
        name=path.stem,
    )


def _of_arrays(
    path: Path, size: int | None, channels: int | None, split: str | None
) -> Collection:
    what = repr(str(path))
    names = array_names(path)
    prefixes = [f"{one}_" for one in _SPLITS if f"{one}_images" in names]
    if "images" in names:
        prefixes = [""]
    if not prefixes:
        raise InputError(
            f"{what} holds neither images nor those of MedMNIST's splits, but "
            f"{', '.join(names) or 'nothing'}."
        )
    if split is not None and f"{split}_" not in prefixes:
        raise InputError(f"{what} has no split {split!r}.")
    # Labels of all splits are read, so that a class has one number in all of them.
    read = prefixes if split is None else [f"{split}_"]
    wanted = [f"{one}images" for one in read] + [f"{one}labels" for one in prefixes]
    wanted += [name for name in _CLASS_NAMES if name in names]
    arrays = read_arrays(path, wanted, most_bytes=MOST_BYTES)
    labels = {one: _labels(arrays[f"{one}labels"], what) for one in prefixes}
    x = [_plain(arrays[f"{one}images"], len(labels[one]), what) for one in read]
    if len({one.shape[1:] for one in x}) > 1:
        raise InputError(f"{what}: the images of its splits differ in shape.")
    most = max(int(one.max(initial=0)) for one in labels.values()) + 1
    classes = [str(number) for number in range(most)]
    for name in _CLASS_NAMES:
        if name in arrays:
            classes = [str(one) for one in arrays[name].ravel()]
    if most > len(classes):
        raise InputError(
            f"{what} names {len(classes)} classes, but has labels up to {most - 1}."
        )
    return collection_of(
        resized(
            x[0] if len(x) == 1 else np.concatenate(x), size=size, channels=channels
        ),
        np.concatenate([labels[one] for one in read]),
        classes=classes,
        name=path.stem,
    )


def _labels(labels: np.ndarray, what: str) -> np.ndarray:
    """One integer for each image."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # As MedMNIST stores them.
    if labels.ndim == 2:
        raise InputError(
            f"{what} has {labels.shape[1]} labels for each image; images of several "
            "classes at once are not read. Keep one column, as a file of its own."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise InputError(f"{what}: labels must be integers from 0, one for each image.")
    return labels.astype(np.int64)


def _plain(images: np.ndarray, count: int, what: str) -> np.ndarray:
    """`(n, height, width, 1 or 3)`, one for each label."""
    if images.ndim == 3:
        images = images[..., None]
    flat = images.ndim == 4 and images.shape[3] in (1, 3)
    if images.dtype != np.uint8 or not flat or not images.size:
        raise InputError(
            f"{what} has images of type {images.dtype} and shape {images.shape}; read "
            "are uint8 of (n, height, width) or (n, height, width, 1 or 3)."
        )
    if len(images) != count:
        raise InputError(f"{what} has {len(images)} images, but {count} labels.")
    return images
