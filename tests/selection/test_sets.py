"""Portfolios that know the description, and are the plain one where it says nothing."""

import jax.numpy as jnp
import numpy as np

from jmeta.choose import greedy_portfolio
from jmeta.selection.sets import conditioned_portfolio


def test_without_a_prediction_it_is_the_plain_portfolio_of_the_training_tasks():
    costs = np.random.default_rng(0).random((50, 8)).astype(np.float32)
    train = np.arange(50) < 40
    mean = costs[train].mean(0)
    first = int(mean.argmin())
    found = conditioned_portfolio(
        jnp.asarray(mean),
        jnp.asarray(costs - mean),
        jnp.asarray(train),
        jnp.asarray(first),
        5,
    )
    plain = greedy_portfolio(jnp.asarray(costs[train]), 5, first)
    np.testing.assert_array_equal(found, plain)


def test_it_insures_against_failing_together():
    """Candidates 0 and 1 are as good as each other and fail on the same tasks."""
    errors = np.zeros((20, 3), np.float32)
    errors[:10, :2] = 1.0
    errors[10:, 2] = 1.0
    found = conditioned_portfolio(
        jnp.asarray([0.0, 0.01, 0.2]),
        jnp.asarray(errors),
        jnp.ones(20, bool),
        jnp.asarray(0),
        2,
    )
    assert found.tolist() == [0, 2]


def test_what_is_expected_to_be_hopeless_is_left_to_the_end():
    errors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    found = conditioned_portfolio(
        jnp.asarray([0.0, 50.0, 0.1, 0.2]),
        jnp.asarray(errors),
        jnp.ones(30, bool),
        jnp.asarray(0),
        4,
    )
    assert found.tolist()[-1] == 1
