"""Real tables that scikit-learn carries: no download, no path."""

from typing import Any

import pandas as pd

from jmeta.errors import InputError

__all__ = ["BUILTIN", "load"]

BUILTIN = ("breast_cancer", "diabetes", "iris", "wine")
"""The names that `load` knows; the first two are clinical."""


def load(name: str) -> tuple[pd.DataFrame, pd.Series, str]:
    """One of scikit-learn's bundled tables, in its original units.

    Args:
      name: "breast_cancer" (569 rows, malignant or benign), "diabetes" (442 rows,
        progression after a year as a number), "iris" or "wine".

    Returns:
      features; the target, classes by their names; and its kind, "classes" or
      "number".

    Raises:
      InputError: if there is no such table.
    """
    if name not in BUILTIN:
        raise InputError(f"there is no built-in table {name!r}; choose of {BUILTIN}.")
    from sklearn import datasets  # Takes seconds, and few callers need it.

    if name == "diabetes":
        bunch: Any = datasets.load_diabetes(as_frame=True, scaled=False)
        return bunch.data, bunch.target.rename("progression"), "number"
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    labels = bunch.target_names[bunch.target.to_numpy()]
    return bunch.data, pd.Series(labels.astype(object), name="class"), "classes"
