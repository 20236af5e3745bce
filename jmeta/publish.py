"""Published parameters: one safetensors file, with what belongs to them inside."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jmeta.errors import InputError

__all__ = ["MODEL_VERSION", "first_line", "load_model", "save_model", "write_whole"]

MODEL_FORMAT, MODEL_VERSION = "jmeta", 1
"""What a published file says it is; another version is refused by name."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut to a length that fits a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat = {}
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name or not name:
            raise ValueError(f"save_model: {name!r} cannot name parameters.")
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}/")
        else:
            # Contiguous: safetensors writes the buffer as it lies in memory.
            flat[prefix + name] = np.asarray(value, order="C")
    return flat


def _unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree


def save_model(
    path: str | os.PathLike[str], params: Mapping[str, Any], header: Mapping[str, Any]
) -> None:
    """Publish parameters and what belongs to them as one file, atomically.

    Args:
      path: a `.safetensors` file; replaced if it exists.
      params: nested dicts of arrays; names without `/`.
      header: what JSON can hold: schema, candidates, provenance, ...

    Raises:
      ValueError: if a name in `params` is not a string without `/`.
      TypeError: if JSON cannot hold the header.
    """
    from safetensors.numpy import save

    path = Path(path)
    text = json.dumps(dict(header), sort_keys=True, allow_nan=False)
    data = save(
        _flatten(params),
        metadata={
            "format": MODEL_FORMAT,
            "version": str(MODEL_VERSION),
            "header": text,
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def load_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_model` wrote: nested dicts of NumPy arrays, and the header.

    Raises:
      InputError: if there is no such file, it is damaged, something else, or of
        another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            if metadata.get("format") != MODEL_FORMAT:
                raise InputError(f"model {path} was not written by jmeta")
            if metadata.get("version") != str(MODEL_VERSION):
                raise InputError(
                    f"model {path} has version {metadata.get('version')}, but this "
                    f"jmeta reads version {MODEL_VERSION}; train or download it again"
                )
            header = json.loads(metadata["header"])
            flat = {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise InputError(
            f"model {path} cannot be opened: {error.strerror or first_line(error)}"
        ) from error
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"model {path} is damaged, or no safetensors file ({first_line(error)})"
        ) from error
    return _unflatten(flat), header
