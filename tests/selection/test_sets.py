"""Portfolios that know the description, and are the plain one where it says nothing."""

import jax.numpy as jnp
import numpy as np

from jmeta.choose import greedy_portfolio
from jmeta.selection.inputs import Inputs
from jmeta.selection.sets import (
    TRUSTS,
    Trust,
    conditioned_portfolio,
    portfolio_of,
    settle_trust,
)


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


def fit(costs, x, families=None):
    """Inputs of one fit that has learnt from the first 60 tasks of 80."""
    num_tasks, candidates = costs.shape
    families = np.arange(num_tasks) if families is None else families
    return Inputs(
        x=jnp.asarray(x, jnp.float32),
        costs=jnp.asarray(costs[..., None], jnp.float32),
        base=jnp.zeros((candidates, 1)),
        spread=jnp.ones(1),
        train=jnp.arange(num_tasks) < 60,
        families=jnp.asarray(families, jnp.int32),
        members=jnp.arange(num_tasks)[:, None],
        gaps=jnp.zeros(0, int),
        settings=jnp.zeros((candidates, 0)),
        key=jnp.uint32(0),
    )


def settle(inputs, expected, costs, first):
    return settle_trust(
        inputs,
        jnp.asarray(expected, jnp.float32),
        jnp.asarray(costs - expected, jnp.float32),
        jnp.asarray(first, jnp.int32),
        3,
        0.0,
    )


def test_what_is_expected_is_believed_if_it_is_right_and_not_if_it_is_noise():
    rng = np.random.default_rng(0)
    costs = rng.random((80, 12)) + np.linspace(0, 2, 12)
    x = rng.random((80, 5))
    right = settle(fit(costs, x), costs, costs, np.zeros(80))
    wrong = settle(fit(costs, x), 5 * rng.random((80, 12)), costs, np.zeros(80))
    assert right.belief == max(TRUSTS)
    assert wrong.belief == min(TRUSTS)


def test_scale_is_the_median_gap_between_training_tasks():
    rng = np.random.default_rng(0)
    costs, x = rng.random((80, 4)), rng.random((80, 5)).astype(np.float32)
    found = settle(fit(costs, x), costs, costs, np.zeros(80)).scale
    gaps = np.abs(x[:60, None] - x[:60]).sum(-1)
    np.testing.assert_allclose(found, np.median(gaps[gaps > 0]), rtol=1e-5)


def test_descriptions_that_are_all_alike_give_equal_weights():
    costs = np.random.default_rng(0).random((80, 4))
    found = settle(fit(costs, np.zeros((80, 5))), costs, costs, np.zeros(80))
    assert np.isinf(found.scale)


def test_other_tasks_count_as_they_are_alike_and_never_the_own_family():
    costs = np.ones((80, 4), np.float32)
    costs[:30, 1], costs[30:60, 2] = 0.0, 0.0  # Near tasks need 1, far ones 2.
    costs[0, 3], costs[0, 1] = -50.0, 1.0  # A mate of the asked task's family.
    x = np.where(np.arange(80) < 30, 0.0, 1.0)[:, None]
    families = np.arange(80)
    families[70] = 0
    x[70] = 0.0
    inputs = fit(costs, x, families)
    made = portfolio_of(
        jnp.asarray(70),
        inputs,
        jnp.zeros((80, 4)),
        jnp.asarray(costs),
        jnp.abs(inputs.x - inputs.x[70]).sum(1),
        jnp.asarray(0),
        Trust(jnp.asarray(0.0), jnp.asarray(0.3)),
        2,
        -100.0,
    )
    assert made.tolist() == [0, 1]
