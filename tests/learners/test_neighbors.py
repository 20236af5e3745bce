"""Nearest neighbours: scikit-learn's, and how ties and small supports are counted."""

import jax.numpy as jnp
import numpy as np
import pytest
from real_tables import TOLERANCE, largest_difference
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from jmeta.learners.neighbors import nearest, neighbor_weights

WEIGHTINGS = ["uniform", "distance"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("table", "num_classes"), [("breast cancer", 2), ("wine", 4)])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("neighbors", [1, 7, 64])
def test_without_smoothing_probabilities_are_those_of_scikit_learn(
    table, num_classes, weighting, neighbors, dtype
):
    difference = largest_difference(
        "knn",
        table,
        {
            "neighbors": neighbors,
            "weighting": WEIGHTINGS.index(weighting),
            "smoothing": 1e-9,
        },
        # A tree: brute force does not find distances of zero to be zero.
        KNeighborsClassifier(neighbors, weights=weighting, algorithm="ball_tree"),
        dtype,
        num_classes,
    )
    assert difference < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_means_are_those_of_scikit_learn(weighting, dtype):
    difference = largest_difference(
        "knn_regressor",
        "diabetes",
        {"neighbors": 9, "weighting": WEIGHTINGS.index(weighting)},
        KNeighborsRegressor(9, weights=weighting, algorithm="ball_tree"),
        dtype,
    )
    assert difference < TOLERANCE[dtype]


def test_rows_tied_at_the_last_place_share_it():
    squared = jnp.asarray([[4.0, 1.0, 9.0, 4.0, 0.0, 4.0]])
    mask = jnp.asarray([True, True, True, True, False, True])
    # One nearer, three tied for the two places left; the nearest is padding.
    expected = [[2 / 3, 1.0, 0.0, 2 / 3, 0.0, 2 / 3]]
    np.testing.assert_allclose(
        nearest(squared, mask, jnp.asarray(3.0)), expected, rtol=1e-6
    )


def test_no_more_neighbours_than_rows_are_counted():
    squared = jnp.asarray([[4.0, 1.0, jnp.nan, 3.0]])
    mask = jnp.asarray([True, True, False, True])
    settings = {"neighbors": jnp.asarray(10.0), "weighting": jnp.asarray(0.0)}
    np.testing.assert_array_equal(
        neighbor_weights(squared, mask, settings), [[1.0, 1.0, 0.0, 1.0]]
    )


def test_a_row_that_coincides_takes_all_the_weight():
    squared = jnp.asarray([[4.0, 0.0, 9.0]])
    settings = {"neighbors": jnp.asarray(2.0), "weighting": jnp.asarray(1.0)}
    np.testing.assert_array_equal(
        neighbor_weights(squared, jnp.ones(3, bool), settings), [[0.0, 2.0, 0.0]]
    )


def test_long_rows_are_counted_like_short_ones():
    rng = np.random.default_rng(0)
    squared = rng.uniform(size=(3, 1300)).astype(np.float32)
    found = nearest(jnp.asarray(squared), jnp.ones(1300, bool), jnp.asarray(700.0))
    ranks = np.argsort(np.argsort(squared, axis=1), axis=1)
    np.testing.assert_array_equal(found, (ranks < 700).astype(np.float32))
