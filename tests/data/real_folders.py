"""Where the meta-datasets lie that nobody here wrote."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
"""Beside the repository, where it was checked out with its data."""


def real_folder(kind, name):
    """The folder of a real meta-dataset; skips the test where it is absent."""
    folder = ROOT / kind / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} in ../shared/data/{kind}")
    return folder
