"""Gaussian naive Bayes is scikit-learn's."""

import pytest
from real_tables import TOLERANCE, largest_difference
from sklearn.naive_bayes import GaussianNB


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("table", "num_classes"), [("breast cancer", 2), ("wine", 4)])
@pytest.mark.parametrize("smoothing", [1e-5, 0.1])
def test_probabilities_are_those_of_scikit_learn(table, num_classes, smoothing, dtype):
    difference = largest_difference(
        "naive_bayes",
        table,
        {"smoothing": smoothing},
        GaussianNB(var_smoothing=smoothing),
        dtype,
        num_classes,
    )
    assert difference < TOLERANCE[dtype]
