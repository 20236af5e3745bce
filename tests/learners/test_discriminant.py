"""Discriminant analysis: scikit-learn's, and the limits of its regularisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from real_tables import KEY, TOLERANCE, largest_difference, padded, real_table
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)

from jmeta import learners


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("table", "num_classes"), [("breast cancer", 2), ("wine", 4)])
@pytest.mark.parametrize("shrinkage", [0.1, 0.7])
def test_lda_is_that_of_scikit_learn(table, num_classes, shrinkage, dtype):
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    settings = {"shrinkage": shrinkage}
    difference = largest_difference(
        "lda", table, settings, reference, dtype, num_classes
    )
    assert difference < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("table", "num_classes"), [("breast cancer", 2), ("wine", 4)])
@pytest.mark.parametrize("shrinkage", [0.1, 0.7])
def test_qda_is_that_of_scikit_learn(table, num_classes, shrinkage, dtype):
    reference = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage)
    settings = {"shrinkage": shrinkage, "pooling": 0.0}
    difference = largest_difference(
        "qda", table, settings, reference, dtype, num_classes
    )
    assert difference < TOLERANCE[dtype]


def test_full_pooling_makes_quadratic_analysis_linear():
    x, y = real_table("wine")
    support = padded(x, y, "float32")
    query = jnp.where(support.mask[:, None], support.x, 0.0)
    settings = {"shrinkage": jnp.asarray(0.2), "pooling": jnp.asarray(1.0)}
    linear, quadratic = (
        jax.nn.softmax(learner.predict(learner.fit(KEY, settings, support), query))
        for learner in (learners.get("lda", 4), learners.get("qda", 4))
    )
    np.testing.assert_allclose(linear, quadratic, atol=1e-4)
