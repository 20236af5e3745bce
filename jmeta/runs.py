"""Folders that commands write: a fitted model, and a run that can be resumed."""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jmeta.errors import InputError

__all__ = [
    "check_new_folder",
    "check_output",
    "check_output_file",
    "fresh",
    "start",
    "to_json",
    "whole_folder",
    "write_text",
    "writing",
]


def to_json(content: Any) -> str:
    """JSON text; numbers that are not finite, which JSON lacks, become null."""

    def plain(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {str(name): plain(value) for name, value in part.items()}
        if isinstance(part, list | tuple):
            return [plain(value) for value in part]
        if isinstance(part, float) and not abs(part) < float("inf"):
            return None
        return part

    return json.dumps(plain(content), indent=2, allow_nan=False)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence why `path` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: cannot be written: {reason}.") from error


def check_output(path: Path) -> None:
    """See that a file or folder can be made, before the work for it is done.

    Raises:
      InputError: if what is above it is no folder, or may not be written to.
    """
    near = path.absolute().parent
    while not os.path.exists(near) and near != near.parent:
        near = near.parent
    if not near.is_dir():
        raise InputError(f"{path}: cannot be written: {near} is not a folder.")
    if not os.access(near, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written: {near} is not yours to write in.")


def check_output_file(path: Path) -> None:
    """See that a file can be made, or replaced.

    Raises:
      InputError: as `check_output`, or if it is a folder.
    """
    check_output(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it.")


def check_new_folder(folder: Path) -> None:
    """See that a folder can be made, or is there and empty.

    Raises:
      InputError: if not; nothing is ever written among what is there.
    """
    check_output(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a new folder.")
    with writing(folder):
        if any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty; name a new folder.")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing.

    Raises:
      InputError: if it cannot be written.
    """
    from jmeta.publish import write_whole

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end, or nothing if that fails.

    Raises:
      InputError: if it cannot be written.
    """
    folder = folder.absolute()
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    with writing(folder):
        try:
            part.mkdir(parents=True)
            yield part
            if folder.is_dir():  # Filled, not replaced: somebody may stand in it.
                for file in part.iterdir():
                    file.replace(folder / file.name)
                part.rmdir()
            else:
                part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def fresh(folder: Path) -> Path:
    """The folder, or where it exists the first of FOLDER-2, FOLDER-3, ... that is new.

    Raises:
      InputError: if it has no name to number, as `.` and `/`.
    """
    number, chosen = 2, folder
    while os.path.lexists(chosen):
        if not folder.name:
            raise InputError(f"{folder}: is there already; name a new folder.")
        chosen, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return chosen


def start(out: Path, config: dict[str, Any], resume: bool) -> None:
    """Write a run's config, or check that it is the one that is resumed.

    Raises:
      InputError: if there is something else already, nothing to resume, or a run
        with other arguments, which are named.
    """
    path = out / "config.json"
    if not resume:
        check_new_folder(out)
        write_text(path, to_json(config) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{out}: holds no run to resume ({path.name} cannot be read); leave out "
            "--resume to begin one."
        ) from error
    found = found if isinstance(found, dict) else {}
    names = sorted({*config, *found})
    changed = [name for name in names if found.get(name) != config.get(name)]
    if changed:
        told = ", ".join(f"{name} was {found.get(name)!r}" for name in changed)
        raise InputError(
            f"{out}: was started with other arguments: {told}; use the same ones, or "
            "another --out."
        )
