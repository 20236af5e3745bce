"""Ridge regression is scikit-learn's."""

import pytest
from real_tables import TOLERANCE, largest_difference
from sklearn.linear_model import Ridge


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_predictions_are_those_of_scikit_learn(penalty, dtype):
    difference = largest_difference(
        "ridge", "diabetes", {"penalty": penalty}, Ridge(penalty), dtype
    )
    assert difference < TOLERANCE[dtype]
