"""Candidates' own settings as numbers, so that alike candidates are near each other."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

__all__ = ["encode_settings"]


def _unit(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], on a logarithmic scale if they span two orders; NaN kept."""
    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0 and high / low >= 100:
        values, low, high = np.log(values), np.log(low), np.log(high)
    return (values - low) / (high - low) if high > low else values * 0.0


def _columns(values: list[Any]) -> list[np.ndarray]:
    """One setting of every candidate; None where a candidate does not have it."""
    known = np.array([value is not None for value in values])
    columns = [known.astype(float)]  # Left out below where everybody has it.
    there = [value for value in values if value is not None]
    if all(isinstance(value, bool | int | float) for value in there):
        numbers = [np.nan if value is None else float(value) for value in values]
        return [*columns, np.nan_to_num(_unit(np.array(numbers)))] if there else []
    for level in sorted({str(value) for value in there}):
        same = [value is not None and str(value) == level for value in values]
        columns.append(np.array(same, float))
    return columns


def encode_settings(
    settings: pd.DataFrame,
) -> Float[np.ndarray, "candidates columns"]:
    """Settings as columns in [0, 1]: numbers scaled, anything else one-hot.

    A setting that a candidate does not have is 0 in all its columns; one that some
    candidates lack gets a column that says who has it. What never varies is left out.

    Args:
      settings: as `MetaDataset.settings`: plain values, None where unknown.
    """
    columns = [
        column for name in settings for column in _columns(settings[name].tolist())
    ]
    whole = np.stack(columns, axis=1) if columns else np.zeros((len(settings), 0))
    return whole[:, np.ptp(whole, axis=0) > 0] if whole.size else whole
