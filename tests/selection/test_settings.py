"""Settings as numbers."""

import numpy as np
import pandas as pd

from jmeta.selection.settings import encode_settings


def test_numbers_are_scaled_words_are_one_hot_and_absence_is_told():
    frame = pd.DataFrame(
        {
            "rate": [0.01, 0.1, 1.0],
            "depth": [1, 2, 5],
            "kernel": ["rbf", None, "poly"],
            "degree": [None, None, 3],
            "flag": [True, False, True],
            "same": [1, 1, 1],
            "never": [None, None, None],
        },
        dtype=object,
    )
    expected = [
        [0.0, 0.5, 1.0],  # Two orders of magnitude: logarithmic.
        [0.0, 0.25, 1.0],
        [1, 0, 1],  # Who has a kernel,
        [0, 0, 1],  # poly,
        [1, 0, 0],  # rbf.
        [0, 0, 1],  # Who has a degree; it does not vary.
        [1, 0, 1],
    ]
    np.testing.assert_allclose(encode_settings(frame).T, expected)


def test_settings_that_never_vary_have_no_columns():
    assert encode_settings(pd.DataFrame({"a": [1, 1]}, dtype=object)).shape == (2, 0)
    assert encode_settings(pd.DataFrame(index=range(3))).shape == (3, 0)
